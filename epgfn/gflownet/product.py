"""The product of N frozen local models as a target: what aggregation trains towards. No reward is seen.

    product = FrozenProduct(space, MlpNet(space, local_models), together=True)
    train_product(policy, product, settings, generator, objective="aggregating")

All N models are evaluated together as one stack, each distinct state once; only the sum over n is kept, so memory does not
grow with N, nor does time once the states are known.

Three losses, all zero where the global model samples the product:

aggregating            AB over whole trajectories: sum_n [log p_F^n(tau) - log p_B(tau | x)]                     any space
aggregating-edges      AB edge by edge, free of flows                                    where every state may stop
aggregating-marginal   AB with that sum averaged over several backward trajectories into the same object         any space

Where policies are made of score tables, log R_n of each node is in its own; `aggregating-scores` then trains on their sum, and not here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final, Generic

import torch
from torch import Tensor

from epgfn.base.errors import EpgfnError, UsageError
from epgfn.base.memo import Memo
from epgfn.gflownet.device import seeded
from epgfn.gflownet.losses import aggregating_modified_detailed_balance, robust_contrastive_balance
from epgfn.gflownet.losses.base import CONTRASTIVE_DELTA, EDGE_DELTA, BatchLoss, Loss
from epgfn.gflownet.losses.modified_detailed import edges_of
from epgfn.gflownet.measure.diagnostics import log_ratios
from epgfn.gflownet.policies.base import OneWay, Policy
from epgfn.gflownet.sampling.rollout import (
    Draw,
    Evaluated,
    Rollout,
    Trajectories,
    evaluate,
    sample,
    sample_backward,
)
from epgfn.gflownet.spaces.base import LogReward, Space, State, take
from epgfn.gflownet.training.loop import LoopSettings, Options, Parts, Progress, Watch, fit

AGGREGATING_LOSSES = ("aggregating", "aggregating-edges", "aggregating-marginal")
SCORES: Final = "aggregating-scores"
"""Contrastive balance towards the sum of the nodes' score tables."""
DRAWS = 4
"""Trajectories into each object that `aggregating-marginal` averages over."""


class UnusableFactors(EpgfnError):
    """Models of a product, by their number in the stack, that give an object which the others allow no probability, or no number."""

    def __init__(self, numbers: list[int]) -> None:
        super().__init__(
            "a local model gives an object the others allow no probability at all; ask that node to train again"
        )
        self.numbers = numbers


class FrozenProduct(Generic[State]):
    """N local policies as one target.

    Args:
        policy: the stack, `policy.n_models` = N. It is never trained.
        log_prior: states to (B,) nats added to the product: what absent nodes would have added of the public prior. Asked of
            finished objects; of any state too for `aggregating-edges`.
        key: (B, words) int64 of B states, equal only where the policy's choices are; default the space's own.
        together: the policy takes states of different steps at once and lists all actions in order.
        max_bytes: memory for what is kept.
    """

    def __init__(
        self,
        space: Space[State],
        policy: Policy[State],
        *,
        log_prior: LogReward[State] | None = None,
        key: Callable[[State], Tensor] | None = None,
        together: bool = False,
        max_bytes: int = 1 << 30,
    ) -> None:
        self.space = space
        self.policy = policy
        self.log_prior = log_prior
        self._key = key or space.key
        self._together = together
        self._max_bytes = max_bytes if together else max_bytes // space.max_steps
        self._memos: dict[int, Memo] = {}

    @property
    def computed(self) -> int:
        """Distinct states that the local models were asked about so far."""
        return sum(memo.computed for memo in self._memos.values())

    @torch.no_grad()
    def summed(self, trajectories: Trajectories[State]) -> Evaluated:
        """sum over n of log p_F^n: one model's worth of `Evaluated`, `log_pf` and `log_stop` (1, T, B) float32."""
        active = trajectories.active
        log_pf = torch.zeros(active.shape, dtype=torch.float64)
        log_stop = torch.zeros_like(log_pf) if self.space.stop_action is not None else None
        if self._together:
            taken, stop = self._pick(0, trajectories.acting(), trajectories.actions[active])
            log_pf[active] = taken
            if log_stop is not None:
                log_stop[active] = stop
        else:
            for t, state in enumerate(trajectories.states):
                rows = active[t].nonzero()[:, 0]
                taken, stop = self._pick(t, take(state, rows), trajectories.actions[t, rows])
                log_pf[t, rows] = taken
                if log_stop is not None:
                    log_stop[t, rows] = stop
        return Evaluated(log_pf.float()[None], None if log_stop is None else log_stop.float()[None])

    def log_target(self, trajectories: Trajectories[State]) -> Tensor:
        """(B,) float32: sum_n [log p_F^n(tau) - log p_B(tau | x)], and the log prior of absent nodes (nats).

        Raises:
            UnusableFactors: local models give a trajectory no probability at all, or not a number.
        """
        if isinstance(self.policy, OneWay):
            # Each by its own way into the object: that is all the probability it gives it.
            ratio = log_ratios(self.policy, self.space, trajectories.final, 1, seeded(0))[:, :, 0]
            finite = torch.isfinite(ratio).all(1)
            if not bool(finite.all()):
                raise UnusableFactors((~finite).nonzero()[:, 0].tolist())
            return (ratio.sum(0) + self.prior(trajectories.final)).float()
        log_pf = self.summed(trajectories).log_pf[0].sum(0)
        target = log_pf - self.policy.n_models * trajectories.log_pb.sum(0)
        target = target + self.prior(trajectories.final)
        if not bool(torch.isfinite(target).all()):
            raise UnusableFactors(self._to_blame(trajectories))
        return target

    def prior(self, state: State) -> Tensor:
        """(B,) float32 log prior share of B states, 0 where there is none."""
        return torch.zeros(len(state[0])) if self.log_prior is None else self.log_prior(state).float()

    def _pick(self, group: int, state: State, action: Tensor) -> tuple[Tensor, Tensor]:
        """(M,) float64 each: the summed log probability of `action` (M,) in each state, and of stopping (0 if there is none)."""

        def compute(which: Tensor) -> Tensor:
            choices = self.policy.choices(take(state, which))
            total = choices.log_prob.double().sum(0)
            return total if self._together else torch.stack([total, choices.action.double()], 1)  # (M, 2, L)

        memo = self._memos.setdefault(group, Memo(self._max_bytes))
        rows = memo.rows(self._key(state), compute)
        total, numbers = (rows, None) if self._together else rows.unbind(1)

        def of(number: Tensor) -> Tensor:
            """(M,): the column of action `number` (M,)."""
            at = number if numbers is None else (numbers == number[:, None]).to(torch.uint8).argmax(1)
            return total.gather(1, at[:, None])[:, 0]

        if self.space.stop_action is None:
            return of(action), torch.zeros(len(action), dtype=torch.float64)
        return of(action), of(torch.full_like(action, self.space.stop_action))

    def _to_blame(self, trajectories: Trajectories[State]) -> list[int]:
        """The models that give one of these trajectories no finite log probability."""
        finite = torch.isfinite(evaluate(self.policy, self.space, trajectories).log_pf.sum(1)).all(1)
        return (~finite).nonzero()[:, 0].tolist()


