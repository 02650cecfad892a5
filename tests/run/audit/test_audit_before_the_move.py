"""A run directory that was written before the modules moved is read as it was then: its audit, its study's digest, its posterior."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import epgfn
from epgfn.learn.model import terminating_distribution
from epgfn.study.objects import written

RUN = Path(__file__).parent / "before_the_move" / "run"
DIGEST = "6163eebd8e34e0f55346a66a1ea498786e97c87819ffc517fb3220d515d39aec"
COORDINATOR = "1f286bff5c0fcf9aa412e05e02cfaad648dd5ed0e35d84184ee8728317c0c6de"
CHECKS = [
    "coordinator-key", "study", "round", "ledger", "ledger-entries", "node-keys", "upload north", "upload south", "global",
    "round-key", "files", "not-signed",
]  # fmt: skip


def test_every_check_of_the_audit_still_passes() -> None:
    command = [sys.executable, "-m", "epgfn.cli.main", "audit", str(RUN), "--coordinator-key", COORDINATOR, "--json"]  # fmt: skip
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, env={**os.environ, "COLUMNS": "100"}
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["ok"] and [finding["check"] for finding in told["findings"]] == CHECKS


def test_the_study_has_the_digest_that_was_signed_then() -> None:
    assert epgfn.Study.load(RUN / "study.toml").digest == DIGEST


def test_the_model_gives_the_posterior_that_was_published() -> None:
    """The summary's edge probabilities are shares among 4000 draws: within 5 standard errors of the model's exact ones."""
    model = epgfn.load_model(RUN)
    state, probability = terminating_distribution(model)
    summary = json.loads((RUN / "global" / "summary.json").read_bytes())
    published = np.array(summary["edge_probabilities"])
    exact = (probability[:, None, None] * state.adjacency.double()).sum(0).numpy()
    error = 5 * np.sqrt(exact * (1 - exact) / summary["samples"]) + 1e-4  # and rounding
    assert (np.abs(published - exact) <= error).all()
    assert float(probability.sum()) == pytest.approx(1, abs=1e-5)
    assert len(set(written(model.study, state))) == 25
