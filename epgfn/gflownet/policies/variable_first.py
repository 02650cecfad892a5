"""The policy for DAGs by sinks with many variables: the variable first, its parents second.

    log p_F(j, Pa | S, G_S) = log p(j | S, sinks) + log p(Pa | j, S, sinks),
    p(j | S, sinks)         = softmax over j of A_j(S) + L(S + j) + r_j,
    p(Pa | j, S, sinks)     = softmax over Pa within S of phi_j(Pa) - log #sinks(after) + r_j(Pa),

with the tensors of `order_potential`, its phi, L and network r, and A_j(S) the log of the sum over Pa within S of exp phi_j(Pa).
Whoever follows trajectories (`sink_walk`) so meets the parent sets of one variable a step, not those of all that are left.
The exact flow is in reach of both forms, for both are free functions of (S, sinks, j, Pa) as far as they need be; with few variables
the joint form of `order_potential` starts nearer to it and costs less.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from epgfn.gflownet.policies.base import Choices
from epgfn.gflownet.policies.order_potential import OrderPotential
from epgfn.gflownet.policies.sink_net import Heads, heads, hidden, linear, of_all_children, parent_terms
from epgfn.gflownet.policies.subset_potential import remembered_potential
from epgfn.gflownet.spaces.dag_by_sinks import Legal, State

if TYPE_CHECKING:
    from epgfn.gflownet.sampling.rollout import Evaluated, Rollout, Trajectories

FEW_VARIABLES = 12
"""Up to so many the joint form is cheaper: measured crossover for fan-in 3."""


class VariableFirst(OrderPotential):
    """N models evaluated together; see the module for the equation."""

    def _potential(self) -> Tensor:
        return torch.stack([remembered_potential(self.space, table) for table in self.scores])

    def sample(
        self, n: int, *, generator: torch.Generator, temperature: float = 1.0, exploration: float = 0.0
    ) -> Rollout[State]:
        """As `rollout.sample`, which calls this."""
        from epgfn.gflownet.policies import sink_walk  # which needs `rollout`, which needs policies

        return sink_walk.sample(
            self, n, generator=generator, temperature=temperature, exploration=exploration
        )

    def evaluate(self, trajectories: Trajectories[State]) -> Evaluated:
        """As `rollout.evaluate`, which calls this."""
        from epgfn.gflownet.policies import sink_walk

        return sink_walk.evaluate(self, trajectories)

    def choices(self, state: State) -> Choices:
        """All variables with all of their parent sets: B * J rows of one variable each."""
        space, legal = self.space, self.space.legal(state)
        b, j = legal.candidates.shape
        action = (legal.candidates[:, :, None] * space.n_sets + legal.sets[:, None]).flatten(1)
        if j == 0:
            return Choices(action, torch.zeros(self.n_models, *action.shape))
        layers, h = heads(self.weights, space), hidden(self.weights, space.features(state))
        row = torch.arange(b).repeat_interleave(j)
        each = legal._replace(members=legal.members[row], sets=legal.sets[row])
        child = legal.candidates.flatten()
        phi = self.phi(each, child)
        sums = phi.double().logsumexp(0).view(self.n_models, b, j)
        if space.rules is not None:  # a variable that cannot come yet has no parents to choose from
            phi = torch.where(torch.isneginf(phi).all(0), 0.0, phi)
        order = self.order_log_prob(layers, h, state, legal, sums)
        children = of_all_children(h, layers.child)[:, row, child]
        pairs = linear(h, layers.pair)[:, row]
        parents = self.parents_log_prob(phi, children, pairs, each, state.sinks[row])
        listed = parents.permute(1, 2, 0).view(self.n_models, b, j, -1) + order.unsqueeze(3)
        return Choices(action, listed.flatten(2))

    def phi(self, legal: Legal, child: Tensor) -> Tensor:
        """Scores of the parent sets of `legal` for each row's own variable `child` (B,): (M, N, B)."""
        entry = (child[:, None] * self.space.n_sets + legal.sets).T  # (M, B)
        return self.quick_scores.flatten(1)[:, entry].transpose(0, 1)

    def order_log_prob(self, layers: Heads, h: Tensor, state: State, legal: Legal, sums: Tensor) -> Tensor:
        """log p(j | S, sinks) of the candidates: (N, B, J); `sums` (N, B, J) float64 is A_j(S)."""
        known = sums + self.gain(state, legal)
        known = (known - known.amax(2, keepdim=True)).float()
        learned = linear(h, layers.variable).gather(2, legal.candidates.expand(len(h), -1, -1))
        return (known + learned).log_softmax(2)

    def parents_log_prob(
        self, phi: Tensor, children: Tensor, pairs: Tensor, legal: Legal, sinks: Tensor
    ) -> Tensor:
        """log p(Pa | j, S, sinks) for each row's own j: (M, N, B); `phi` as the method, the network's as `parent_terms`."""
        if phi.dtype == torch.float64:
            phi = (phi - phi.amax(0)).float()
        return (phi + parent_terms(children, pairs, legal, sinks, self.space.n_variables)).log_softmax(0)

    def gain(self, state: State, legal: Legal) -> Tensor:
        """L(S + j) of the candidates, up to a constant a state: (N, B, J) float64."""
        mask = (state.members * self._bits).sum(1)
        return self.potential[:, mask[:, None] | self._bits[legal.candidates]]
