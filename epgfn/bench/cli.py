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


@app.command()
def aggregate(
    only: Annotated[
        list[str] | None, typer.Option(help="An instance; repeat for more (default: all).")
    ] = None,
    nodes: Annotated[int | None, typer.Option(help="Nodes (default: each instance's own number).")] = None,
    seeds: Annotated[int, typer.Option(help="Federations to train on each instance.", min=1)] = 3,
    budget: Annotated[float, typer.Option(help="CPU-seconds that one model may train.")] = 300.0,
    baselines: Annotated[
        bool, typer.Option("--baselines", help="Also what others do with the same work.")
    ] = False,
    split: Annotated[str, typer.Option(help="How data are dealt to nodes: even or skewed.")] = "even",
    undertrained: Annotated[int, typer.Option(help="Clients that take only 5 % of their steps.", min=0)] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for programs.")] = False,
) -> None:
    """Distance of the global model from the exact product of all nodes' rewards, next to that of the product of its local models.

    Example: epgfn bench aggregate --only multiset-10x8 --nodes 5 --seeds 3 --baselines
    """
    from epgfn.bench.aggregate import Setting, shown
    from epgfn.bench.aggregate import aggregate as measure

    setting = Setting(nodes, seeds, budget, baselines, split, undertrained)

    def told(row: dict[str, Any]) -> None:
        if not as_json:
            print(shown(row), flush=True)

    rows = measure(only or (), setting, told=told)
    if as_json:
        print(json.dumps({"rows": rows}))
