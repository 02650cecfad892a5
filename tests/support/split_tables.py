"""Tables of splits (`epgfn.gflownet.policies.split_table`) at random."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from epgfn.gflownet.measure.tree_chains import Parts
from epgfn.gflownet.policies.split_table import tables
from epgfn.gflownet.sampling.random_walk import finished_at_random
from epgfn.gflownet.spaces import Phylogeny


def drawn_tensors(space: Phylogeny, seed: int, trees: int = 30) -> dict[str, Tensor]:
    """A model with the splits of some random trees, scores at random, and most of the pairs."""
    random, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    parts = Parts.of(finished_at_random(space, trees, generator))
    splits = sorted(set(zip(parts.whole.ravel().tolist(), parts.right.ravel().tolist(), strict=True)))
    row = {split: number for number, split in enumerate(splits)}
    pairs = set()
    for whole, right, above in zip(*parts, strict=True):
        each = [row[split] for split in zip(whole.tolist(), right.tolist(), strict=True)]
        pairs |= {(each[up], each[k]) for k, up in enumerate(above) if up >= 0 and random.random() < 0.7}
    whole, right = np.array(splits, np.uint64).T
    listed = np.array(sorted(pairs), np.int64)
    scores = random.normal(0, 2, len(splits)), random.normal(0, 2, len(listed))
    return tables.written(space, whole, right, scores[0], listed, scores[1], 0.25)
