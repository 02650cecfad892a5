"""`epgfn study`: what is wrong with a study file, all at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from epgfn.base.errors import EpgfnError, UsageError
from epgfn.base.files import read_bytes

if TYPE_CHECKING:
    from epgfn.study import Study

app = typer.Typer(
    name="study",
    help="Study files: check one.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.callback()
def study() -> None:
    """Study files: check one."""


@app.command()
def check(
    path: Annotated[Path, typer.Argument(metavar="STUDY", help="The study file.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for programs.")] = False,
) -> None:
    """List all mistakes of a study file at once, by the names of its variables. Nobody's records are read.

    Exit code 0 if there is none, 1 if there are any.

    Example: epgfn study check study.toml
    """
    from epgfn.study.check import advice, check_study

    found = check_study(read_bytes(path, "study file"))
    said = [str(mistake) for mistake in found.mistakes]
    if found.study is not None:
        said += _impossible(found.study)
    if as_json:
        digest = found.study.digest if found.study is not None and not said else None
        print(json.dumps({"ok": not said, "digest": digest, "mistakes": said, "all_found": found.all_found}))
    elif not said and found.study is not None:
        _describe(found.study)
    else:
        for text in said:
            print(f"- {text}")
        if more := advice(found.mistakes):
            print(f"\n{more}")
        if not found.all_found:
            print("\nWhat fits together could not be looked at before these are corrected.")
    if said:
        raise EpgfnError(
            f"{path} has {len(said)} mistake{'s' if len(said) > 1 else ''}; correct {'them' if len(said) > 1 else 'it'} and check again"
        )


def _impossible(study: Study) -> list[str]:
    """What nobody could train, for want of memory or sense."""
    from epgfn.learn.policy import require_possible

    try:
        require_possible(study)
    except UsageError as error:
        return [str(error)]
    return []


def _describe(study: Study) -> None:
    kind = study.kind
    print(
        f"{study.name}: no mistakes\n"
        f"Digest     {study.digest}\n"
        f"About      {kind.in_words(study)}\n"
        f"Target     {study.target_kind.words}\n"
        f"Variables  {', '.join(study.variable_names)}\n"
        f"Nodes      {', '.join(study.roster)}\n"
        f"Privacy    {study.privacy.in_words(study.unit)}"
    )
    for note in filter(None, (study.foreign, study.notice, study.disclosure, study.caution)):
        print(f"Note       {note}.")
