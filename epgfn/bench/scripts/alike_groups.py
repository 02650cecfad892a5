"""What noise of their own makes of groups that happen to be alike: an outcome of two that hangs on nothing, taken as a number, and how much
more probable (nats) it is with three independent categories as parents than with none, under both settings of `covariance`.

    python -m epgfn.bench.scripts.alike_groups
"""

from __future__ import annotations

import numpy as np
import torch

from epgfn.study.kinds.dag import MixedSettings
from epgfn.targets.conditional_gaussian import conditional_gaussian

WORLDS = 40
SIZES = (2, 3, 3)
SETS = torch.tensor([[False] * 4, [True, True, True, False]])


def gain(share: float, records: int, seed: int, covariance: str) -> float | None:
    """None: nobody has the outcome."""
    rng = np.random.default_rng(seed)
    categories = [rng.integers(0, size, records) for size in SIZES]
    event = (rng.random(records) < share) * 1.0
    if not event.any():
        return None
    x = torch.from_numpy(np.column_stack([*categories, (event - share) / np.sqrt(share * (1 - share))]))
    settings = MixedSettings.model_validate({"kind": "conditional-gaussian", "covariance": covariance})
    found = conditional_gaussian(x, torch.tensor([*SIZES, 0]), SETS, settings)[3]
    return float(found[1] - found[0])


def main() -> None:
    print("| an event in | records | common | own |")
    print("|---|---|---|---|")
    for share in (0.05, 0.15):
        for records in (60, 120, 250, 1000):
            each = [
                [g for seed in range(WORLDS) if (g := gain(share, records, seed, covariance)) is not None]
                for covariance in ("common", "own")
            ]
            print(
                f"| {share:.0%} | {records} | " + " | ".join(f"{np.mean(some):.1f}" for some in each) + " |"
            )


if __name__ == "__main__":
    main()
