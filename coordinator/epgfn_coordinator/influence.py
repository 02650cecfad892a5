"""What a late model adds: how far its probabilities are from those of the model before it, in its summary before that is signed.

What leaving a node out changes is in no file: whoever wants to know compares two signed summaries (`epgfn.run.summary`).
"""

from __future__ import annotations

import json
from typing import Any

from epgfn.base.errors import EpgfnError
from epgfn.base.files import read_bytes, write_atomic
from epgfn.run.layout import SUMMARY
from epgfn.run.summary import MARGINAL_SAMPLES, distance, noise_of, probabilities_of, read_summary
from epgfn_coordinator.home import Home


def add_change(home: Home, place: str, before: str) -> float:
    """Put how far the model at `place` is from the one `before` into its summary; the mean change.

    Raises:
        EpgfnError: a summary is missing or damaged, or cannot be written.
    """
    summary = _summary(home, place)
    change = distance(probabilities_of(summary), probabilities_of(_summary(home, before)))
    summary["change"] = {
        "from": before,
        "samples": MARGINAL_SAMPLES,
        "sampling_noise": noise_of(summary),
        **change,
    }
    write_atomic(home.aggregate(place) / SUMMARY, (json.dumps(summary, indent=2) + "\n").encode("utf-8"))
    return float(change["mean"])


def _summary(home: Home, place: str) -> dict[str, Any]:
    path = home.aggregate(place) / SUMMARY
    try:
        value = read_summary(read_bytes(path, "summary"))
        probabilities_of(value)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise EpgfnError(f"{path} is damaged; restore it from a backup, then run serve again") from None
    return value
