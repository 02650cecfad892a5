"""Made-up alignments and policies that several tests share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from epgfn.gflownet.policies.mlp_net import MlpNet, initial_tensors
from epgfn.gflownet.spaces import Phylogeny


def alignment_of(space: Phylogeny, sites: int, seed: int) -> Tensor:
    """Related sequences: each differs from the one before at a fifth of the sites."""
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randint(4, (sites,), generator=generator)]
    for _ in range(space.n_leaves - 1):
        keep = torch.rand(sites, generator=generator) < 0.8
        rows.append(torch.where(keep, rows[-1], torch.randint(4, (sites,), generator=generator)))
    return (1 << torch.stack(rows)).to(torch.uint8)


def random_policy(space: Any) -> MlpNet:
    """Far from uniform, its tensors in the order of a model file."""
    generator = torch.Generator().manual_seed(0)
    model = initial_tensors(space, 16, generator)
    model["net.2.weight"].normal_(generator=generator)
    return MlpNet(space, [dict(sorted(model.items()))])
