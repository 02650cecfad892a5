"""Trajectories: sampled forward under a policy, sampled backward from objects, and their log probability under others.

T steps, B trajectories, N models. Everything is in nats. A trajectory that has ended keeps its last state; `active`
says which steps count.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, NamedTuple, Protocol, TypeGuard

import torch
from torch import Tensor

from epgfn.gflownet.device import CPU
from epgfn.gflownet.policies.base import Choices, Policy, RecordingPolicy, WalkingPolicy
from epgfn.gflownet.policies.row_sums import row_table
from epgfn.gflownet.sampling.draws import behaviour, cumulative, draw
from epgfn.gflownet.sampling.listed_walk import Sampler, walk
from epgfn.gflownet.sampling.open_walk import open_walk
from epgfn.gflownet.sampling.state_graph import StateGraph, state_graph
from epgfn.gflownet.spaces.base import Space, State, joined, log_uniform_backward, where


class Trajectories(NamedTuple, Generic[State]):
    """`states` the T states acted in, each a batch of B; `actions` (T, B) int64; `active` (T, B) bool;
    `log_pb` (T, B) float32 log p_B(s_t | s_t+1), 0 where not active; `final` the terminal states."""

    states: tuple[State, ...]
    actions: Tensor
    active: Tensor
    log_pb: Tensor
    final: State

    def acting(self) -> State:
        """The M states of all steps that are acted in, step by step: those that `active` counts."""
        make: Callable[..., State] = type(self.final)
        fields = zip(*self.states, strict=True)
        return make(*(torch.stack(field)[self.active] for field in fields))


class Evaluated(NamedTuple):
    """`log_pf` (N, T, B) of the actions taken, 0 where not active; `log_stop` (N, T, B) of stopping in each state, or
    None in spaces without a stop action."""

    log_pf: Tensor
    log_stop: Tensor | None


class Rollout(NamedTuple, Generic[State]):
    """Sampled trajectories, the policy's own `evaluated` log probabilities (differentiable when gradients are on), and
    `log_q` (B,) of the tempered, exploring sampler that drew them."""

    trajectories: Trajectories[State]
    evaluated: Evaluated
    log_q: Tensor


class Draw(Protocol):
    """How trajectories of the first model of a policy are drawn: `sample`, `sample_once`, or one made of them."""

    def __call__(
        self,
        policy: Policy[State],
        space: Space[State],
        n: int,
        *,
        generator: torch.Generator,
        temperature: float = 1.0,
        exploration: float = 0.0,
    ) -> Rollout[State]:
        """`n` trajectories; arguments as `sample` has them."""
        ...


def sample(
    policy: Policy[State],
    space: Space[State],
    n: int,
    *,
    generator: torch.Generator,
    temperature: float = 1.0,
    exploration: float = 0.0,
) -> Rollout[State]:
    """`n` trajectories from the first model of `policy`.

    Each action is drawn from (1 - e) softmax(log p_F / temperature) + e uniform over the allowed ones, e = `exploration`.
    """
    if isinstance(policy, WalkingPolicy):
        return policy.sample(n, generator=generator, temperature=temperature, exploration=exploration)
    state = space.initial(n)
    states, actions, active, log_pb, log_pf, log_stop = [], [], [], [], [], []
    log_q = torch.zeros(n)
    for noise in _noise(space, n, generator):
        running = ~space.is_terminating(state)
        if not running.any():
            break
        choices = policy.choices(state)
        probability = behaviour(choices.log_prob[0].detach(), temperature, exploration)
        column = draw(cumulative(probability), noise)
        log_behaviour = probability.gather(1, column[:, None])[:, 0].log()
        action = choices.action.gather(1, column[:, None])[:, 0]
        after = where(running, space.step(state, action), state)
        states.append(state)
        actions.append(action)
        active.append(running)
        log_q = log_q + torch.where(running, log_behaviour, 0.0)
        taken = choices.log_prob.gather(2, column.expand(len(choices.log_prob), -1).unsqueeze(2))[:, :, 0]
        log_pf.append(torch.where(running, taken, 0.0))
        log_pb.append(torch.where(running, log_uniform_backward(space, after), 0.0))
        log_stop.append(_log_stop(space, choices, running))
        state = after
    trajectories = Trajectories(
        tuple(states), torch.stack(actions), torch.stack(active), torch.stack(log_pb), state
    )
    return Rollout(trajectories, Evaluated(torch.stack(log_pf, 1), _stacked(log_stop)), log_q)


def evaluate(policy: Policy[State], space: Space[State], trajectories: Trajectories[State]) -> Evaluated:
    """log p_F of given trajectories under each of the N models of `policy`; -inf where a model forbids an action."""
    if isinstance(policy, WalkingPolicy):
        return policy.evaluate(trajectories)
    log_pf, log_stop = [], []
    for state, action, active in zip(
        trajectories.states, trajectories.actions, trajectories.active, strict=True
    ):
        choices = policy.choices(state)
        column = (choices.action == action[:, None]).to(torch.uint8).argmax(1)
        taken = choices.log_prob.gather(2, column.expand(len(choices.log_prob), -1).unsqueeze(2))[:, :, 0]
        log_pf.append(torch.where(active, taken, 0.0))
        log_stop.append(_log_stop(space, choices, active))
    return Evaluated(torch.stack(log_pf, 1), _stacked(log_stop))


def sample_once(
    policy: Policy[State],
    space: Space[State],
    n: int,
    *,
    generator: torch.Generator,
    temperature: float = 1.0,
    exploration: float = 0.0,
) -> Rollout[State]:
    """`sample`, each distinct state evaluated once: for policies that take states of different steps at once.

    The same trajectories and numbers, several times faster where trajectories are long. Where a policy of one model keeps records,
    steps are look-ups if all states of the space can be listed, and on a processor taken one by one if not; otherwise the states are
    evaluated again, all together, for the gradients.
    """
    recording = policy if isinstance(policy, RecordingPolicy) and policy.n_models == 1 else None
    graph = state_graph(space) if recording is not None else None
    if recording is not None and graph is not None:
        return _sample_listed(recording, space, graph, n, generator, temperature, exploration)
    if recording is not None and torch.get_default_device() == CPU:
        return sample_open(
            recording, space, n, generator=generator, temperature=temperature, exploration=exploration
        )
    with torch.no_grad():
        drawn = sample(
            policy, space, n, generator=generator, temperature=temperature, exploration=exploration
        )
    return drawn._replace(evaluated=evaluate_together(policy, space, drawn.trajectories))


def _sample_listed(
    policy: RecordingPolicy,
    space: Space[State],
    graph: StateGraph[State],
    n: int,
    generator: torch.Generator,
    temperature: float,
    exploration: float,
) -> Rollout[State]:
    """`sample_once` by look-up."""
    record = policy.record()
    sampler = Sampler(record, temperature, exploration)
    states, row, action, met = walk(sampler, graph, _noise(space, n, generator))
    active = states[:-1] < graph.n_acting
    log_pb = torch.where(active, _at(graph.log_pb, states[1:]), 0.0)
    fields = zip(*(_at(field, states).unbind(0) for field in graph.state), strict=True)
    make: Callable[..., State] = type(graph.state)
    *walked, final = (make(*field) for field in fields)
    trajectories = Trajectories(tuple(walked), action, active, log_pb, final)
    log_prob = record.log_prob(graph.features.index_select(0, met), graph.penalty.index_select(1, met))
    return _recorded(space, trajectories, row, log_prob, temperature, exploration)


def is_open(policy: Policy[State], space: Space[State]) -> TypeGuard[RecordingPolicy]:
    """Whether `sample_open` is for it: a policy of one model that keeps records, on a processor, in a space too large to be listed."""
    recording = isinstance(policy, RecordingPolicy) and policy.n_models == 1
    return recording and torch.get_default_device() == CPU and state_graph(space) is None


def sample_open(
    policy: RecordingPolicy,
    space: Space[State],
    n: int,
    *,
    generator: torch.Generator,
    temperature: float = 1.0,
    exploration: float = 0.0,
    preference: Tensor | None = None,
) -> Rollout[State]:
    """`sample_once` in a space too large to be listed; `preference` (n, A), nats, is added to log p_F where actions are drawn."""
    table = row_table(space)
    record = policy.record(table)
    noise = _noise(space, n, generator)
    walked = open_walk(record, space, table, noise, temperature, exploration, preference)
    after = joined(walked.states[1:])
    log_pb = torch.where(walked.active, log_uniform_backward(space, after).view(-1, n), 0.0)
    *states, final = walked.states
    trajectories = Trajectories(tuple(states), walked.action, walked.active, log_pb, final)
    log_prob = record.log_prob(walked.inputs, walked.penalty)
    found = _recorded(space, trajectories, walked.row, log_prob, temperature, exploration)
    if preference is None:
        return found
    wished = log_prob.detach().index_select(1, walked.row.flatten()).view(-1, *walked.row.shape)
    probability = behaviour(wished + preference.T[:, None], temperature, exploration, dim=0)  # (A, T, n)
    log_q = probability.gather(0, walked.action[None])[0].log()
    return found._replace(log_q=torch.where(walked.active, log_q, 0.0).sum(0))


def _recorded(
    space: Space[State],
    trajectories: Trajectories[State],
    row: Tensor,
    log_prob: Tensor,
    temperature: float,
    exploration: float,
) -> Rollout[State]:
    """With (A, M) `log_prob` of all actions in M states, of which each of the (T, B) is in its `row`."""
    action, active = trajectories.actions, trajectories.active
    place = action * log_prob.shape[1] + row
    log_pf = _picked(log_prob, place, active)
    log_stop = None
    if space.stop_action is not None:
        log_stop = _picked(log_prob[space.stop_action], row, active)
    log_q = log_pf[0].detach()
    if temperature != 1 or exploration > 0:
        log_behaviour = behaviour(log_prob.detach(), temperature, exploration, dim=0).log()
        log_q = _picked(log_behaviour, place, active)[0]
    return Rollout(trajectories, Evaluated(log_pf, log_stop), log_q.sum(0))


def _at(table: Tensor, place: Tensor) -> Tensor:
    """`table[place]`; PyTorch takes whole rows several times faster than it indexes."""
    return table.index_select(0, place.flatten()).view(*place.shape, *table.shape[1:])


def _picked(values: Tensor, place: Tensor, active: Tensor) -> Tensor:
    """One model's `values` at their flat `place` (T, B), 0 where not `active` (T, B): (1, T, B)."""
    picked = values.flatten().index_select(0, place.flatten())
    return torch.where(active, picked.view(1, *place.shape), 0.0)


