"""File descriptors: how many this process may have open, and how many of them are for connections. The rest is kept for the disk."""

from __future__ import annotations

import contextlib
import errno
import resource
from typing import Final

WANTED: Final = 8192
KEPT: Final = 256  # for the state, the ledger, uploads, models and libraries; no connection gets one of them
PER_CONNECTION: Final = 3  # the one from outside, and both ends of the one to gRPC
FEWEST: Final = 8  # connections, however few descriptors there are
SPENT: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
"""What the system says when it has no more of them, or no memory for one."""


def raise_limit() -> int:
    """Raise the soft limit of open files to `WANTED`, or as far as the hard one allows; the limit then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = WANTED if hard == resource.RLIM_INFINITY else min(WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        with contextlib.suppress(OSError, ValueError):  # macOS has a lower one that it does not tell
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            soft = most
    return WANTED if soft == resource.RLIM_INFINITY else soft


def connections(limit: int) -> int:
    """How many connections there may be at once with `limit` descriptors."""
    return max(FEWEST, (limit - min(KEPT, limit // 2)) // PER_CONNECTION)
