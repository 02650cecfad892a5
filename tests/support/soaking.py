"""Shared by the `soak_*.py` files: how long each goes on, and its chance. `make soak` runs them, `make test` does not."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator

FILES = 5
MINUTES = float(os.environ.get("SOAK_MINUTES", "10"))
SEED = int(os.environ.get("SOAK_SEED", str(random.SystemRandom().randrange(1 << 32))))


def rounds(what: str) -> Iterator[tuple[int, random.Random]]:
    """The number of a round and its own chance, for a share of `SOAK_MINUTES`, but at least one.

    `SOAK_SEED=...` plays the same choices again, though not the same timing.
    """
    print(f"\n{what}: {MINUTES / FILES:.1f} minutes, SOAK_SEED={SEED}", flush=True)
    end, number = time.monotonic() + 60 * MINUTES / FILES, 0
    while number == 0 or time.monotonic() < end:
        yield number, random.Random(f"{SEED} {what} {number}")
        number += 1
    print(f"{what}: {number} rounds", flush=True)
