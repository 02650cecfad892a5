"""examples/lacking, trained for a few steps by real processes: what is published is exact, by arithmetic of another kind, although one
hospital lacks two variables."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import epgfn
from epgfn.bench.families import gaussian
from epgfn.demo.demo import run_study
from epgfn.learn.exact import exact_of_table
from epgfn.learn.scores import study_sets
from epgfn.study import Study

FOLDER = Path(__file__).parents[2] / "examples" / "lacking"
SHORT = {"policy": {"hidden": 16}, "training": {"steps": 8}, "aggregation": {"steps": 8, "samples": 200}}


def expected(study: Study, most: int) -> dict[str, float]:
    """By regressions written out for the first `most` records of each hospital, over the variables that its file has."""
    names, sets = study.variable_names, study_sets(study)
    tier = {name: number for number, group in enumerate(study.prior.tiers) for name in group}
    total = torch.full((len(names), len(sets)), -torch.inf, dtype=torch.float64)
    for k, members in enumerate(sets.tolist()):
        parents = [name for name, there in zip(names, members, strict=True) if there]
        for j, child in enumerate(names):
            if child not in parents and all(tier[parent] <= tier[child] for parent in parents):
                total[j, k] = 0.0
    for node in study.roster:
        table = pd.read_csv(FOLDER / f"{node}.csv").head(most)
        scale = {v.name: (v.centre, v.scale) for v in study.variables}
        x = np.column_stack([(table[name] - scale[name][0]) / scale[name][1] for name in table.columns])
        at = {name: place for place, name in enumerate(table.columns)}
        for j, k in itertools.product(range(len(names)), range(len(sets))):
            parents = [name for name, there in zip(names, sets[k].tolist(), strict=True) if there]
            if torch.isfinite(total[j, k]) and names[j] in at:
                total[j, k] += gaussian(x, at[names[j]], [at[p] for p in parents], len(at))
    found = exact_of_table(study, total)
    assert found is not None
    return dict(found.probabilities)


def test_the_example_is_exact_where_one_hospital_lacks_two_variables(tmp_path: Path) -> None:
    study, most = Study.load(FOLDER / "study.toml").with_changes(SHORT), 90
    data = {}
    for node in study.roster:
        data[node] = tmp_path / f"{node}.csv"
        pd.read_csv(FOLDER / f"{node}.csv").head(most).to_csv(data[node], index=False)
    figures = run_study(study, data, tmp_path / "run", quiet=True)
    assert figures["audit_ok"]
    run = epgfn.load_run(tmp_path / "run")
    assert "joins" not in run.verdict and run.caveat == ""
    for name, p in expected(study, most).items():
        assert run.marginals[name] == pytest.approx(p, abs=1e-4)
    seen = dict(
        zip(zip(run.table["parent"], run.table["child"], strict=True), run.table["seen_by"], strict=True)
    )
    assert seen["age", "bmi"] == 3 and seen["glucose", "hba1c_5y"] == 2 and not run.table["in_doubt"].any()
    page = (tmp_path / "run" / "global" / "report.html").read_text()
    assert "rural lacks hba1c_5y and egfr_5y" in page and "2 of 3" in page and "in doubt" not in page
