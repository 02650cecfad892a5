"""Phylogeny from many sites: five nodes with a fifth of them each against one model that sees them all. Behind `docs/aggregation.md`.

python -m epgfn.bench.scripts.more_sites TAXA SITES BRANCH_LENGTH STEPS LOCAL_STEPS...

One model on all sites for each number in STEPS (comma-separated); five local ones for each pair LOCAL:GLOBAL, and the global one on
their product. L1 is exact up to seven taxa, by a sweep over all trees; beyond that it is estimated from trees drawn of the model
itself, sum over x of |p_T - p| = E |1 - p(x) / p_T(x)| under p_T, with Z from the same trees and p_T from 64 ways back.
Nodes train at the same time on machines of their own, so that the federated time is the slowest local one and the global one.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import torch

from epgfn.bench.aggregate import node_seed
from epgfn.bench.products.federation import Federation
from epgfn.bench.products.trees import phylogeny
from epgfn.bench.products.yardsticks import ListedProduct
from epgfn.gflownet.measure.diagnostics import log_terminating
from epgfn.gflownet.policies.base import Policy
from epgfn.gflownet.product import FrozenProduct, train_product
from epgfn.gflownet.sampling.rollout import sample
from epgfn.gflownet.spaces import Phylogeny

SEED, LISTED, DRAWN, WAYS = 1, 7, 500, 64


def main(
    taxa: int, sites: int, branch_length: float, central: list[int], pairs: list[tuple[int, int]]
) -> None:
    """Print one row for each number of steps of the centralised model, and for each pair of local and global ones."""
    torch.set_num_threads(1)
    federation = phylogeny(taxa, sites, branch_length)
    everyone = range(federation.nodes)
    print("| Steps | L1 | Time, CPU-s | All CPU-s |\n|---|---|---|---|")
    for steps in central:
        policy, spent = timed(federation.train, everyone, SEED, steps)
        print(
            f"| centralised {steps} | {error(federation, policy):.4f} | {spent:.1f} | {spent:.1f} |",
            flush=True,
        )
    for local, together in pairs:
        found = [timed(federation.train, [node], node_seed(SEED, node), local) for node in everyone]
        seconds = [spent for _, spent in found]
        policy, spent = timed(aggregated, federation, [policy for policy, _ in found], together)
        print(
            f"| {local} + {together} | {error(federation, policy):.4f} | {max(seconds):.1f} + {spent:.1f} = "
            f"{max(seconds) + spent:.1f} | {sum(seconds) + spent:.1f} |",
            flush=True,
        )


def timed(what: Any, *arguments: Any) -> tuple[Any, float]:
    """What it gives, and its CPU-seconds."""
    begun = time.process_time()
    answer = what(*arguments)
    return answer, time.process_time() - begun


def aggregated(federation: Federation, policies: list[Policy[Any]], steps: int) -> Policy[Any]:
    """The global model of these local ones."""
    models = [policy.tensors() for policy in policies]
    policy = federation.start(models, SEED)
    product = FrozenProduct(federation.space, federation.make(models))
    generator = torch.Generator().manual_seed(SEED)
    train_product(policy, product, federation.settings_for(steps), generator, objective=federation.objective)
    return policy


@torch.no_grad()
def error(federation: Federation, policy: Policy[Any]) -> float:
    """L1 against the product of all rewards, exact or estimated."""
    yardstick, space = federation.yardstick, federation.space
    assert isinstance(space, Phylogeny)
    if isinstance(yardstick, ListedProduct) and space.n_leaves <= LISTED:
        return yardstick.errors(yardstick.of_policy(policy))["l1"]
    generator = torch.Generator().manual_seed(SEED)
    final = sample(policy, space, DRAWN, generator=generator).trajectories.final
    log_pt = log_terminating(policy, space, final, WAYS, generator)[0][0].double()
    log_weight = torch.stack([f(final).double() for f in federation.log_rewards]).sum(0) - log_pt
    return float(((log_weight - log_weight.logsumexp(0)).exp() * DRAWN - 1).abs().mean())


if __name__ == "__main__":
    pairs = [tuple(int(x) for x in pair.split(":")) for pair in sys.argv[5:]]
    steps = [int(x) for x in sys.argv[4].split(",")]
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), steps, [(a, b) for a, b in pairs])
