"""Loading what checks and trains models, which takes seconds: once, by one thread.

Threads that import modules of one cycle from different ends wait for one another, and Python ends one of them with an error.
"""

from __future__ import annotations

import threading
from typing import Final

_ONE: Final = threading.Lock()


def load() -> None:
    """From then on an import of any of it in any thread finds it there."""
    with _ONE:
        from epgfn_coordinator import publication

        del publication
