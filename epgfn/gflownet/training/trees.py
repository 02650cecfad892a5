"""Training towards any reward over rooted trees.

    space = Phylogeny(7)
    target = Jc69(space, codes, branch_length=0.1)
    result = train_trees(space, target.log_likelihood, seed=1)
    state, mass = terminating_mass(space, TreeNet(space, [result.tensors]))

Where the policy carries scores of splits, they are found by regression first (under a second for seven leaves, twenty
for twelve), and training learns the rest.
"""

from __future__ import annotations

import threading

import torch

from epgfn.gflownet.losses import make_loss
from epgfn.gflownet.policies import tree_net
from epgfn.gflownet.policies.split_regression import split_scores
from epgfn.gflownet.policies.tree_net import TreeNet
from epgfn.gflownet.rewards.remembered import Remembered
from epgfn.gflownet.rewards.rewards import checked, require_fits
from epgfn.gflownet.spaces.base import LogReward
from epgfn.gflownet.spaces.phylogeny import Phylogeny, State
from epgfn.gflownet.training.loop import LocalResult, Progress, Watch, fit
from epgfn.gflownet.training.on_reward import RewardSettings

DEFAULTS = RewardSettings(
    steps=1500, batch=128, learning_rate=2e-3, exploration=0.05, temperature=2.0, hidden=64
)


def train_trees(
    space: Phylogeny,
    log_reward: LogReward[State],
    *,
    seed: int,
    settings: RewardSettings = DEFAULTS,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> LocalResult:
    """A GFlowNet of kind `TreeNet` on p(tree) proportional to exp(log_reward(tree)); one thread and one seed, one result.

    Args:
        log_reward: finished trees (B) to (B,) log R in nats.

    Raises:
        UsageError: the objective or the target does not fit the space. EpgfnError: a score is not finite, training diverged, or `stop`
            was set.
    """

    def reward(state: State) -> torch.Tensor:
        return checked(remembered, state)

    require_fits(log_reward, space)
    remembered = Remembered(space, log_reward)
    generator = torch.Generator().manual_seed(seed)
    scores = split_scores(space, reward, generator) if tree_net.has_scores(space) else None
    policy = TreeNet(space, [tree_net.initial_tensors(space, settings.hidden, generator, scores)])
    loss = make_loss(space, reward, settings.objective, hidden=settings.hidden, generator=generator)
    history = fit(policy, space, settings, loss, generator, watch=Watch(progress, stop))
    return LocalResult(policy.tensors(), history)
