"""Where epgfn runs. Homes are held by POSIX locks, secrets kept by POSIX modes, and nobody has tried it anywhere else."""

from __future__ import annotations

import sys
from typing import Final

SYSTEMS: Final = {"linux": "Linux", "darwin": "macOS"}


def require_supported_system() -> None:
    """End the program on any other system, with one sentence: what would come later is a traceback about a module that is not there.

    Raises:
        SystemExit: this is another system; the sentence is its message, and 1 the process's exit code.
    """
    if sys.platform not in SYSTEMS:
        raise SystemExit(
            f"epgfn runs on {' and '.join(SYSTEMS.values())}, and this is {sys.platform}; on Windows, run it inside WSL, which is Linux"
        )
