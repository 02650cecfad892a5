"""examples/registry, trained for a few steps by real processes: categories, numbers, an outcome with scores and blanks, at four hospitals;
what is published is exact, by arithmetic of another kind."""

from __future__ import annotations

import itertools
from pathlib import Path

import pandas as pd
import pytest
import torch

import epgfn
from epgfn.bench.families import mixed
from epgfn.demo.demo import run_study
from epgfn.learn.exact import exact_of_table
from epgfn.learn.scores import study_sets
from epgfn.study import Study

FOLDER = Path(__file__).parents[2] / "examples" / "registry"
SHORT = {"policy": {"hidden": 16}, "training": {"steps": 8}, "aggregation": {"steps": 8, "samples": 200}}
SIZES = {"sex": 2, "age_band": 3, "smoking": 3}
NEEDED = {"sex": 1, "age_band": 1, "smoking": 2, "bmi": 3, "pressure": 3, "hba1c": 3, "event_3y": 4}
"""Of how many tiers a variable's score needs all columns."""


def expected(study: Study, most: int) -> dict[str, float]:
    """By regressions and counts written out for the first `most` records of each hospital, of those that are complete."""
    names, sets, tiers = study.variable_names, study_sets(study), study.prior.tiers
    tier = {name: number for number, group in enumerate(tiers) for name in group}
    sizes = [SIZES.get(name, 0) for name in names]
    tables = []
    for node in study.roster:
        cells = pd.read_csv(FOLDER / f"{node}.csv").head(most)
        for variable in study.variables:
            if variable.categories is not None:
                places = variable.numbers or range(len(variable.categories))
                cells[variable.name] = cells[variable.name].map(
                    dict(zip(variable.categories, places, strict=True))
                )
            if variable.name not in SIZES:
                cells[variable.name] = (cells[variable.name] - variable.centre) / variable.scale
        tables.append(cells[names])
    total = torch.full((len(names), len(sets)), -torch.inf, dtype=torch.float64)
    for j, k in itertools.product(range(len(names)), range(len(sets))):
        child, parents = names[j], [i for i, there in enumerate(sets[k].tolist()) if there]
        allowed = all(
            tier[names[i]] <= tier[child] and not (child in tiers[0] and names[i] in tiers[0])
            for i in parents
        )
        if j in parents or not allowed:
            continue
        columns = list(itertools.chain(*tiers[: NEEDED[child]])) if child not in tiers[0] else [child]
        rows = [table[table[columns].notna().all(axis=1)].to_numpy() for table in tables]
        total[j, k] = sum(mixed(x, j, parents, sizes) for x in rows)
    found = exact_of_table(study, total)
    assert found is not None
    return dict(found.probabilities)


def test_the_example_is_exact_with_categories_numbers_blanks_and_four_hospitals(tmp_path: Path) -> None:
    study, most = Study.load(FOLDER / "study.toml").with_changes(SHORT), 60
    data = {}
    for node in study.roster:
        data[node] = tmp_path / f"{node}.csv"
        pd.read_csv(FOLDER / f"{node}.csv").head(most).to_csv(data[node], index=False)
    figures = run_study(study, data, tmp_path / "run", quiet=True)
    assert figures["audit_ok"]
    run = epgfn.load_run(tmp_path / "run")
    for name, p in expected(study, most).items():
        assert run.marginals[name] == pytest.approx(p, abs=1e-4)
    assert run.marginals["bmi->smoking"] == 0.0 and run.marginals["event_3y->pressure"] == 0.0
    page = (tmp_path / "run" / "global" / "report.html").read_text()
    assert (
        "conditional Gaussian" in page and "the score has no edge from a number" not in page
    )  # tiers say so
    assert "records with a blank are left out" in page
