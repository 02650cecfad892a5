"""Promise: the numbers that people read are the signed model's. Somebody changes one in the summary; or the coordinator signs it so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from attacks import closing, refusal
from epgfn.run.report import write_report

INVENTED = 0.987


def invented(told: dict[str, Any]) -> dict[str, Any]:
    """The summary, with one edge made almost certain."""
    edges = [list(row) for row in told["edge_probabilities"]]
    edges[0][1] = INVENTED
    return {"edge_probabilities": edges}


def test_a_number_changed_in_the_summary_is_refused_and_not_shown(copy: Path) -> None:
    path = copy / "global/summary.json"
    told = json.loads(path.read_bytes())
    path.write_text(json.dumps({**told, **invented(told)}, indent=2))
    check, said = refusal(copy)
    assert check == "global"
    assert said.startswith("global/summary.json is not the file that the coordinator signed")
    page = write_report(copy, out=copy.parent / "page/report.html").read_text()
    assert str(INVENTED) not in page and ".987" not in page


@pytest.mark.parametrize("basis", ["exact", "weighted", "samples"])
def test_a_number_that_the_model_does_not_give_is_refused_though_signed(
    tmp_path: Path, copy: Path, basis: str
) -> None:
    told = json.loads((copy / "global/summary.json").read_bytes())
    run = closing(tmp_path / "run")
    run.summary = {**invented(told), "probabilities_from": basis}
    run.close()
    check, said = refusal(run.finish())
    assert check == "global"
    assert "global/summary.json does not say what the signed model says: 'a->b' has 0.987 there" in said


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("round_id", "round-0"),
        ("aggregated", ["north", "south", "west"]),
        ("absent", []),
        ("seed", 4),
        ("samples", 1),
    ],
)
def test_a_summary_of_something_else_is_refused_though_signed(
    tmp_path: Path, field: str, value: object
) -> None:
    run = closing(tmp_path / "run")
    run.summary = {field: value}
    run.close()
    check, said = refusal(run.finish())
    assert check == "global" and f"is not of the model that lies beside it: wrong {field}" in said
