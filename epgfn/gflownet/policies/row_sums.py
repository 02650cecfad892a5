"""A first layer whose inputs are sums of K rows of one fixed table, as one-hot features are: (B, K) numbers of rows -> (B, H).

Of F features each state then reads K rows of the table times the weights instead of multiplying all F numbers, most of them zeros. The
gradient in the table is again a sum of rows, of the gradients of the states that read each of its rows.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from epgfn.gflownet.device import CPU
from epgfn.gflownet.spaces.base import InRows, Space


class RowTable:
    """R rows of F features, few of which are not zero."""

    def __init__(self, features: Tensor) -> None:
        """`features` (R, F) float32."""
        self.n_rows = len(features)
        identity = torch.equal(features, torch.eye(*features.shape))
        self._features = None if identity else features.to_sparse().coalesce()
        self._back = None if identity else features.T.to_sparse().coalesce()

    def times(self, weight: Tensor) -> Tensor:
        """(R, H) the rows times (F, H) weights."""
        return weight if self._features is None else torch.sparse.mm(self._features, weight)

    def gradient(self, rows: Tensor, grad: Tensor) -> Tensor:
        """(F, H) of the weights, from (B, H) of the states that are sums of `rows` (B, K)."""
        of_rows = sum_of_rows(grad, *_readers(rows, self.n_rows))
        return of_rows if self._back is None else torch.sparse.mm(self._back, of_rows)


_tables: WeakKeyDictionary[Space[Any], RowTable] = WeakKeyDictionary()


def row_table(space: Space[Any]) -> RowTable | None:
    """Of `space`, made once; None where its features are no such sums, and on other devices than processors, where products are fast."""
    if not isinstance(space, InRows) or torch.get_default_device() != CPU:
        return None
    if space not in _tables:
        _tables[space] = RowTable(space.row_features())
    return _tables[space]


def sums(table: Tensor, rows: Tensor) -> Tensor:
    """(B, H): row by row the sum of `table` (R, H) at `rows` (B, K)."""
    start = torch.arange(0, rows.numel(), rows.shape[1])
    return sum_of_rows(table, rows.flatten(), start)


def sum_of_rows(table: Tensor, which: Tensor, start: Tensor) -> Tensor:
    """(B, H): the i-th is the sum of `table` at `which` (M,) from `start[i]` on to before `start[i + 1]`; nothing at all is 0."""
    found: Tensor = torch.embedding_bag(table, which, start)[0]
    return found


def _readers(rows: Tensor, n_rows: int) -> tuple[Tensor, Tensor]:
    """The states that read each row, row after row, and where those of a row begin."""
    flat = rows.flatten().numpy()
    small = flat.astype(
        np.uint16 if n_rows <= 1 << 16 else np.int64
    )  # short numbers are sorted digit by digit
    order = small.argsort(kind="stable") // rows.shape[1]
    start = np.zeros(n_rows, dtype=np.int64)
    np.bincount(small, minlength=n_rows)[:-1].cumsum(out=start[1:])
    return torch.from_numpy(order), torch.from_numpy(start)
