"""Further global models of a round that takes late ones: what each adds to the one before. The page itself is about the first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from epgfn.base.errors import EpgfnError
from epgfn.base.files import read_bytes
from epgfn.run.layout import SUMMARY, RunLayout
from epgfn.run.report.html import Markup, paragraph, section, table
from epgfn.run.report.text import number
from epgfn.run.report.words import Words


class Later(NamedTuple):
    """A further global model: its number, ledger index, nodes, and how far it is from the one before; or `problem`."""

    number: int
    entry: int
    nodes: tuple[str, ...] = ()
    mean: float | None = None
    largest: float | None = None
    problem: str = ""


def read_later(run_dir: Path, indices: list[int]) -> list[Later]:
    """The models that the ledger's second and later `global` entries, at `indices`, name."""
    return [_read(run_dir, number, index) for number, index in enumerate(indices, start=2)]


def later_models(models: list[Later], words: Words) -> Markup:
    """One row a model."""
    rows = [
        (
            f"aggregates/{model.number}",
            str(model.entry),
            model.problem or ", ".join(model.nodes),
            number(model.mean, 4),
            number(model.largest),
        )
        for model in models
    ]
    return section(
        "Further global models",
        paragraph(
            "This study takes models that come late. Each makes a further global model, signed on its own, and changes nothing in the "
            "first, which is the one this page is about. Whoever reads two of them can work out what the records of the node say "
            "that only one of them holds."
        ),
        table(
            f"Changes are absolute differences of the {words.probabilities} from the model before.",
            ["model", "ledger entry", "made of", "mean change", "largest change"],
            rows,
            numeric=("ledger entry", "mean change", "largest change"),
        ),
    )


def _read(run_dir: Path, number: int, index: int) -> Later:
    try:
        summary = json.loads(read_bytes(RunLayout(run_dir).aggregate(number) / SUMMARY, "summary"))
        change: dict[str, Any] = summary["change"]
        nodes = tuple(str(node) for node in summary["aggregated"])
        return Later(number, index, nodes, float(change["mean"]), float(change["largest"]))
    except (EpgfnError, ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return Later(number, index, problem="its summary is missing or damaged")
