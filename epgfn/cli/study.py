"""`epgfn study`: a first study file from a table, and what is wrong with one, all at once."""

from __future__ import annotations

import json
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from epgfn.base.console import say
from epgfn.base.errors import EpgfnError, UsageError
from epgfn.base.files import read_bytes, write_atomic

if TYPE_CHECKING:
    from epgfn.study import Study

T = TypeVar("T")
app = typer.Typer(
    name="study",
    help="Study files: draft one, check one, see what it knows.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


class About(StrEnum):
    """What the variables of a study of graphs are."""

    numbers = "numbers"
    categories = "categories"
    both = "both"


@app.callback()
def study() -> None:
    """Study files: draft one, check one."""


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
    from epgfn.study.study import MAX_STUDY_BYTES

    found = check_study(read_bytes(path, "study file", MAX_STUDY_BYTES))
    said = [str(mistake) for mistake in found.mistakes]
    if found.study is not None:
        said += _impossible(found.study)
    if as_json:
        digest = found.study.digest if found.study is not None and not said else None
        say(json.dumps({"ok": not said, "digest": digest, "mistakes": said, "all_found": found.all_found}))
    elif not said and found.study is not None:
        _describe(found.study)
    else:
        for text in said:
            say(f"- {text}")
        if more := advice(found.mistakes):
            say(f"\n{more}")
        if not found.all_found:
            say("\nWhat fits together could not be looked at before these are corrected.")
    if said:
        raise EpgfnError(
            f"{path} has {len(said)} mistake{'s' if len(said) > 1 else ''}; correct {'them' if len(said) > 1 else 'it'} and check again"
        )


@app.command()
def draft(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Tables, CSV or Parquet; made-up ones will do.")
    ],
    out: Annotated[Path, typer.Option(help="The study file to make.")] = Path("study.toml"),
    name: Annotated[str, typer.Option(help="Name of the study.")] = "my study",
    ranges: Annotated[
        list[str] | None,
        typer.Option(
            "--range",
            metavar="NAME=LOW:HIGH",
            help="Public range of a column's usual values; repeat for more.",
        ),
    ] = None,
    categories: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=A,B,...", help="All categories that may occur in a column; repeat for more."
        ),
    ] = None,
    about: Annotated[About | None, typer.Option(help="Which columns to take (default: both).")] = None,
    from_my_data: Annotated[
        bool,
        typer.Option(
            "--from-my-data",
            help="Take scales and categories from the records. Whoever reads the study then reads the mean and spread of every column.",
        ),
    ] = False,
) -> None:
    """Write a first study file from the columns of a table: names, numbers or categories, transforms.

    Scales are public: give usual ranges with --range, or fill in what is marked "?". Nothing is taken from the records unless you ask.

    Example: epgfn study draft north.csv --out study.toml --range LDL=40:250 --range age=20:90
    """
    from epgfn.study.draft import GIVES_AWAY, Public, draft_study
    from epgfn.study.records.columns import called

    if out.exists():
        raise UsageError(f"{out} exists; choose another file with --out")
    public = Public(
        _once("--range", map(_range, ranges or [])), _once("--categories", map(_list, categories or []))
    )
    made = draft_study(
        files, name, public, from_my_data=from_my_data, about=None if about is None else about.value
    )
    write_atomic(out, made.text.encode("utf-8"))
    say(f"{out}: {len(made.variables)} variables")
    for column, why in made.left_out:
        say(f"left out: {called(column)} ({why})")
    if from_my_data:
        say(f"FROM YOUR DATA: {GIVES_AWAY}.")
    for note in made.notes:
        say(f"note: {note}")
    if made.open:
        say(f'to be filled in, where it says "?": {", ".join(made.open)}')
    say(f"next: epgfn study check {out}")


