"""Several files replaced together: killed at any step, a process leaves all of the old ones or, once opened again, all of the new."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from epgfn.base.replacing import finish_replacing, replace_together

NAMES = ("keys/a", "keys/b", "rounds/second/keys/a")
CHANGE = """
import sys
from pathlib import Path
from epgfn.base.replacing import replace_together
root = Path(sys.argv[1])
replace_together(root, {root / name: b"new" for name in sys.argv[2:]})
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "home"
    for name in NAMES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"old")
    return root


def change(root: Path, **environment: str) -> int:
    command = [sys.executable, "-c", CHANGE, str(root), *NAMES]
    return subprocess.run(command, env={**os.environ, **environment}, timeout=60).returncode


def found(root: Path) -> set[bytes]:
    return {(root / name).read_bytes() for name in NAMES}


def test_whatever_the_step_at_which_it_is_killed(root: Path, tmp_path: Path) -> None:
    log = tmp_path / "steps"
    assert change(root, EPGFN_FAILPOINT_LOG=str(log)) == 0 and found(root) == {b"new"}
    steps = log.read_text().splitlines()
    assert len(steps) > 10
    before, seen = True, dict.fromkeys(steps, 0)
    for step in steps:
        for name in NAMES:
            (root / name).write_bytes(b"old")
        seen[step] += 1
        assert change(root, EPGFN_FAILPOINT=f"kill:{seen[step]}:{step}") != 0, step
        finish_replacing(root)
        assert len(found(root)) == 1, step
        assert before or found(root) == {b"new"}, "and once it counts, it is not taken back"
        before = found(root) == {b"old"}
        replace_together(root, {root / NAMES[0]: b"old"})  # what was left does no harm
    assert not before
    assert sorted(p.name for p in root.iterdir()) == ["keys", "rounds"]
    assert all((root / name).stat().st_mode & 0o777 == 0o600 for name in NAMES[:1])