def evaluate_together(
    policy: Policy[State], space: Space[State], trajectories: Trajectories[State]
) -> Evaluated:
    """`evaluate` by one call of a policy that takes states of different steps at once and lists all actions in order."""
    active = trajectories.active
    log_prob = policy.choices(trajectories.acting()).log_prob  # (N, M, A)
    n = len(log_prob)
    rows, taken = torch.arange(log_prob.shape[1]), trajectories.actions[active]
    log_pf = log_prob.new_zeros(n, *active.shape)
    log_pf = log_pf.masked_scatter(active.expand_as(log_pf), log_prob[:, rows, taken])
    if space.stop_action is None:
        return Evaluated(log_pf, None)
    log_stop = log_prob.new_zeros(n, *active.shape)
    return Evaluated(
        log_pf, log_stop.masked_scatter(active.expand_as(log_stop), log_prob[:, :, space.stop_action])
    )


@torch.no_grad()
def sample_backward(space: Space[State], final: State, *, generator: torch.Generator) -> Trajectories[State]:
    """One trajectory into each of the B terminal states `final`, drawn from the uniform backward policy.

    Trajectories of different length are aligned at their start, as `sample` gives them.
    """
    state, reverse = final, []
    while (ways := space.backward_mask(state)).any():
        running = ways.any(1)
        weights = torch.where(running[:, None], ways, True).float()
        choice = torch.multinomial(weights, 1, generator=generator)[:, 0]
        before = space.step_back(state, choice)
        log_pb = torch.where(running, log_uniform_backward(space, state), 0.0)
        state = where(running, before.state, state)
        reverse.append((state, torch.where(running, before.action, 0), running, log_pb))
    return _aligned(reverse[::-1], final)


