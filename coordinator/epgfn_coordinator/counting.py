"""Counts of what happens, from the start of the process; `metrics.py` shows them to whoever may see them.

Labels are states and reasons of ours: nothing that a caller could choose.
"""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector

from epgfn.base.errors import RefusedError

REGISTRY: Final = CollectorRegistry()
ENDED: Final = Counter(
    "epgfn_calls_refused", "Calls that ended without an answer, by our reason.", ["reason"], registry=REGISTRY
)
RECEIVED: Final = Counter(
    "epgfn_received_bytes", "Bytes of sealed models that came in and were kept.", registry=REGISTRY
)
SENT: Final = Counter("epgfn_sent_bytes", "Bytes of global models that went out.", registry=REGISTRY)
STEP: Final = Gauge(
    "epgfn_training_step",
    "Steps of the training that is under way, or was last.",
    ["phase"],
    registry=REGISTRY,
)
STEPS: Final = Gauge("epgfn_training_steps", "How many it has in all.", ["phase"], registry=REGISTRY)
ProcessCollector(registry=REGISTRY)


def count_ended(error: Exception) -> None:
    """A call ended with `error`: by our reason where it has one, as trouble of our own where it has none."""
    ENDED.labels(error.reason if isinstance(error, RefusedError) else "internal").inc()


def count_step(phase: str, step: int, steps: int) -> None:
    """Training of this phase has come to `step` of `steps`."""
    STEP.labels(phase).set(step)
    STEPS.labels(phase).set(steps)