def product_loss(
    product: FrozenProduct[State],
    objective: str,
    *,
    generator: torch.Generator | None = None,
    draws: int = DRAWS,
) -> Loss[State]:
    """The loss that `objective` names. `generator` and `draws` belong to `aggregating-marginal`.

    Raises:
        UsageError: there is no such objective, or the space has no use for it.
    """
    if objective not in AGGREGATING_LOSSES:
        raise UsageError(
            f"there is no objective {objective!r}; choose one of {', '.join(AGGREGATING_LOSSES)}"
        )
    if objective == "aggregating-edges" and product.space.stop_action is None:
        raise UsageError(
            "edge-wise aggregation needs a space in which every state may stop; choose aggregating"
        )
    source = generator or seeded(0)

    def of_batch(rollout: Rollout[State]) -> BatchLoss:
        trajectories = rollout.trajectories
        log_pb = trajectories.log_pb.sum(0)
        target = product.log_target(trajectories)
        if objective == "aggregating-edges":
            loss = _edges(product, rollout)
        else:
            if objective == "aggregating-marginal":
                target = _averaged(product, trajectories.final, target, draws, source)
            loss = robust_contrastive_balance(
                rollout.evaluated.log_pf[0].sum(0), log_pb, target, CONTRASTIVE_DELTA
            )
        return BatchLoss(loss, target + log_pb - rollout.log_q)

    return Loss(of_batch)


def train_product(
    policy: Policy[State],
    product: FrozenProduct[State],
    settings: LoopSettings,
    generator: torch.Generator,
    *,
    objective: str = "aggregating",
    progress: Progress | None = None,
    stop: threading.Event | None = None,
    draw: Draw = sample,
    parts: Parts | None = None,
) -> list[dict[str, Any]]:
    """Train the first model of `policy` in place towards `product`; returns one dict a step. See `epgfn.gflownet.training.loop.fit`.

    Raises:
        UsageError: the objective does not fit the space. EpgfnError: training diverged, a local model gives no
            probability to what the others allow, or `stop` was set.
    """
    loss = product_loss(product, objective, generator=generator)
    watch, options = Watch(progress, stop), Options(draw)
    return fit(policy, product.space, settings, loss, generator, watch=watch, options=options, parts=parts)


def _averaged(
    product: FrozenProduct[State], final: State, first: Tensor, draws: int, generator: torch.Generator
) -> Tensor:
    """(B,) the mean of log targets over `draws` trajectories into each object: `first` of the one at hand, the rest drawn
    from p_B. What a local model's flow is off by along one trajectory averages out."""
    n = len(first)
    again = take(final, torch.arange(n).repeat_interleave(draws - 1))
    others = product.log_target(sample_backward(product.space, again, generator=generator))
    return torch.cat([first[:, None], others.view(n, draws - 1)], 1).mean(1)


def _edges(product: FrozenProduct[State], rollout: Rollout[State]) -> Tensor:
    """Edge-wise aggregating balance over a batch of trajectories."""
    trajectories = rollout.trajectories
    theirs = product.summed(trajectories)
    ours, local = edges_of(rollout), edges_of(Rollout(trajectories, theirs, rollout.log_q))
    ratio = local.log_pf + local.log_stop_next - local.log_stop - product.policy.n_models * local.log_pb
    prior = torch.stack([product.prior(state) for state in trajectories.states])
    change = (prior[1:] - prior[:-1])[ours.mask]
    return aggregating_modified_detailed_balance(
        ours.log_pf[0], ours.log_pb, ours.log_stop[0], ours.log_stop_next[0], ratio, change, EDGE_DELTA
    )
