"""The benchmark's rows hold what they promise, and a wrong question is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
import torch

from epgfn.base.errors import UsageError
from epgfn.bench.accuracy import accuracy
from epgfn.bench.instances import INSTANCES, sachs

FIELDS = {"instance", "objective", "l1_median", "l1_min", "l1_max", "cpu_s", "paper"}


def test_rows_hold_the_spread_over_seeds_within_the_budget() -> None:
    seen: list[dict[str, Any]] = []
    threads = torch.get_num_threads()
    rows = accuracy(["multiset-10x8"], seeds=2, budget=0.7, on_row=seen.append)
    assert rows == seen
    assert set(rows[0]) >= FIELDS
    assert rows[0]["objects"] == 24310
    assert 0 < rows[0]["l1_min"] <= rows[0]["l1_median"] <= rows[0]["l1_max"] < 1
    assert rows[0]["steps"] < INSTANCES["multiset-10x8"]().steps
    assert torch.get_num_threads() == threads


# The order potential of 25 variables and the reference orders of 46 take minutes; tests of those policies use fewer variables.
@pytest.mark.parametrize("name", sorted(set(INSTANCES) - {"dag-25", "dag-46"}))
def test_every_instance_trains_a_step_and_gives_finite_rewards(name: str) -> None:
    instance = INSTANCES[name]()
    policy = instance.train(1, 1)
    choices = policy.choices(instance.space.initial(2))
    assert torch.isfinite(choices.log_prob.logsumexp(2)).all()
    assert instance.steps > 0


def test_peaked_posteriors_are_measured_by_their_exact_edge_marginals(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sachs, "GRAPHS", 20_000)
    row = accuracy(["sachs-11"], seeds=1, budget=0.2)[0]
    assert row["l1_median"] is None
    assert 0 < row["edge_error_mean_median"] < row["edge_error_max_median"] < 1


@pytest.mark.parametrize(
    "wrong", [{"only": ["grid-3x3"]}, {"seeds": 0}, {"budget": 0.0}, {"budget": float("nan")}]
)
def test_a_wrong_question_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        accuracy(**wrong)


def test_the_command_prints_one_object() -> None:
    command = [sys.executable, "-m", "epgfn.cli.main", "bench", "accuracy"]
    options = ["--only", "grid-2x12", "--seeds", "1", "--budget", "0.2", "--json"]
    done = subprocess.run([*command, *options], capture_output=True, timeout=300, text=True)
    assert done.returncode == 0, done.stderr
    assert [row["instance"] for row in json.loads(done.stdout)["rows"]] == ["grid-2x12"]
    refused = subprocess.run([*command, "--only", "nothing"], capture_output=True, timeout=300, text=True)
    assert refused.returncode == 2
    assert "grid-2x12" in refused.stderr
