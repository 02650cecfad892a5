"""An order potential for any number of variables: what is left to add is completed in a few good reference orders.

    L(S) ~ log sum over m of exp sum over j outside S of a_j(S + {those before j in order m}),

with a_j(U) = log of the sum over Pa within U and the C candidates of j of exp phi_j(Pa). The candidates are the parents that matter most
to j, so a_j is a table of 2^C numbers, and a state costs M * V * C look-ups. Where the potential over all 2^V subsets would be too
large, this is within a few nats of it near good orders, and the policy's network learns the rest.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from epgfn.gflownet.spaces.dag_by_sinks import DagBySinks

CANDIDATES = 10
ORDERS = 16
SEARCH_STEPS = 100


class Completion(NamedTuple):
    """`candidates` (V, C) int64; `sums` (V, 2^C) float64 a_j by which candidates are there; `before` (M, V) int64, the candidates
    of j that come before j in each order, as bits."""

    candidates: Tensor
    sums: Tensor
    before: Tensor


def candidate_sums(space: DagBySinks, table: Tensor) -> tuple[Tensor, Tensor]:
    """The candidates (V, C) of each variable and a_j (V, 2^C) float64, from (V, K) scores in nats."""
    v, c = space.n_variables, min(CANDIDATES, space.n_variables - 1)
    scores = table.double().masked_fill(space.parents.T, -torch.inf)
    use = torch.stack([scores[:, holds].logsumexp(1) for holds in space.parents.T], 1)  # (V, V): with i
    use = use.fill_diagonal_(-torch.inf)
    candidates = use.topk(c, dim=1).indices
    sums = torch.full((v, 1 << c), -torch.inf, dtype=torch.float64)
    for j in range(v):
        inside = space.parents[:, candidates[j]]
        whole = inside.sum(1) == space.parents.sum(1)  # nothing but candidates
        key = (inside[whole] * (1 << torch.arange(c))).sum(1)
        sums[j, key] = scores[j, whole]
    for bit in range(c):
        halves = sums.view(v, -1, 2, 1 << bit)
        torch.logaddexp(halves[:, :, 1], halves[:, :, 0], out=halves[:, :, 1])
    return candidates, sums


def before(candidates: Tensor, ranks: Tensor) -> Tensor:
    """Candidates that come before their variable: (V, C), ranks (M, V) of any kind of number -> (M, V) int64 bits."""
    earlier = ranks[:, candidates] < ranks[:, :, None]  # (M, V, C)
    return (earlier * (1 << torch.arange(candidates.shape[1]))).sum(2)


@torch.no_grad()
def search_orders(space: DagBySinks, table: Tensor, generator: torch.Generator) -> Tensor:
    """(M, V) float32 ranks of M good orders: from random ones, the best move of one variable to another place, step by step."""
    candidates, sums = candidate_sums(space, table)
    v = space.n_variables
    ranks = torch.rand(ORDERS, v, generator=generator).argsort(1).argsort(1).float()
    columns = torch.arange(v)
    one = torch.eye(v, dtype=torch.bool)
    places = torch.arange(v + 1) - 0.5  # between two others, or at an end
    for _ in range(SEARCH_STEPS):
        moved = torch.where(one[:, None], places[None, :, None], ranks[:, None, None])  # (M, V, V + 1, V)
        flat = moved.flatten(0, 2)
        score = torch.cat(
            [sums[columns, before(candidates, part)].sum(1) for part in torch.split(flat, 4096)]
        )
        best = score.view(ORDERS, -1).argmax(1)
        after = flat.view(ORDERS, -1, v)[torch.arange(ORDERS), best].argsort(1).argsort(1).float()
        gained = score.view(ORDERS, -1).amax(1) > sums[columns, before(candidates, ranks)].sum(1) + 1e-9
        if not bool(gained.any()):
            break
        ranks = torch.where(gained[:, None], after, ranks)
    return ranks


def completion(space: DagBySinks, table: Tensor, ranks: Tensor) -> Completion:
    """What `log_completions` needs, from (V, K) scores and (M, V) ranks."""
    candidates, sums = candidate_sums(space, table)
    return Completion(candidates, sums, before(candidates, ranks))


def log_completions(parts: Completion, members: Tensor) -> Tensor:
    """L(S + k) for all k outside S: (B, V) bool -> (B, V) float64; what stands at members means nothing."""
    candidates, sums, earlier = parts
    v, bits = len(candidates), 1 << torch.arange(candidates.shape[1])
    columns, outside = torch.arange(v), ~members
    key = (members[:, candidates] * bits).sum(2)[:, None] | earlier  # (B, M, V)
    base = sums[columns, key] * outside[:, None]
    more = sums[columns[:, None], key[:, :, :, None] | bits] - sums[columns, key][:, :, :, None]
    more = (more * outside[:, None, :, None]).flatten(2)  # (B, M, V * C): what j gains from each candidate
    belongs = torch.nn.functional.one_hot(candidates.flatten(), v).double()
    whole = base.sum(2, keepdim=True) - base + more @ belongs  # (B, M, V)
    return whole.logsumexp(1)
