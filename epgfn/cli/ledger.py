"""`epgfn ledger`: what is signed of a round's ledger, held against one another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from epgfn.base.console import say

app = typer.Typer(
    name="ledger",
    help="What is signed of a round's ledger: compare it, add nodes' cosignatures.",
    no_args_is_help=True,
)


@app.command()
def compare(
    one: Annotated[Path, typer.Argument(metavar="A", help="A run directory, a checkpoint or a receipt.")],
    other: Annotated[Path, typer.Argument(metavar="B", help="The same of somebody else.")],
    ledger_key: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The ledger's key (ledger.vkey), where neither A nor B is a run directory that you trust.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for programs.")] = False,
) -> None:
    """Whether one ledger is the beginning of the other. If not, it was rewritten: a fork, shown with both signed heads.

    Exit code 0 if they belong together, 1 if they are a fork or it cannot be told.

    Example: epgfn ledger compare runs/ours north/last-checkpoint
    """
    from epgfn.run.heads import ForkError, compare, read_head, read_key

    key = None if ledger_key is None else read_key(ledger_key)
    if key is None:
        key = next((read_head(path).verifier for path in (one, other) if path.is_dir()), None)
    heads = [read_head(path, None if path.is_dir() and ledger_key is None else key) for path in (one, other)]
    try:
        said = compare(*heads)
    except ForkError as error:
        say(
            json.dumps({"ok": False, "message": str(error), "heads": error.evidence})
            if as_json
            else "\n".join(error.evidence)
        )
        raise
    say(json.dumps({"ok": True, "message": said}) if as_json else said)


@app.command()
def add(
    run_dir: Annotated[Path, typer.Argument(help="The run directory.")],
    files: Annotated[list[Path], typer.Argument(help="What `epgfn-node cosign` has written.")],
) -> None:
    """Put nodes' cosignatures into a run directory, each once it is checked against its ledger.

    Example: epgfn ledger add runs/study north.cosignature.json south.cosignature.json
    """
    from epgfn.run.cosigning import add_cosignatures
    from epgfn.run.participant import run_directory

    say(f"cosigned by {', '.join(add_cosignatures(run_directory(run_dir), files))}")
