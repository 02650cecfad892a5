"""What `epgfn privacy plan` promises for every kind of study: exact comparisons, on made-up records of its own likelihood through its own
release, that say when records are too few."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from epgfn.base.console import run_app
from epgfn.base.errors import UsageError
from epgfn.cli.main import app
from epgfn.gflownet.spaces.base import take
from epgfn.gflownet.spaces.enumeration import explore, terminating_states
from epgfn.learn.likelihoods import likelihood_of
from epgfn.privacy.of_study import planning
from epgfn.privacy.of_study.networks import GaussianNetwork
from epgfn.privacy.of_study.planning import MOST_LOST, plan
from epgfn.privacy.of_study.question import Question
from epgfn.study import Study
from epgfn.study.objects import space_of
from kinds import MODES, PRIVATE, TEXTS, private_study, study
from small import PRIVATE_STUDY, SMALL_STUDY

pytestmark = pytest.mark.usefixtures("seeded_noise")
SAID = {"multiset": "objects", "sequence": "max_length", "hypergrid": "side", "phylogeny": "branch_length"}
SAID["categories"] = "categories"
THREE = Study.from_bytes(SMALL_STUDY.encode())


def many(n_variables: int) -> Study:
    listed = ", ".join(f'{{ name = "v{i}" }}' for i in range(n_variables))
    return Study.from_bytes(f'name = "many"\nroster = ["a"]\nvariables = [{listed}]\n'.encode())


def test_few_records_are_called_too_few_and_many_are_not() -> None:
    rows, _ = plan(Question(THREE, (20, 5_000), (0.5, 8.0), worlds=10))
    found = {(row.records, row.epsilon, row.scope): row for row in rows}
    assert len(found) == len(rows) == 8
    assert not found[20, 0.5, "local"].enough and found[5_000, 8.0, "local"].enough
    assert all(row.enough == (max(row.lost, row.moved or 0) <= MOST_LOST) for row in rows)
    assert found[20, 0.5, "local"].error > 5 * found[5_000, 8.0, "local"].error
    assert {(row.scope, row.nodes) for row in rows} == {("local", 1), ("product", 2)}
    for row in rows:
        assert row.worlds == 10 and 0 < row.error <= row.largest <= 1
        assert row.l1 is not None and 0 < row.l1 <= 2
        assert 0 < row.error_median <= row.error_90 < 1


def test_one_node_has_no_product_and_six_variables_no_list_of_graphs() -> None:
    rows, _ = plan(Question(many(6), (200,), (4.0,), worlds=2))
    assert [(row.scope, row.l1, row.worlds) for row in rows] == [("local", None, 2)]


def test_the_size_of_nobody_is_needed_but_what_the_study_makes_public() -> None:
    raw = PRIVATE_STUDY.replace(
        "delta = 1e-5",
        'delta = 1e-5\nadjacency = "replace-one"\nrecords = {north = 60, south = 60}',
    )
    (row, _), _ = plan(Question(Study.from_bytes(raw.encode()), (60,), (4.0,), worlds=2))
    assert (row.records, row.epsilon) == (60, 4.0)


def test_without_a_number_of_worlds_time_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "CPU_SECONDS", 0.0)
    seen: list[tuple[int, int, float]] = []
    rows, _ = plan(Question(THREE, (50,), (4.0,)), lambda *said: seen.append(said))
    assert rows[0].worlds == 3 and [(done, of) for done, of, _ in seen] == [(1, 3), (2, 3), (3, 3)]
    assert seen[0][2] > seen[1][2] > seen[2][2] == 0


def test_other_worlds_each_time_and_the_same_again_by_their_seed() -> None:
    """Whoever plans again must not see the same few worlds again and take them for a confirmation."""
    rows = [plan(Question(THREE, (50,), (4.0,), worlds=3, seed=seed)).rows[0] for seed in (1, 1, 2)]
    assert rows[0].prior_error == rows[1].prior_error != rows[2].prior_error  # without any noise


def test_the_worst_tenth_of_worlds_decides_and_not_their_mean() -> None:
    def world(l1: float) -> planning._Observation:
        return planning._Observation(100, 1.0, "local", 0.01, 0.1, l1, 0.5, 0.5)

    assert planning._summary(1, [world(0.9)] * 20).enough
    bad = planning._summary(1, [world(0.1)] * 17 + [world(1.9)] * 3)
    assert bad.l1 is not None and bad.l1 < 0.5 and not bad.enough
    near = [world(0.1)] * 37 + [world(1.9)] * 3  # 7.5 % of so few may as well be 15 %
    assert not planning._summary(1, near).enough and planning._summary(1, near[1:38] * 10).enough


def test_made_up_variables_have_unit_variance_and_no_cycle() -> None:
    for seed in range(5):
        mixing = GaussianNetwork(7, np.random.default_rng(seed)).mixing
        np.testing.assert_allclose(np.square(mixing).sum(0), 1.0)
        reach = np.abs(mixing) > 1e-12  # i reaches j
        assert not (reach & reach.T & ~np.eye(7, dtype=bool)).any()


@pytest.mark.parametrize(
    ("asked", "changed", "says"),
    [
        (many(15), {}, "14 variables"),
        (THREE, {"records": (1,)}, "records"),
        (THREE, {"records": ()}, "records"),
        (THREE, {"records": (100_000,)}, "delta"),
        (THREE, {"nodes": 0}, "node"),
        (THREE, {"worlds": 1}, "worlds"),
    ],
)
def test_what_cannot_be_planned_is_refused_at_once(asked: Study, changed: dict[str, int], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Question(asked, **{"records": (100,), "epsilons": (1.0,), **changed})  # type: ignore[arg-type]


def test_an_epsilon_no_release_can_have_is_refused() -> None:
    with pytest.raises(UsageError, match="epsilon"):
        plan(Question(THREE, (100,), (0.0,), worlds=2))


@pytest.mark.parametrize("kind", TEXTS)
def test_more_records_and_more_epsilon_buy_a_better_posterior(kind: str) -> None:
    planned = plan(Question(private_study(kind), (20, 2_000), (0.2, 8.0), worlds=8))
    found = {(row.records, row.epsilon, row.scope): row for row in planned.rows}
    assert len(found) == len(planned.rows) == 8
    poor, good = found[20, 0.2, "local"], found[2_000, 8.0, "local"]
    assert poor.error > 5 * good.error and not poor.enough and good.enough
    assert poor.l1 is not None and good.l1 is not None and 0 < good.l1 < poor.l1 <= 2
    for row in planned.rows:
        assert row.enough == (max(row.lost, row.moved or 0) <= MOST_LOST) and row.worlds == 8
        assert 0 < row.error <= row.largest <= 1
        assert row.nodes == (2 if row.scope == "product" else 1)
    assert planned.settings["mode"] == MODES[kind] and SAID[kind] in planned.settings


def test_a_study_without_privacy_is_planned_with_the_mechanism_it_would_have() -> None:
    for kind in ("multiset", "categories"):
        rows, settings = plan(Question(study(kind), (200,), (4.0,), nodes=1, worlds=2))
        assert settings["mode"] == MODES[kind]
        assert [(row.scope, row.nodes) for row in rows] == [("local", 1)]


def test_under_replace_one_the_number_of_records_is_the_planned_one() -> None:
    more = 'adjacency = "replace-one"\nrecords = {north = 50, south = 60}\n'
    rows, _ = plan(Question(private_study("categories", more=more), (300,), (4.0,), nodes=3, worlds=2))
    assert {row.nodes for row in rows} == {1, 3}


def test_graphs_too_many_to_list_are_compared_by_their_edges() -> None:
    listed = ", ".join(f'{{ name = "v{i}", categories = ["a", "b"] }}' for i in range(6))
    text = (
        f'name = "six"\nroster = ["a"]\nvariables = [{listed}]\nspace.max_parents = 1\ntarget.kind = "bdeu"\n'
    )
    (row,), settings = plan(Question(Study.from_bytes(text.encode()), (500,), (8.0,), worlds=2))
    assert row.l1 is None and 0 < row.error < 1 and "objects" not in settings


def test_sgd_is_planned_by_training() -> None:
    more = "rate = 0.9\nclip = 0.5\n"
    short = private_study("multiset", "gradient", more).with_changes({"training": {"steps": 40, "batch": 64}})
    (row,), settings = plan(Question(short, (2000,), (8.0,), nodes=1, worlds=2))
    assert (settings["mode"], settings["steps"], settings["clip"]) == ("gradient", 40, 0.5)
    assert row.error < row.prior_error and row.l1 is not None


@pytest.mark.parametrize("kind", ["multiset", "sequence", "phylogeny"])
def test_made_up_records_have_the_likelihood_they_are_scored_by(kind: str) -> None:
    space = space_of(study(kind))
    likelihood = likelihood_of(study(kind), space)
    true = take(terminating_states(space, explore(space)), torch.tensor([7]))
    values = likelihood.domain()
    expected = likelihood.per_record(values, true)[:, 0].exp()
    if kind == "phylogeny":  # a pattern of k bases stands for 4! / (4 - k)! sites
        k = torch.tensor([len(set(row.tolist())) for row in values])
        expected = expected * torch.tensor([1, 4, 12, 24, 24])[k]
    assert float(expected.sum()) == pytest.approx(1.0)
    assert likelihood.find is not None
    drawn = likelihood.draw(true, 40_000, torch.Generator().manual_seed(3))
    seen = torch.bincount(likelihood.find(drawn), minlength=len(values)) / 40_000
    assert float((seen - expected).abs().max()) < 0.012


def test_made_up_numbers_lie_about_their_point_and_in_the_box() -> None:
    space = space_of(study("hypergrid"))
    likelihood, n = likelihood_of(study("hypergrid"), space), 5_000
    middle = terminating_states(space, explore(space))
    rows = (middle.position == 2).all(1).nonzero()[0]
    drawn = likelihood.draw(take(middle, rows), n, torch.Generator().manual_seed(0))
    corners = likelihood.domain()
    assert bool((drawn >= corners.amin(0)).all() and (drawn <= corners.amax(0)).all())
    torch.testing.assert_close(drawn.mean(0), corners.mean(0), atol=0.15, rtol=0)


def privacy(capsys: pytest.CaptureFixture[str], *arguments: str | Path, code: int = 0) -> str:
    """What the command prints; its exit code is checked."""
    with pytest.raises(SystemExit) as ended:
        run_app(app, "epgfn", ["privacy", *map(str, arguments)])
    out, err = capsys.readouterr()
    assert ended.value.code == code, err
    return out or err


@pytest.mark.parametrize(
    ("kind", "word"), [("phylogeny", "probability of each clade"), ("categories", "edge probabilities")]
)
def test_the_command_speaks_of_what_the_study_is_about(
    kind: str, word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "study.toml"
    path.write_text(TEXTS[kind] + PRIVATE.format(mode=MODES[kind]))
    size = ("--records", "100", "--epsilon", "0.5", "--worlds", "3")
    out = privacy(capsys, "plan", path, *size)
    assert word in out and "3 made-up worlds (seed" in out and f"mode {MODES[kind]}" in out
    assert ("edge" in out) == (kind == "categories")
    said = json.loads(privacy(capsys, "plan", path, *size, "--json"))
    assert said["settings"]["space"] == study(kind).space.kind
    assert {"error", "error_se", "largest", "l1", "lost", "enough", "worlds"} <= set(said["rows"][0])


def test_a_space_too_large_to_list_is_refused_with_the_way_out() -> None:
    text = TEXTS["sequence"].replace("max_length = 3", "max_length = 30")
    with pytest.raises(UsageError, match="plan with a smaller space"):
        Question(Study.from_bytes(text.encode()), (100,), (1.0,))
