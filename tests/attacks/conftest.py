"""One true run directory a session; attacks alter copies of it, or have its parties make another."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from run_directory import RunDirectory, make_run


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """Finished, and true: never to be altered."""
    return make_run(tmp_path_factory.mktemp("run") / "run")


@pytest.fixture
def copy(run: RunDirectory, tmp_path: Path) -> Path:
    """A copy of its directory."""
    return Path(shutil.copytree(run.root, tmp_path / "copy"))
