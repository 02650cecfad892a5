"""Steps at which a test ends the process as a power cut would, or has the disk refuse: everything that changes what is on disk passes here.

    EPGFN_FAILPOINT=kill:2:renamed keys/tls.pem      SIGKILL when that step comes for the second time
    EPGFN_FAILPOINT=full:1:commit intake.Intake._accept      "no space left on device" instead of it, from then on
    EPGFN_FAILPOINT_LOG=FILE                         adds the name of each step to FILE

For tests alone (`tests/faults/`). Where neither is set, as in every other process, a step costs one comparison with None beside writes
that wait for the disk.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

WANTED: Final = "EPGFN_FAILPOINT"
LOG: Final = "EPGFN_FAILPOINT_LOG"
_ERRORS: Final = {"full": errno.ENOSPC, "readonly": errno.EROFS}
_CHOSEN_BY_CHANCE: Final = re.compile(r"[0-9a-f]{16,}|\d+")  # digests, and numbers of tiles
_IN_BETWEEN: Final = ("contextlib.py", "store.py", "failpoints.py")

_reached: Callable[[str], None] | None = None


def at(step: str, path: Path | None = None) -> None:
    """The process has come to `step`: before ("write", "remove", "commit") or after ("written", "renamed", "removed", "committed")
    something is changed on disk, in `path`, or, without one, by the code that calls.

    Raises:
        OSError: a test wants the disk to refuse.
    """
    if _reached is not None:
        _reached(f"{step} {_code() if path is None else _name(path)}")


def arm() -> None:
    """Do from now on what the environment says."""
    global _reached
    wanted, log = os.environ.get(WANTED, ""), os.environ.get(LOG, "")
    if not wanted and not log:
        _reached = None
        return
    mode, count, name = wanted.split(":", 2) if wanted else ("", "0", "")
    left, lock = int(count), threading.Lock()

    def reached(step: str) -> None:
        nonlocal left
        with lock:
            if log:
                with Path(log).open("a") as target:
                    target.write(step + "\n")
            if step != name:
                return
            left -= 1
            if left > 0:
                return
            if mode == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
        # The disk is full for every step of this name from now on, as long as this process runs.
        raise OSError(_ERRORS[mode], os.strerror(_ERRORS[mode]))

    _reached = reached


def _name(path: Path) -> str:
    """The file and its folder, without what is different each time."""
    return _CHOSEN_BY_CHANCE.sub("*", "/".join(path.parts[-2:]))


def _code() -> str:
    """The function outside of the state's own module that changes it."""
    frame = sys._getframe(2)
    while frame.f_back is not None and os.path.basename(frame.f_code.co_filename) in _IN_BETWEEN:
        frame = frame.f_back
    return f"{frame.f_globals['__name__'].split('.')[-1]}.{frame.f_code.co_qualname}"


arm()
