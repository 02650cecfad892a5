"""Hosts that lose each other while a model is under way, and find each other again: both nodes get their receipts, and the run is audited.

Each in a network namespace of its own, which needs root on Linux. More partitions, and long ones, in `make soak`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from namespaces import why_not
from parted import COORDINATOR, PartedRound


def test_a_round_survives_partitions(tmp_path: Path) -> None:
    if reason := why_not():
        pytest.skip(reason)
    with PartedRound(tmp_path) as current:
        current.sent("a", 0.3)
        assert current.part("a", 1.0)
        current.sent("b", 0.5)
        assert current.part(COORDINATOR, 1.0)
        current.require()
