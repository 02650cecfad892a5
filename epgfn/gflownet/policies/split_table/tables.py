"""What a model file of a split table holds, whether it may, and how it is read.

split.leaves (M, 2 W)   clade and second part of each split, words of 16 leaves; rows of zeros at the end where there are fewer splits
split.score  (M,)       nats
pair.rows    (Q, 2)     a split and a split of one of its parts, by their rows; zeros at the end where there are fewer pairs
pair.score   (Q,)       nats
error        (1,)       by how much the node says that its log-rewards and its model's log-probabilities differ, nats
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from epgfn.base.errors import RefusedError
from epgfn.base.lazily import Lazy
from epgfn.gflownet.policies.spec import TensorSpec
from epgfn.gflownet.spaces.phylogeny import Phylogeny

if TYPE_CHECKING:
    from epgfn.gflownet.policies.split_table import kernels
    from epgfn.gflownet.policies.split_table.kernels import Floats, Tables, Words
else:
    kernels = Lazy("epgfn.gflownet.policies.split_table.kernels")

LEAVES, SCORE, PAIRS, PAIR_SCORE, ERROR = "split.leaves", "split.score", "pair.rows", "pair.score", "error"
MAX_SPLITS, MAX_PAIRS = 1 << 17, 1 << 19
WORD: Final = 16
MOST_SUMS: Final = 300_000_000
"""Terms of all flows, each split summed over all splits of its parts: seconds. Models of real data have some millions."""


def room(n_leaves: int) -> tuple[int, int]:
    """How many splits and pairs a model has room for: all splits there are, where that is less."""
    every = (3**n_leaves - 2 ** (n_leaves + 1) + 1) // 2
    splits = min(MAX_SPLITS, every)
    return splits, min(MAX_PAIRS, 4 * splits)


def spec(space: Phylogeny) -> dict[str, TensorSpec]:
    """Tensors of one model."""
    splits, pairs = room(space.n_leaves)
    words = -(-space.n_leaves // WORD)
    return {
        LEAVES: TensorSpec((splits, 2 * words), "float32"),
        SCORE: TensorSpec((splits,), "float32"),
        PAIRS: TensorSpec((pairs, 2), "float32"),
        PAIR_SCORE: TensorSpec((pairs,), "float32"),
        ERROR: TensorSpec((1,), "float32"),
    }


def written(
    space: Phylogeny,
    whole: Words,
    right: Words,
    score: Floats,
    pairs: npt.NDArray[np.int64],
    pair_score: Floats,
    error: float,
) -> dict[str, Tensor]:
    """Tensors of M splits and (Q, 2) `pairs` of their rows, both in any order, as many as there is room for.

    Raises:
        ValueError: there are more.
    """
    tensors = {name: torch.zeros(entry.shape) for name, entry in spec(space).items()}
    if len(whole) > len(tensors[SCORE]) or len(pairs) > len(tensors[PAIR_SCORE]):
        raise ValueError("more splits or pairs than a model has room for")
    sizes = np.bitwise_count(whole)
    order = np.lexsort((right, whole, sizes))
    words = [_words(part[order], space.n_leaves) for part in (whole, right)]
    tensors[LEAVES][: len(order)] = torch.from_numpy(np.concatenate(words, 1).astype(np.float32))
    tensors[SCORE][: len(order)] = torch.from_numpy(score[order].astype(np.float32))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    rows = place[pairs]
    pair_order = np.lexsort((rows[:, 1], rows[:, 0]))
    tensors[PAIRS][: len(rows)] = torch.from_numpy(rows[pair_order].astype(np.float32))
    tensors[PAIR_SCORE][: len(rows)] = torch.from_numpy(pair_score[pair_order].astype(np.float32))
    tensors[ERROR][0] = error
    return tensors


def read(space: Phylogeny, tensors: Mapping[str, Tensor]) -> Tables:
    """The tables of tensors that `check` lets pass, without their flows."""
    leaves = tensors[LEAVES].detach().cpu().numpy()
    whole, right = (_masks(part) for part in np.split(leaves, 2, axis=1))
    used = int((whole != 0).sum())
    whole, right = whole[:used], right[:used]
    clade, first = _grouped(whole)
    slots = np.full(1 << max(4, math.ceil(math.log2(3 * len(clade) + 1))), -1, np.int32)
    kernels.fill_slots(clade, slots)
    child = np.empty((used, 2), np.int32)
    kernels.children_of(clade, first, right, slots, child)
    rows = tensors[PAIRS].detach().cpu().numpy().astype(np.int64)
    pairs = int((rows[:, 1] != rows[:, 0]).sum())
    return kernels.Tables(
        clade,
        first,
        right,
        child,
        tensors[SCORE].detach().cpu().double().numpy()[:used].copy(),
        np.searchsorted(rows[:pairs, 0], np.arange(used + 1)).astype(np.int64),
        rows[:pairs, 1].astype(np.int32),
        tensors[PAIR_SCORE].detach().cpu().double().numpy()[:pairs].copy(),
        np.zeros(len(clade)),
        np.zeros((used, 2)),
        slots,
        *_counts(space.n_leaves),
    )


def check(space: Phylogeny, tensors: Mapping[str, Tensor]) -> None:
    """One table has one file, and nothing can be hidden in it.

    Raises:
        RefusedError: `model-illegal-score`.
    """
    n = space.n_leaves
    leaves = tensors[LEAVES].cpu().double().numpy()
    rows = tensors[PAIRS].cpu().double().numpy()
    score, pair_score = tensors[SCORE].cpu().numpy(), tensors[PAIR_SCORE].cpu().numpy()
    error = float(tensors[ERROR][0])
    if not ((leaves >= 0) & (leaves < 1 << WORD) & (leaves == np.floor(leaves))).all():
        raise _illegal("holds a set of leaves that is none")
    if not ((rows >= 0) & (rows < len(score)) & (rows == np.floor(rows))).all():
        raise _illegal("names a split that is not there")
    whole, right = (_masks(part) for part in np.split(leaves, 2, axis=1))
    used = int((whole != 0).sum())
    every = np.uint64((1 << n) - 1)
    below = whole & (whole - np.uint64(1))  # all but the smallest leaf
    proper = (right != 0) & (right & ~below == 0) & (whole & ~every == 0)
    key = list(
        zip(
            np.bitwise_count(whole[:used]).tolist(), whole[:used].tolist(), right[:used].tolist(), strict=True
        )
    )
    if not (proper[:used].all() and not whole[used:].any() and not right[used:].any()):
        raise _illegal("holds a split that is none")
    if any(one >= other for one, other in itertools.pairwise(key)) or score[used:].any():
        raise _illegal("holds splits out of order")
    above, row = rows.astype(np.int64).T
    pairs = int((above != row).sum())
    if above[pairs:].any() or row[pairs:].any() or pair_score[pairs:].any() or (rows[:pairs] >= used).any():
        raise _illegal("holds pairs out of order")
    above, row = above[:pairs], row[:pairs]
    if (np.diff(above * len(score) + row) <= 0).any():
        raise _illegal("holds pairs out of order")
    part = whole[row]
    if not ((part == right[above]) | (part == whole[above] & ~right[above])).all():
        raise _illegal("holds a pair of splits that are not one below the other")
    sums = dict(zip(*np.unique(whole[:used], return_counts=True), strict=True))
    below_each = (whole[:used] & ~right[:used], right[:used])
    if sum(sums.get(part, 0) for parts in below_each for part in parts) > MOST_SUMS:
        raise _illegal("has more splits of clades below others than can be summed over")
    if error < 0:
        raise _illegal("states an error below nothing")


def _illegal(what: str) -> RefusedError:
    return RefusedError("model-illegal-score", f"the model's table of splits {what}; train it again")


def _words(masks: Words, n_leaves: int) -> npt.NDArray[np.uint64]:
    """(M,) to (M, W)."""
    shifts = np.arange(-(-n_leaves // WORD), dtype=np.uint64) * np.uint64(WORD)
    found: npt.NDArray[np.uint64] = (masks[:, None] >> shifts) & np.uint64((1 << WORD) - 1)
    return found


def _masks(words: npt.NDArray[np.floating]) -> Words:
    """(M, W) to (M,)."""
    shifts = np.arange(words.shape[1], dtype=np.uint64) * np.uint64(WORD)
    found: Words = (words.astype(np.uint64) << shifts).sum(1, dtype=np.uint64)
    return found


def _grouped(whole: Words) -> tuple[Words, npt.NDArray[np.int64]]:
    """Each clade of (M,) neighbouring ones once, and where it begins."""
    new = np.ones(len(whole), bool)
    new[1:] = whole[1:] != whole[:-1]
    first = np.nonzero(new)[0]
    return whole[first].copy(), np.append(first, len(whole)).astype(np.int64)


@lru_cache(maxsize=4)
def _counts(n_leaves: int) -> tuple[Floats, Floats]:
    """`log_trees` and `binomial` of `Tables`."""
    log_trees = np.zeros(n_leaves + 1)
    for k in range(2, n_leaves + 1):
        log_trees[k] = log_trees[k - 1] + math.log(2 * k - 3)
    binomial = np.full((n_leaves + 1, n_leaves + 1), -math.inf)
    for k in range(n_leaves + 1):
        for j in range(k + 1):
            binomial[k, j] = math.log(math.comb(k, j))
    return log_trees, binomial
