"""A node's first model may arrive while the coordinator still loads what checks it."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import sys, threading
from epgfn_coordinator import loading
from epgfn_coordinator.verify import Verifier
def check():
    try:
        Verifier.policy(object(), b"", "a", None, b"")
    except AttributeError:  # it is no verifier: it came as far as asking for its study
        print("came to the model")
thread = threading.Thread(target=check)
with loading._ONE:  # as if another thread were loading
    thread.start()
    thread.join(0.5)
    assert thread.is_alive() and "epgfn.learn.policy" not in sys.modules
thread.join()
assert "epgfn_coordinator.publication" in sys.modules
"""


def test_a_check_imports_nothing_while_another_thread_does() -> None:
    """Two threads that import one cycle of modules from different ends wait for one another: the node was told of an internal error."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0 and "came to the model" in done.stdout, done.stderr
