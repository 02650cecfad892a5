"""On a system that nobody has tried: one sentence, whoever asks."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from epgfn.base.systems import SYSTEMS

ROOT = Path(__file__).parents[2]
ASKING = ("epgfn", "epgfn.cli.main", "epgfn_node.cli", "epgfn_coordinator.cli")
"""What people import, and where each command begins."""


@pytest.mark.parametrize("module", ASKING)
def test_another_system_is_told_in_one_sentence(module: str) -> None:
    # -S: `site` would look for files of Windows' own.
    code = f"import sys; sys.path[:] = {sys.path!r}; sys.platform = 'win32'; import {module}"
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert all(name in done.stderr for name in (*SYSTEMS.values(), "win32", "WSL"))


def test_the_package_says_where_it_runs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    systems = {line.split(" :: ")[-1].lower() for line in project["classifiers"] if "Operating" in line}
    assert systems == {name.lower() for name in SYSTEMS.values()}
    first_screen = (ROOT / "README.md").read_text()[:2500]
    assert all(name in first_screen for name in SYSTEMS.values())
