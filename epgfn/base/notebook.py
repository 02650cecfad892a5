"""Progress in notebooks: a bar of tqdm's, where Python runs in one and tqdm is installed; nothing anywhere else."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

KERNEL = "ipykernel"
"""What a notebook's Python has loaded."""


def notebook_bar(called: str) -> Callable[[Any], None] | None:
    """What follows `epgfn.gflownet.training.loop.TrainingProgress` with a bar; None where no notebook would show it."""
    if KERNEL not in sys.modules:
        return None
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return None
    bar = tqdm(desc=called, unit=" steps")

    def tell(done: Any) -> None:
        # How many steps are planned may grow while a model is not good yet.
        bar.total = done.steps
        bar.set_postfix(loss=f"{done.loss:.3g}", refresh=False)
        bar.update(done.step - bar.n)
        if done.step >= done.steps:
            bar.refresh()

    return tell
