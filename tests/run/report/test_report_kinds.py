"""The report of studies that are not about graphs: in their own words, with their own objects, and as safe to open."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from epgfn.learn.model import Model
from epgfn.run.comparison.objects import compare_objects
from epgfn.run.report import write_report
from epgfn.run.report.run import read_run
from epgfn.run.report.text import number
from epgfn.run.report.verdict import compared, verdict
from epgfn.sealing.model_file import read_model
from epgfn.study import Study
from epgfn.study.records.tables import load_records
from kinds import TEXTS, study, write_records
from report_run import made_model, make_run

ATTACK = "<script>alert(1)</script>"
KINDS = ("multiset", "sequence", "hypergrid", "phylogeny")


class Page(HTMLParser):
    """Collects tags and the visible text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self._hidden = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._hidden = tag == "style"

    def handle_data(self, data: str) -> None:
        self.text += "" if self._hidden else data


def run_of(root: Path, loaded: Study, simulated: bool = False, **more: Any) -> Path:
    """A run directory with the samples and marginals of an untrained model."""
    comparison = None
    if simulated:
        tensors, _ = read_model(made_model(loaded))
        model = Model(loaded, tensors)
        name = loaded.name if loaded.name in TEXTS else "multiset"
        records = {n: load_records(write_records(name, root / n, 30), loaded) for n in loaded.roster}
        models = dict.fromkeys(loaded.roster, model)
        comparison = compare_objects(loaded, records, models, model, 100, 1)
    return make_run(root / "run", loaded, comparison, summary=more)


def named(kind: str) -> Study:
    return Study.from_bytes(TEXTS[kind].replace('"tiny"', f'"{kind}"').encode())


@pytest.mark.parametrize("kind", KINDS)
def test_a_simulated_run_says_how_far_from_exact_it_is_in_its_own_words(kind: str, tmp_path: Path) -> None:
    folder = run_of(tmp_path, named(kind), simulated=True)
    page = Page(write_report(folder).read_text("utf-8"))
    noun = study(kind).kind.noun
    told = page.text.lower().replace("ledger", "").replace("aggregating-edges", "")
    for word in ("graph", "edge", "parent"):
        assert word not in told, word
    assert f"Which {noun} are probable" in page.text and "uniform distribution" in page.text
    run = read_run(folder)
    assert run.found is not None and run.found.comparison is not None and not run.failures
    for row in run.found.top[:3]:
        assert (row.text or "(empty)") in page.text
    assert {path.name for path in (folder / "global").glob("*.png")} == {"marginals.png", "training.png"}
    assert page.tags.count("img") == 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_real_run_shows_samples_and_says_that_the_truth_is_not_known(kind: str, tmp_path: Path) -> None:
    folder = run_of(tmp_path, named(kind))
    said = verdict(read_run(folder))
    assert said.tone == "open" and "not known here" in said.detail
    text = Page(write_report(folder).read_text("utf-8")).text
    counts = pd.read_parquet(folder / "global" / "samples.parquet")["object"].value_counts()
    assert any((name or "(empty)") in text for name in counts.index[counts == counts.iloc[0]])
    assert f"among {counts.sum():,} signed samples" in text
    assert "How far the global model is from the exact posterior" in text


def test_the_most_probable_object_has_the_published_probability(tmp_path: Path) -> None:
    """A share of 200 samples is not what the product says."""
    study = named("multiset")
    plain = read_run(run_of(tmp_path / "plain", study))
    assert plain.found is not None and not plain.found.published
    first = plain.found.top[0]
    said = verdict(plain).headline
    assert f"Of 200 samples of the joint posterior of 2 of 2 nodes, {number(first.learned)} are" in said
    published = round(first.learned + 0.0123, 4)
    run_dir = run_of(
        tmp_path / "told",
        study,
        most_probable=[{"object": first.text, "probability": published}],
        probabilities_from="product",
        diagnostics={"trust": {"verdict": "good", "exact_largest_error": 0.02}},
    )
    run = read_run(run_dir)
    assert not run.failures
    assert f"multiset has probability {number(published)} in" in verdict(run).headline
    text = Page(write_report(run_dir).read_text("utf-8")).text
    assert "as published with the marginals" in text and number(first.learned) not in text.split("Bars of")[0]


@pytest.mark.parametrize(("learned", "tone"), [(0.02, "good"), (0.3, "fair"), (1.2, "poor"), (1.9, "poor")])
def test_the_headline_follows_from_the_distance(learned: float, tone: str, tmp_path: Path) -> None:
    run = read_run(run_of(tmp_path, named("multiset"), simulated=True))
    assert run.found is not None and run.found.comparison is not None
    comparison = replace(run.found.comparison, global_l1=learned, uniform_l1=1.5)
    found = compared(replace(run, found=replace(run.found, comparison=comparison)))
    assert found is not None and found.tone == tone


def test_categories_with_markup_stay_text(tmp_path: Path) -> None:
    text = TEXTS["multiset"].replace('"apple"', f'"{ATTACK}"')
    html = write_report(run_of(tmp_path, Study.from_bytes(text.encode()))).read_text("utf-8")
    assert ATTACK not in html and ATTACK in Page(html).text
    assert "script" not in Page(html).tags


def test_damaged_samples_cost_the_result(tmp_path: Path) -> None:
    folder = run_of(tmp_path, named("multiset"))
    (folder / "global" / "samples.parquet").write_bytes(b"PAR1 no table")
    text = Page(write_report(folder).read_text("utf-8")).text
    assert "global/samples.parquet is not the file that the coordinator signed" in text
    assert "none of its results is shown" in text and "apple >= 1" not in text


@pytest.mark.parametrize("wrong", [{}, [], {"apple >= 1": "x"}, {"apple >= 1": float("nan")}, None])
def test_marginals_of_another_form_are_not_shown_though_signed(wrong: object, tmp_path: Path) -> None:
    folder = run_of(tmp_path, named("multiset"), marginals=wrong)
    text = Page(write_report(folder).read_text("utf-8")).text
    assert "none of its results is shown" in text and "apple" in text and "apple >= 1" not in text


def test_influence_names_the_marginal_that_moves_most(tmp_path: Path) -> None:
    study = named("multiset").with_changes({"aggregation": {"leave_one_out": True}})
    run = read_run(folder := run_of(tmp_path, study))
    assert run.influence is not None and set(run.influence.nodes) == set(study.roster)
    text = Page(write_report(folder).read_text()).text
    for change in run.influence.nodes.values():
        assert change.at in text and " >= " in change.at and number(change.largest) in text
    assert "at the number of items" in text and "marginal probabilities" in text