def _aligned(steps: list[tuple[State, Tensor, Tensor, Tensor]], final: State) -> Trajectories[State]:
    """Shift each trajectory so that its first step comes first; after its end it rests in its final state."""
    actions = torch.stack([step[1] for step in steps])  # (T, B), as the next two
    active = torch.stack([step[2] for step in steps])
    log_pb = torch.stack([step[3] for step in steps])
    total, rows = len(steps), torch.arange(active.shape[1])
    lengths = active.sum(0)  # (B,)
    every = [*(step[0] for step in steps), final]
    fields = [torch.stack(values) for values in zip(*every, strict=True)]  # (T + 1, B, ...) each
    source = torch.arange(total)[:, None] + (total - lengths)  # (T, B), above T - 1 once ended
    clamped = source.clamp_max(total - 1)
    active = source < total
    actions = torch.where(active, actions[clamped, rows], 0)
    log_pb = torch.where(active, log_pb[clamped, rows], 0.0)
    make: Callable[..., State] = type(final)
    states = tuple(make(*(field[index.clamp_max(total), rows] for field in fields)) for index in source)
    return Trajectories(states, actions, active, log_pb, final)


def _noise(space: Space[Any], n: int, generator: torch.Generator) -> Tensor:
    """One number in [0, 1) a step and trajectory: (`max_steps`, n)."""
    return torch.rand(space.max_steps, n, generator=generator)


def _log_stop(space: Space[Any], choices: Choices, active: Tensor) -> Tensor | None:
    """(N, B) log probability of stopping; the stop action is the last column where there is one."""
    if space.stop_action is None:
        return None
    return torch.where(active, choices.log_prob[:, :, -1], 0.0)


def _stacked(values: list[Tensor | None]) -> Tensor | None:
    kept = [v for v in values if v is not None]
    return torch.stack(kept, 1) if kept else None
