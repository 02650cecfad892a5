"""Records that each show one letter, drawn from a sequence or from anywhere, from its earlier places more often:

    P(record = a | x) = (1 - signal) / A + signal sum over places i with x_i = a of w_i,   w_i = (1/i) / (1 + 1/2 + ... + 1/l),

l the length of x. The empty sequence shows every letter alike. Unequal weights of places are what tells a word from its anagrams.
"""

from __future__ import annotations

import torch
from torch import Tensor


def letter_probability(letters: Tensor, n_letters: int, signal: float) -> Tensor:
    """(B, L) int64 letters from 1 on and 0 for none -> (B, A) float64: how often a record shows each; rows sum to one."""
    weight = (letters > 0).double() / torch.arange(1, letters.shape[1] + 1)
    total = weight.sum(1, keepdim=True)
    shown = torch.zeros(len(letters), n_letters + 1, dtype=torch.float64).scatter_add(1, letters, weight)
    shown = torch.where(total > 0, shown[:, 1:] / total.clamp_min(1e-300), 1 / n_letters)
    return (1 - signal) / n_letters + signal * shown