@app.command()
def knowledge(
    path: Annotated[Path, typer.Argument(metavar="STUDY", help="The study file, of graphs.")],
    whitelist: Annotated[
        Path | None, typer.Option(help="CSV of required edges, columns from and to, as bnlearn has it.")
    ] = None,
    blacklist: Annotated[Path | None, typer.Option(help="The same of forbidden edges.")] = None,
    to_whitelist: Annotated[
        Path | None, typer.Option(help="Write what the study requires to this CSV.")
    ] = None,
    to_blacklist: Annotated[
        Path | None,
        typer.Option(help="Write what the study rules out to this CSV, tiers and all else spelt out."),
    ] = None,
) -> None:
    """Say which edges a study requires and rules out; turn bnlearn's lists into its prior, or write such lists.

    With lists to read, the table prior that says the same is printed, to be put into the study file; the file itself is not changed.

    Example: epgfn study knowledge study.toml --whitelist white.csv --blacklist black.csv
    """
    from epgfn.study import Study
    from epgfn.study.knowledge import in_words
    from epgfn.study.knowledge_files import (
        forbidden_edges,
        in_toml,
        prior_of_lists,
        read_edges,
        required_edges,
        write_edges,
    )

    found = Study.load(path)
    if not found.kind.takes_knowledge:
        raise UsageError(f"{path} is not about graphs; only their edges can be required or ruled out")
    given = [read_edges(one) if one is not None else [] for one in (whitelist, blacklist)]
    for target, edges in ((to_whitelist, required_edges(found)), (to_blacklist, forbidden_edges(found))):
        if target is not None:
            write_edges(target, edges)
            say(f"{target}: {len(edges)} edge{'' if len(edges) == 1 else 's'}")
    if whitelist is not None or blacklist is not None:
        say(in_toml(prior_of_lists(found.variable_names, *given)), end="")
    elif to_whitelist is None and to_blacklist is None:
        say(in_words(found) or "nothing is required or ruled out")
        for word, edges in (("required", required_edges(found)), ("ruled out", forbidden_edges(found))):
            for tail, head in edges:
                say(f"{word}: {tail} -> {head}")


def _once(option: str, pairs: Iterable[tuple[str, T]]) -> dict[str, T]:
    """Raises:
    UsageError: a column is named twice.
    """
    found: dict[str, T] = {}
    for name, value in pairs:
        if name in found:
            raise UsageError(f"{option} is given twice for '{name}'; give each column once")
        found[name] = value
    return found


def _range(said: str) -> tuple[str, tuple[float, float]]:
    """NAME=LOW:HIGH"""
    name, _, ends = said.rpartition("=")
    low, _, high = ends.partition(":")
    try:
        return name.strip(), (float(low), float(high))
    except ValueError:
        raise UsageError(f"--range {said!r}: write NAME=LOW:HIGH, as in LDL=40:250") from None


def _list(said: str) -> tuple[str, list[str]]:
    """NAME=A,B"""
    name, _, values = said.rpartition("=")
    listed = [value.strip() for value in values.split(",") if value.strip()]
    if not name or len(listed) < 2:
        raise UsageError(f"--categories {said!r}: write NAME=A,B,... with two at least, as in smoker=no,yes")
    return name.strip(), listed


def _impossible(study: Study) -> list[str]:
    """What nobody could train, for want of memory or sense."""
    from epgfn.learn.policy import require_possible

    try:
        require_possible(study)
    except UsageError as error:
        return [str(error)]
    return []


def _places(study: Study) -> str:
    return f", and up to {len(study.added)} to be added: {', '.join(study.added)}" if study.added else ""


def _designed(study: Study) -> str:
    from epgfn.study.design import in_words
    from epgfn.study.lacks import in_words as lacks
    from epgfn.study.missing import in_words as blanks

    said = (("Design", in_words(study)), ("Blanks", blanks(study)), ("Lacks", lacks(study)))
    return "".join(f"{name:<11}{what}\n" for name, what in said if what)


def _describe(study: Study) -> None:
    from epgfn.learn.policy import model_weight
    from epgfn.study.knowledge import prior_in_words
    from epgfn.study.parameters import privacy_in_words

    kind = study.kind
    say(
        f"{study.name}: no mistakes\n"
        f"Digest     {study.digest}\n"
        f"About      {kind.in_words(study)}\n"
        f"Target     {study.target_kind.words}\n"
        f"Prior      {prior_in_words(study, kind.noun)}\n"
        f"{_designed(study)}"
        f"Variables  {', '.join(study.variable_names)}\n"
        f"Nodes      {', '.join(study.named)}{_places(study)}\n"
        f"Model      {model_weight(study)}\n"
        f"Privacy    {privacy_in_words(study)}"
    )
    from epgfn.study.exposure import exposure_of
    from epgfn.study.lacks import notes_of as notes_of_lacks

    for note in filter(
        None,
        (
            study.foreign,
            study.notice,
            study.resemblance,
            exposure_of(study),
            study.disclosure,
            study.caution,
            study.one_way,
            *notes_of_lacks(study),
        ),
    ):
        say(f"Note       {note}.")
