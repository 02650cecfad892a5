"""Shared by all tests: one thread per process, and a study small enough to train in seconds."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings

from epgfn.study import Study
from ready import FRESH, Commands
from small import SMALL_STUDY

torch.set_num_threads(1)
subprocess.Popen = Commands  # type: ignore[misc, assignment]

# A busy machine is no failure, and what one run finds every run finds: chance must not decide whether a change passes.
settings.register_profile("epgfn", deadline=None, derandomize=True)
settings.load_profile("epgfn")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """`-n auto`: one worker more for each two cores, as a fifth of the time tests wait for processes, sockets and clocks."""
    cores = os.cpu_count() or 1
    return cores + (cores + 1) // 2


@pytest.fixture(scope="session")
def small_study() -> Study:
    """Three variables, two nodes, trained in seconds."""
    return Study.from_bytes(SMALL_STUDY.encode())


@pytest.fixture
def fresh_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each process of the test is a Python that has just begun: for tests of how commands begin."""
    monkeypatch.setattr(subprocess, "Popen", FRESH)


@pytest.fixture
def seeded_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Releases with noise that is the same in every run of the test."""
    from seeded import seed_noise  # loaded here: the privacy modules take a second

    seed_noise(monkeypatch)


@pytest.fixture(scope="session", autouse=True)
def nobodys_account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test spends what belongs to the people whose records are on the machine that it runs on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("account")))
        yield


@pytest.fixture
def own_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An account of the test's own, which has spent nothing; the folder of its data."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "account"))
    return tmp_path / "account"


@pytest.fixture
def no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever proxies this machine has, the test sees only those that it sets."""
    from epgfn.rpc.proxies import EXEMPTING, VARIABLES

    for name in (*VARIABLES, *EXEMPTING):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def small_files(tmp_path: Path, small_study: Study) -> dict[str, Path]:
    """study.toml and one CSV file a node, records of a -> b <- c."""
    files = {"study": tmp_path / "study.toml"}
    files["study"].write_bytes(small_study.raw)
    for number, node in enumerate(small_study.roster):
        noise = np.random.default_rng(number).normal(size=(60, 3))
        a, c = noise[:, 0], noise[:, 2]
        b = 0.9 * a - 0.8 * c + 0.5 * noise[:, 1]
        files[node] = tmp_path / f"{node}.csv"
        rows = "\n".join(",".join(f"{value:.12f}" for value in row) for row in np.column_stack([a, b, c]))
        files[node].write_text("a,b,c\n" + rows + "\n")
    return files
