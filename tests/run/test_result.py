"""`epgfn.load_run`: what was published and signed, in tables, networks and samples, and nothing that was written over it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import epgfn
import kinds
from epgfn.learn import conversions
from epgfn.run import result
from epgfn.run.layout import RunLayout
from epgfn.study import Study
from report_run import make_run
from run_directory import contents
from small import SMALL_STUDY


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("run") / "run", Study.from_bytes(SMALL_STUDY.encode()))


def test_the_table_is_what_was_published(run_dir: Path) -> None:
    run = epgfn.load_run(run_dir)
    said, _ = contents(run.study.raw, RunLayout(run_dir).model.read_bytes())
    edges, told = (np.array(said[key]) for key in ("edge_probabilities", "compelled_probabilities"))
    names = run.study.variable_names
    assert len(run.table) == 6 and run.table.probability.is_monotonic_decreasing
    for row in run.table.itertuples():
        i, j = names.index(row.parent), names.index(row.child)
        assert row.probability == edges[i, j] == run.marginals[f"{row.parent}->{row.child}"]
        assert row.compelled == told[i, j] and row.adjacent == pytest.approx(edges[i, j] + edges[j, i])
    assert run.to_pandas().equals(run.table) and run.to_pandas() is not run.table


def test_a_network_has_all_variables_and_the_edges_that_are_probable(run_dir: Path) -> None:
    run = epgfn.load_run(run_dir)
    for least in (0.0, 0.3, 1.1):
        network = run.to_networkx(least)
        assert list(network) == run.study.variable_names
        rows = run.table[run.table.probability >= least]
        assert set(network.edges) == set(zip(rows.parent, rows.child, strict=True))
    assert run.to_networkx(0.0).edges["a", "b"]["probability"] == run.marginals["a->b"]
    assert result.EDGE_LEAST == conversions.LEAST


def test_the_models_own_table_is_that_of_its_scores(run_dir: Path) -> None:
    run = epgfn.load_run(run_dir)
    own = run.model.to_pandas(2000, seed=1)
    assert own.probability.to_numpy() == pytest.approx(run.table.probability.to_numpy())
    assert own.compelled.to_numpy() == pytest.approx(run.table.compelled.to_numpy(), abs=0.05)


def test_samples_are_the_published_ones_and_can_be_cut(run_dir: Path) -> None:
    samples = epgfn.load_run(run_dir).samples
    assert len(samples) == 200 and list(samples) == samples.objects
    graphs = samples.adjacency
    for at in (slice(3, 9), np.arange(200) % 7 == 0, [5, 5, 1]):
        some = samples[at]
        assert (some.adjacency == graphs[at]).all() and (some.log_prob == samples.log_prob[at]).all()
        assert some.objects == [samples[int(k)] for k in np.arange(200)[at]]
    assert samples[-1] == samples.objects[-1]
    with pytest.raises(IndexError):
        samples[200]
    counts = samples.counts()
    assert counts.share.sum() == pytest.approx(1) and counts.edges.is_unique
    assert samples.to_pandas().equals(samples.rows())


def test_what_a_prompt_and_a_notebook_show_is_short_and_escaped(tmp_path: Path, small_study: Study) -> None:
    study = small_study.with_changes({"variables": [{"name": "<b>x</b>"}, {"name": "y" * 60}, {"name": "z"}]})
    run = epgfn.load_run(make_run(tmp_path / "run", study))
    drawn = run.model.sample(1000, seed=1)
    for shown in (drawn, drawn[:0], run, run.model):
        assert len(repr(shown)) < 400 and "\n" not in repr(shown)
    for shown in (drawn, drawn[:0], run):
        page = shown._repr_html_()
        assert len(page) < 6000 and "<b>" not in page
    assert "_" not in {name[0] for name in dir(run)} and {
        "table",
        "model",
        "samples",
        "audit",
        "report",
    } <= set(dir(run))


@pytest.mark.parametrize("name", ["summary.json", "samples.parquet", "model.safetensors"])
def test_what_was_written_over_is_refused(tmp_path: Path, small_study: Study, name: str) -> None:
    run = epgfn.load_run(make_run(tmp_path / "run", small_study))
    path = tmp_path / "run" / "global" / name
    path.write_bytes(path.read_bytes().replace(b"0", b"1", 1) + b" ")
    asked = {"summary.json": "table", "samples.parquet": "samples", "model.safetensors": "model"}[name]
    with pytest.raises(epgfn.errors.RefusedError, match="not the file that the coordinator signed"):
        getattr(run, asked)
    assert not run.audit.ok


def test_what_is_no_run_directory_is_told_apart(tmp_path: Path, small_study: Study) -> None:
    with pytest.raises(epgfn.errors.UsageError, match="is no run directory"):
        epgfn.load_run(tmp_path)
    (tmp_path / "study.toml").write_bytes(small_study.raw)  # a study, and no result yet
    run = epgfn.load_run(tmp_path)
    assert run.summary == {} and run.verdict is None
    for asked in ("marginals", "samples", "model"):
        with pytest.raises(epgfn.errors.UsageError):
            getattr(run, asked)


@pytest.mark.parametrize("name", ["phylogeny", "multiset"])
def test_other_objects_have_a_table_of_questions(tmp_path: Path, name: str) -> None:
    study = kinds.study(name)
    run = epgfn.load_run(make_run(tmp_path / "run", study))
    assert list(run.table.columns) == [study.kind.asked(study), "probability"]
    assert dict(run.table.itertuples(index=False, name=None)) == run.marginals
    assert set(run.samples.objects) <= set(run.model.sample(3000, seed=1).objects)
    with pytest.raises(epgfn.errors.UsageError, match="graphs"):
        run.to_networkx()
    with pytest.raises(epgfn.errors.UsageError, match="graphs"):
        run.model.to_networkx()
    pytest.importorskip("arviz")
    data = run.to_inference_data(40)
    assert data.posterior.answer.shape == (4, 10, len(run.marginals))


def test_arviz_reads_draws_of_graphs(run_dir: Path) -> None:
    arviz = pytest.importorskip("arviz")
    run = epgfn.load_run(run_dir)
    data = run.model.to_inference_data(400, seed=2)
    drawn = run.model.sample(400, seed=2)
    edge = data.posterior.edge
    assert edge.dims == ("chain", "draw", "parent", "child") and edge.shape == (4, 100, 3, 3)
    assert float(edge.sel(parent="a", child="b").mean()) == pytest.approx(drawn.adjacency[:, 0, 1].mean())
    assert (data.sample_stats.lp.to_numpy().ravel() == drawn.log_prob).all()
    assert arviz.ess(data, var_names=["edge"]).edge.shape == (3, 3)
    with pytest.raises(epgfn.errors.UsageError, match="among 5 chains"):
        run.to_inference_data(4, chains=5)


def test_without_arviz_a_sentence_says_how_to_install_it(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "arviz", None)
    with pytest.raises(epgfn.errors.UsageError, match=r"pip install 'epgfn\[arviz\]'"):
        epgfn.load_run(run_dir).to_inference_data(4)


def test_a_run_is_opened_without_what_trains_and_draws(run_dir: Path) -> None:
    code = f"import sys, epgfn; run = epgfn.load_run({str(run_dir)!r}); repr(run), run.marginals, run.verdict; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True
    )
    assert {"torch", "pandas", "matplotlib", "scipy", "networkx", "arviz"} & set(done.stdout.split()) == set()
