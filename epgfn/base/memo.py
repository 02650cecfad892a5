"""Rows of numbers kept by key, so that what was worked out for a state is worked out once.

    memo = Memo(max_bytes=1 << 30)
    rows = memo.rows(keys, compute)      # compute(which) is asked for the new ones alone

Keys and rows lie in tensors: sorted runs that are merged as they grow, so that finding B keys among M costs about B log M and
adding them costs, over time, as little.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class _Run(NamedTuple):
    """Sorted (M,) int64 `keys`, and the (M, ...) `rows` that belong to them."""

    keys: Tensor
    rows: Tensor


class Memo:
    """At most about `max_bytes` of rows of one shape and dtype; when they are full, all are forgotten and kept anew. What
    would fill an eighth of that at once is not kept at all: moving it about would cost more than it saves."""

    def __init__(self, max_bytes: int = 1 << 30) -> None:
        self.max_bytes = max_bytes
        self.computed = 0
        self._runs: list[_Run] = []

    def rows(self, keys: Tensor, compute: Callable[[Tensor], Tensor]) -> Tensor:
        """The rows of (B, words) int64 `keys`: (B, ...).

        Args:
            compute: called with (M,) int64, the first places in `keys` of what is not yet kept, each distinct one once; gives
                its (M, ...) rows.
        """
        unique, inverse = torch.unique(mixed(keys), return_inverse=True)
        first = torch.empty(len(unique), dtype=torch.int64)
        first[inverse] = torch.arange(len(keys))
        run = _Run(unique, self._known(unique, first, compute))
        return run.rows[inverse]

    def _known(self, keys: Tensor, first: Tensor, compute: Callable[[Tensor], Tensor]) -> Tensor:
        missing = torch.ones(len(keys), dtype=torch.bool)
        found: list[tuple[Tensor, Tensor]] = []
        for run in self._runs:
            place = torch.searchsorted(run.keys, keys).clamp_max(len(run.keys) - 1)
            here = run.keys[place] == keys
            found.append((here, run.rows[place[here]]))
            missing &= ~here
        if bool(missing.any()):
            new = compute(first[missing])
            self.computed += len(new)
            found.append((missing, new))
            self._add(_Run(keys[missing], new))
        rows = found[-1][1].new_empty(len(keys), *found[-1][1].shape[1:])
        for here, values in found:
            rows[here] = values
        return rows

    def _add(self, run: _Run) -> None:
        if run.rows.nbytes > self.max_bytes / 8:
            return
        held = sum(r.rows.nbytes for r in self._runs)
        if held + run.rows.nbytes > self.max_bytes:
            self._runs.clear()
        while self._runs and len(self._runs[-1].keys) <= 2 * len(run.keys):
            other = self._runs.pop()
            keys, order = torch.cat([other.keys, run.keys]).sort()
            run = _Run(keys, torch.cat([other.rows, run.rows])[order])
        self._runs.append(run)


def mixed(keys: Tensor) -> Tensor:
    """(B, words) int64 -> (B,) int64: the word itself, or several mixed into one of 64 bits.

    Two of M different keys of several words get the same number with a chance of about M^2 / 2^65: one in 30 million for a
    million states. Mixing: splitmix64 (Steele, Lea & Flood, OOPSLA 2014).
    """
    if keys.shape[1] == 1:
        return keys[:, 0]
    out = torch.zeros(len(keys), dtype=torch.int64)
    for word in keys.T:
        out = (out ^ word) - 0x61C8864680B583EB
        out = (out ^ ((out >> 30) & 0x3FFFFFFFF)) * -0x40A7B892E31B1A47
        out = (out ^ ((out >> 27) & 0x1FFFFFFFFF)) * -0x6B2FB644ECCEEE15
        out = out ^ ((out >> 31) & 0x1FFFFFFFF)
    return out
