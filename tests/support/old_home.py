"""The home of a node that was written before the modules moved, as its owner would have it: nobody else may read it."""

from __future__ import annotations

import shutil
from pathlib import Path

KEPT = Path(__file__).parents[1] / "node" / "before_the_move" / "north"


def old_home(folder: Path) -> Path:
    """A copy in `folder` with the modes that version control does not keep."""
    home = folder / "north"
    shutil.copytree(KEPT, home)
    for path in home.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    home.chmod(0o700)
    return home
