"""What `epgfn privacy audit STUDY` promises: the study's own release is attacked, with the worst records that its likelihood allows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from epgfn.base.console import run_app
from epgfn.cli.main import app
from epgfn.privacy.accounting import gdp_mu
from epgfn.privacy.mechanisms import discrete
from epgfn.privacy.of_study.canaries import study_case, worst_values
from epgfn.privacy.of_study.releases import maker_of
from kinds import MODES, PRIVATE, TEXTS, private_study
from seeded import seeded_gaussian

pytestmark = pytest.mark.usefixtures("seeded_noise")
REPLACE = 'adjacency = "replace-one"\nrecords = {north = 500, south = 60}\n'


@pytest.mark.parametrize("more", ["", REPLACE], ids=["add-remove", "replace-one"])
@pytest.mark.parametrize("kind", TEXTS)
def test_the_canary_moves_the_study_s_release_as_far_as_any_record_can(kind: str, more: str) -> None:
    """Mean log-likelihood ratios are mu^2 apart, and mu is what epsilon allows; under replace-one it may be less, since no two values
    need be opposite."""
    case = study_case(private_study(kind, more=more))
    assert case.mode == ("counts" if kind == "categories" else "answers")
    means = [np.mean([case.score(case.release(data)) for _ in range(150)]) for data in case.pair]
    mu, allowed = np.sqrt(means[1] - means[0]), gdp_mu(8.0, 1e-5)
    assert 0.5 * allowed < mu < 1.25 * allowed
    if not more or kind == "categories":
        assert mu == pytest.approx(allowed, rel=0.25)


def test_the_neighbours_differ_in_one_record() -> None:
    for kind in TEXTS:
        without, with_canary = study_case(private_study(kind)).pair
        assert len(with_canary) == len(without) + 1
        without, with_canary = study_case(private_study(kind, more=REPLACE)).pair
        assert len(with_canary) == len(without) and (np.asarray(with_canary) != np.asarray(without)).any()


def test_the_canary_of_counts_is_alone_in_its_cell_of_the_study_s_categories() -> None:
    without, with_canary = study_case(private_study("categories")).pair
    assert with_canary[-1].tolist() == [1, 2, 1]
    assert not (without == with_canary[-1]).any()


def test_the_worst_value_has_the_norm_that_noise_is_made_for() -> None:
    for kind in ("multiset", "sequence", "hypergrid", "phylogeny"):
        asked = private_study(kind)
        mechanism = maker_of(asked, "north").mechanism  # type: ignore[attr-defined]
        found = worst_values(asked)
        said = mechanism.per_record(found.values, mechanism.objects).double()
        norms = (said - said.mean(1, keepdim=True)).norm(dim=1)
        assert float(norms[found.longest]) == pytest.approx(mechanism.radius, rel=1e-6)
        assert float(norms.max()) == pytest.approx(float(norms[found.longest]))


def test_sgd_is_attacked_in_the_study_s_own_training() -> None:
    asked = private_study("multiset", "gradient", "rate = 0.9\nclip = 0.5\n")
    case = study_case(asked)
    assert len(case.pair[0]) == 0 and len(case.pair[1]) == 1
    scores = [np.array([case.score(case.release(data)) for _ in range(10)]) for data in case.pair]
    assert scores[1].mean() > scores[0].mean() + 1 and case.claimed <= 8.0
    (step, *_) = case.release(case.pair[1])
    assert float(step.part.norm()) == pytest.approx(1.0, abs=1e-3)  # a clip long: no part can be longer
    assert bool(torch.isfinite(step.noisy).all())


@pytest.mark.parametrize("kind", ["categories", "phylogeny"])
def test_the_command_finds_half_the_noise_and_nothing_in_correct_code(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "study.toml"
    path.write_text(TEXTS[kind] + PRIVATE.format(mode=MODES[kind]))

    def audit(runs: int, *more: str) -> tuple[int, str]:
        arguments = ["audit", str(path), "--epsilon", "4", "--releases", str(runs), *more]
        with pytest.raises(SystemExit) as ended:
            run_app(app, "epgfn", ["privacy", *arguments])
        return int(ended.value.code or 0), capsys.readouterr().out

    name = "counts" if kind == "categories" else "answers"
    code, out = audit(
        150, "--mode", MODES[kind]
    )  # as the study names it: a statistic of categories is counts
    assert code == 0 and f"{name:<10} claimed epsilon 4" in out and "holds" in out
    assert "the study's own release is attacked" in out
    noise = seeded_gaussian()
    monkeypatch.setattr(discrete, "discrete_gaussian", lambda values, scale: noise(values, scale / 2))
    code, out = audit(600)
    assert code == 1 and "BROKEN" in out


@pytest.mark.parametrize(("kind", "share"), [("categories", 2**0.5), ("phylogeny", 2.0)])
def test_replace_one_with_the_noise_of_add_remove_is_found(
    kind: str, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record that is replaced moves two cells of a table by one, or a sum of answers by up to two clips."""
    case = study_case(private_study(kind, more=REPLACE))
    assert not case.attack(300, 0.999).broken
    noise = seeded_gaussian()
    monkeypatch.setattr(discrete, "discrete_gaussian", lambda values, scale: noise(values, scale / share))
    assert case.attack(900, 0.999).broken
