"""Further global models of a round that takes late ones: what each adds to the one before. The page itself is about the first."""

from __future__ import annotations

from typing import Any, NamedTuple

from epgfn.run.audit.aggregates import Aggregate
from epgfn.run.layout import AGGREGATES, GLOBAL
from epgfn.run.report.html import Markup, paragraph, subsection, table
from epgfn.run.report.text import number
from epgfn.run.report.verified import Verified
from epgfn.run.report.words import Words
from epgfn.run.summary import distance, probabilities_of


class Later(NamedTuple):
    """A further global model: its number, ledger index, nodes, and how far it is from the one before; or `problem`."""

    number: int
    entry: int
    nodes: tuple[str, ...] = ()
    mean: float | None = None
    largest: float | None = None
    problem: str = ""


def read_later(verified: Verified, models: list[Aggregate]) -> list[Later]:
    """Those of a round's `models` that came late, each against the global model before it, by their signed summaries."""
    found, before = [], verified.summary(GLOBAL)
    for model in models:
        if model.number is not None:
            summary = verified.summary(model.place)
            found.append(
                _later(model.number, model, summary, before, verified.problem(f"{AGGREGATES} {model.number}"))
            )
            before = summary
    return found


def _later(
    number: int,
    model: Aggregate,
    summary: dict[str, Any] | None,
    before: dict[str, Any] | None,
    problem: str,
) -> Later:
    if summary is None:
        return Later(
            number, model.index, problem=problem or "its summary was not signed, so nothing is said of it"
        )
    nodes = tuple(str(node) for node in summary["aggregated"])
    if before is None:
        return Later(number, model.index, nodes)
    change = distance(probabilities_of(summary), probabilities_of(before))
    return Later(number, model.index, nodes, change["mean"], change["largest"])


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
    return subsection(
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
