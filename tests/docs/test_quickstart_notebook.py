"""examples/quickstart.ipynb: every cell runs, in order, and shows something short."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

from epgfn.study import Study
from report_run import make_run

NOTEBOOK = Path(__file__).parents[2] / "examples" / "quickstart.ipynb"


def shown_by(cell: str, names: dict[str, Any]) -> Any:
    """Runs a cell as a notebook does; the value of its last line."""
    tree = ast.parse(cell)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)  # noqa: S102
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names) if last is not None else None


def test_every_cell_runs(tmp_path: Path, small_study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run(tmp_path / "runs" / "first", small_study)  # what epgfn demo leaves
    monkeypatch.chdir(tmp_path)
    notebook = json.loads(NOTEBOOK.read_text("utf-8"))
    names: dict[str, Any] = {}
    shown = [
        shown_by("".join(cell["source"]), names) for cell in notebook["cells"] if cell["cell_type"] == "code"
    ]
    assert all(len(repr(one)) < 2000 for one in shown)
    joint = names["joint"]
    assert float(joint.probability("age -> pressure <- weight is a v-structure")) > 0.9
    assert float(joint.probability("age is an ancestor of dose")) > 0.9
    assert {"report.html", "edges.graphml"} <= {path.name for path in tmp_path.iterdir()}
    assert all(
        cell.get("outputs", []) == [] for cell in notebook["cells"]
    )  # what they show is of whoever runs them
