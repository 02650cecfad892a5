"""`epgfn privacy`, as a person types it: the plan touches nobody's records, and the attack finds what is broken."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from epgfn.base.console import run_app
from epgfn.cli.main import app
from epgfn.privacy.accounting import gdp_mu
from epgfn.privacy.attacks import canaries
from epgfn.privacy.mechanisms import discrete
from seeded import seeded_gaussian
from small import PRIVATE_STUDY, SMALL_STUDY

pytestmark = pytest.mark.usefixtures("seeded_noise")


def privacy(capsys: pytest.CaptureFixture[str], *arguments: str | Path, code: int = 0) -> tuple[str, str]:
    """What the command prints on both streams; its exit code is checked."""
    with pytest.raises(SystemExit) as ended:
        run_app(app, "epgfn", ["privacy", *map(str, arguments)])
    out, err = capsys.readouterr()
    assert ended.value.code == code, err
    assert "Traceback" not in out + err
    return out, err


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "study.toml"
    path.write_text(PRIVATE_STUDY)
    return path


def test_plan_prints_a_table_the_rule_and_who_has_too_few(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, err = privacy(
        capsys, "plan", study, "--records", "20", "--epsilon", "0.5", "--epsilon", "8", "--worlds", "6"
    )
    assert "One node's model" in out and "The product of all nodes' models (2 nodes)" in out
    assert re.search(r"6 made-up worlds \(seed \d+\), nobody's records", out)
    assert "the worst tenth is hardly known" in out
    assert "no closer to that from the records than to the prior" in out  # the rule
    assert "Too few records for this epsilon: 20 at epsilon 0.5 (local)" in out
    assert "worlds" in err and "worlds 6/6" not in out  # progress is for standard error


def test_plan_counts_the_records_that_are_used_where_persons_are_protected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who types how many rows a file has would be told a better result than there will be."""
    path = tmp_path / "persons.toml"
    of_persons = 'unit = "person"\nperson = "patient"\nrows_per_person = 3'
    path.write_text(PRIVATE_STUDY.replace("delta = 1e-5", f"delta = 1e-5\n{of_persons}"))
    out, _ = privacy(capsys, "plan", path, "--records", "100", "--epsilon", "4", "--worlds", "2")
    assert "those that are used, at most 3 of each person" in out


def test_plan_speaks_json_and_takes_the_study_s_own_epsilon(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, _ = privacy(capsys, "plan", study, "--records", "500", "--worlds", "2", "--nodes", "3", "--json")
    said = json.loads(out)
    assert (said["target"], said["variables"], said["delta"]) == ("bge", 3, 1e-5)
    assert {row["epsilon"] for row in said["rows"]} == {1.0, 2.0, 4.0, 8.0}
    assert {row["nodes"] for row in said["rows"]} == {1, 3}
    assert {"error", "error_se", "largest", "l1", "lost", "enough", "worlds"} <= set(said["rows"][0])


def test_audit_finds_nothing_in_correct_code(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = privacy(capsys, "audit", study, "--releases", "200", "--json")
    said = json.loads(out)
    assert said["ok"] and said["n_variables"] == 3
    (row,) = said["rows"]
    assert (row["mode"], row["broken"]) == ("statistic", False)
    assert row["claimed"] == pytest.approx(4.0) and 0 <= row["measured"] <= 4.0


@pytest.mark.parametrize("mode", ["statistic", "counts", "answers"])
def test_audit_of_code_with_half_the_noise_ends_with_exit_code_1(
    mode: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    noise = seeded_gaussian()
    monkeypatch.setattr(discrete, "discrete_gaussian", lambda values, scale: noise(values, scale / 2))
    out, err = privacy(capsys, "audit", "--mode", mode, "--epsilon", "4", "--short", code=1)
    assert "claimed epsilon 4, measured at least" in out and "BROKEN" in out
    assert "1 of 1 attacks got more out of a release than it claims" in err


def test_the_canary_of_sgd_is_clipped_and_pulls_in_the_steps_it_is_sampled_for() -> None:
    case = canaries.make_case("gradient", epsilon=8.0, delta=1e-5)
    without, with_canary = (
        np.array([float(case.release(data).sum()) for _ in range(400)]) for data in case.pair
    )
    assert abs(without.mean()) < 0.8
    assert (
        1.0 < with_canary.mean() - without.mean() < 2.6
    )  # .3 of 6 steps, a clip each: 1.8, give or take .16


@pytest.mark.parametrize("mode", ["statistic", "counts", "answers"])
def test_the_canaries_of_replace_one_move_a_release_and_no_more_than_claimed(mode: Any) -> None:
    case = canaries.make_case(mode, epsilon=8.0, delta=1e-5, adjacency="replace-one")
    found = case.attack(250, 0.999)
    assert not found.broken and found.epsilon > 0.5


def test_a_canary_moves_a_release_as_far_as_any_record_can() -> None:
    """The two data sets' mean log-likelihood ratios are mu^2 apart: the whole of what the claim allows."""
    for mode in ("statistic", "counts", "answers"):
        case = canaries.make_case(mode, epsilon=4.0, delta=1e-5)
        means = [np.mean([case.score(case.release(data)) for _ in range(150)]) for data in case.pair]
        assert np.sqrt(means[1] - means[0]) == pytest.approx(gdp_mu(4.0, 1e-5), rel=0.25), mode


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("audit", "--mode", "luck"), "no mode luck"),
        (("audit", "--epsilon", "-1", "--short"), "epsilon"),
        (("audit", "--mode", "counts", "--delta", "0.5", "--short"), "delta"),
        (("plan", "missing.toml"), "missing.toml"),
    ],
)
def test_wrong_use_is_one_sentence(
    arguments: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out, err = privacy(capsys, *arguments, code=2)
    assert says in err and out == ""


def test_a_study_without_privacy_has_no_release_to_attack(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "open.toml").write_text(SMALL_STUDY)
    _, err = privacy(capsys, "audit", tmp_path / "open.toml", code=2)
    assert "privacy mode none" in err
