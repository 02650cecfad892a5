"""How a process that trains talks to `epgfn bench speed`: a number of steps on a line in, what they cost on a line out.

`for n in blocks(): ...` does n steps each time round; when no more are wanted, `say` gives the last word. Lines out are JSON.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RESULTS = sys.stdout
JUDGED = 1024
"""Fresh trajectories behind the loss of a trained model."""
MOST_LISTED = 1 << 20
"""Positions of a grid up to which its exact distribution is worked out."""


def say(**fields: Any) -> None:
    """One line to the process that asked."""
    print(json.dumps(fields), file=RESULTS, flush=True)


def blocks() -> Iterator[int]:
    """How many steps to do, again and again. Says `cpu_s` of each block and, after the last, `peak_rss_mb`."""
    say(ready=True)
    for line in sys.stdin:
        if line.strip() == "end":
            break
        start = time.process_time()
        yield int(line)
        say(cpu_s=time.process_time() - start)
    say(peak_rss_mb=peak_rss_mb())


def peak_rss_mb() -> float:
    """Most memory this process has held, MiB. On Linux not from getrusage, which there counts the parent's memory too."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # bytes on macOS
