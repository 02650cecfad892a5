"""Our Adam takes torch's steps, without torch's compiler."""

from __future__ import annotations

import subprocess
import sys

import torch

from epgfn.gflownet.training.adam import Adam

START = """
import sys, torch
from epgfn.gflownet.training.adam import Adam
x = torch.ones(3)
optimiser = Adam([([x], 0.1)])
x.sum().backward()
optimiser.step(1.0)
sys.exit("torch._dynamo" in sys.modules)
"""


def test_it_takes_the_steps_of_torchs_class() -> None:
    ours, theirs = ([torch.ones(5, 3), torch.zeros(2)] for _ in range(2))
    adam = Adam([([ours[0]], 0.1), ([ours[1]], 0.01), ([], 1.0)])
    groups = [
        {"params": [theirs[0].requires_grad_()], "lr": 0.1},
        {"params": [theirs[1].requires_grad_()], "lr": 0.01},
    ]
    reference = torch.optim.Adam(groups)
    for step in range(8):
        share = 1 / (1 + step)
        for group, rate in zip(reference.param_groups, (0.1, 0.01), strict=True):
            group["lr"] = rate * share
        adam.forget_gradients()
        reference.zero_grad()
        for tensors in (ours, theirs):
            loss = (tensors[0] - step).pow(4).sum()
            if step != 3:  # once the second tensor has no gradient
                loss = loss + tensors[1].sin().sum() + tensors[1].sum()
            loss.backward()
        adam.step(share)
        reference.step()
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_starting_it_loads_no_compiler() -> None:
    assert subprocess.run([sys.executable, "-c", START], timeout=300).returncode == 0
