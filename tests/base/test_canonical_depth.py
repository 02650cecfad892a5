"""Canonical JSON from strangers: nesting is bounded, and refused for what it is."""

from __future__ import annotations

import time
import tracemalloc

import pytest

from epgfn.base.canonical import MAX_DEPTH, canonical_json, parse_canonical_json
from epgfn.base.errors import RefusedError


@pytest.mark.parametrize(("opens", "inner", "closes"), [("[", "", "]"), ('{"a":', "1", "}")])
def test_nesting_is_bounded(opens: str, inner: str, closes: str) -> None:
    def nested(depth: int) -> bytes:
        return (opens * depth + inner + closes * depth).encode()

    assert canonical_json(parse_canonical_json(nested(MAX_DEPTH))) == nested(MAX_DEPTH)
    for depth in (MAX_DEPTH + 2, 900, 100_000):
        with pytest.raises(RefusedError) as refused:
            parse_canonical_json(nested(depth))
        assert refused.value.reason == "malformed"


@pytest.mark.parametrize("piece", ["[],", '{"a":1},', "1,", '"\\\\",', "1e9,"])
def test_time_and_memory_are_linear_in_the_size(piece: str) -> None:
    for size in (1 << 12, 1 << 16, 1 << 20):
        raw = ("[" + piece * (size // len(piece)) + "1]").encode()
        tracemalloc.start()
        started = time.process_time()
        try:
            parse_canonical_json(raw)
        except RefusedError:
            pass
        finally:
            seconds, peak = time.process_time() - started, tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < (1 << 20) + 100 * size
        assert seconds < 0.5 + 20e-6 * size
