"""`epgfn bench`: the commands."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

app = typer.Typer(
    name="bench",
    help="Measure the GFlowNet core against exact answers.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.callback()
def bench() -> None:
    """Measure the GFlowNet core against exact answers."""


@app.command()
def accuracy(
    only: Annotated[
        list[str] | None, typer.Option(help="An instance; repeat for more (default: all).")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Models to train on each instance.", min=1)] = 3,
    budget: Annotated[float, typer.Option(help="CPU-seconds that one model may train.")] = 180.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for programs.")] = False,
) -> None:
    """Exact L1 distance (sum of |p_T - p|, never halved) of trained models from their targets, next to the paper's.

    Example: epgfn bench accuracy --only grid-2x12 --seeds 3
    """
    from epgfn.bench.accuracy import accuracy as measure

    def told(row: dict[str, Any]) -> None:
        if as_json:
            return
        figures = [key.removesuffix("_median") for key in row if key.endswith("_median")]
        spread = "  ".join(
            f"{key} {row[f'{key}_median']:.4f} ({row[f'{key}_min']:.4f} to {row[f'{key}_max']:.4f})"
            for key in figures
            if row[f"{key}_median"] is not None
        )
        print(
            f"{row['instance']:<16} {row['objective']:<18} {spread}  {row['seeds']} seeds  "
            f"{row['cpu_s']:.0f} CPU-s  paper {row['paper'] or '-'}",
            flush=True,
        )

    rows = measure(only or (), seeds=seeds, budget=budget, told=told)
    if as_json:
        print(json.dumps({"rows": rows}))
