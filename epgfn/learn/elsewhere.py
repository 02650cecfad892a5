"""Objects that others than a model draw, to judge what it lacks and to train it on that: Markov chains on its own target, which cool down
from starts that owe nothing to it.

    graphs of a score table   populations that know nothing of any model, and whose edge probabilities are an answer of their own
    anything else             back along the arrows and forward under the model; they start from other models' objects, or random ones

Where all objects can be listed, they are drawn from what is exact instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from epgfn.base.files import sha256_hex
from epgfn.gflownet.device import seeded
from epgfn.gflownet.measure.tree_chains import Annealed as AnnealedTrees
from epgfn.gflownet.measure.tree_chains import TreeMoves
from epgfn.gflownet.measure.tree_chains import annealed as annealed_trees
from epgfn.gflownet.measure.walk_chains import WalkChains
from epgfn.gflownet.policies.base import Policy
from epgfn.gflownet.sampling.random_walk import finished_at_random
from epgfn.gflownet.sampling.rollout import sample
from epgfn.gflownet.spaces.base import LogReward, joined, take
from epgfn.gflownet.training.state import tensor_digest
from epgfn.learn.exact import Exact
from epgfn.study import Study
from epgfn.study.kinds.phylogeny import called
from epgfn.study.objects import space_of

if TYPE_CHECKING:
    from epgfn.gflownet.measure.structure_chains import Annealed, Chains

KEPT: Final = 4
"""How often each chain is looked at."""
LEAST_SHARE: Final = 1e-4
"""Clades that are less probable are not named."""
APART: Final = 2
"""Sweeps of chains of graphs before each of the looks."""
FAR_APART: Final = 10
"""The same where graphs are published, which should tell little of each other."""
WALKERS, MOVES, APART_MOVES = 128, 40, 10
"""Chains of other objects, moves while they cool down, and moves before each of the looks: what is proposed has to be scored."""

Start = Callable[[], Any]
"""Finished states to start from."""
Elsewhere = Callable[[Policy[Any]], Any]
"""For a policy, finished states drawn from its target by others; the same for the same weights."""


class ChainAnswer(NamedTuple):
    """What chains alone say: `edges` (V, V) float64 P(i -> j), `apart` and `apart_mean` by how much halves of them differ in one edge at
    most and in all on average, and (n, V, V) bool `graphs` of theirs."""

    edges: Tensor
    apart: float
    apart_mean: float
    graphs: Tensor

    def named(self, like: Mapping[str, float]) -> dict[str, float]:
        """By the names of `like`, which are those of edges in order of their parents."""
        apart = ~torch.eye(len(self.edges), dtype=torch.bool)
        return dict(zip(like, self.edges[apart].tolist(), strict=True))


class TreeAnswer(NamedTuple):
    """The same of trees: `clades` by their names."""

    clades: dict[str, float]
    apart: float
    apart_mean: float

    def named(self, like: Mapping[str, float]) -> dict[str, float]:
        """Those of `like` that no chain showed are 0."""
        return {**dict.fromkeys(like, 0.0), **self.clades}


class GraphChains:
    """On the target of (V, K) log-scores (nats): `annealed` once, when first asked. They go on from there for each policy."""

    def __init__(self, study: Study, table: Tensor) -> None:
        self._space, self._table = space_of(study), table.detach().cpu()

    @cached_property
    def _chains(self) -> Chains:
        from epgfn.gflownet.measure.structure_chains import Chains  # compiling takes a while

        return Chains(self._table, self._space.max_parents)

    @cached_property
    def _found(self) -> Annealed:
        from epgfn.gflownet.measure.structure_chains import annealed

        return annealed(self._chains)

    def __call__(self, policy: Policy[Any]) -> Any:
        random, seen = np.random.default_rng(_seed_of(policy)), []
        for population in self._found.populations:
            going = population.rows()
            for _ in range(KEPT):
                self._chains.move(going, APART, random)
                seen.append(self._chains.graphs(going))
        return self._space.terminal(torch.cat(seen).to(torch.get_default_device()))

    def drawn(self, n: int, seed: int) -> Tensor:
        """(n, V, V) bool graphs, as many from each chain as there have to be, in an order that tells nothing."""
        random, seen = np.random.default_rng(seed), [self._found.graphs[:0]]
        going = [population.rows() for population in self._found.populations]
        while sum(map(len, seen)) < n:
            for population in going:
                self._chains.move(population, FAR_APART, random)
                seen.append(self._chains.graphs(population))
        graphs = torch.cat(seen)
        # Populations are of one size, so that whole looks weigh them alike; what is too much is left out at random.
        return graphs[torch.from_numpy(random.permutation(len(graphs))[:n])].to(torch.get_default_device())

    def answer(self) -> ChainAnswer:
        found = self._found
        return ChainAnswer(found.edges, found.apart, found.apart_mean, found.graphs)


class TreeChains:
    """On the target of `moves` over trees: `annealed` once, when first asked. They go on from there for each policy."""

    def __init__(self, study: Study, moves: TreeMoves) -> None:
        self._study, self._space, self._moves = study, space_of(study), moves

    @cached_property
    def _found(self) -> AnnealedTrees:
        return annealed_trees(self._moves)

    def __call__(self, policy: Policy[Any]) -> Any:
        random, seen = np.random.default_rng(_seed_of(policy)), []
        for population in self._found.populations:
            going = population.rows()
            for _ in range(KEPT):
                self._moves.move(going, APART * (2 * self._moves.n_leaves - 2), random)
                seen.append(going.clades())
        return self._space.of_clades(torch.cat(seen).to(torch.get_default_device()))

    def answer(self) -> TreeAnswer:
        found = self._found
        shown = {group: share for group, share in found.clades.items() if share >= LEAST_SHARE}
        names = called(self._study, list(shown))
        return TreeAnswer(dict(zip(names, shown.values(), strict=True)), found.apart, found.apart_mean)


def chains_of_walks(study: Study, log_reward: LogReward[Any], start: Start, seed: int) -> Elsewhere:
    """On any target of which log-rewards (nats) can be asked."""
    space = space_of(study)

    def draw(policy: Policy[Any]) -> Any:
        generator = seeded(seed)
        chains = WalkChains(space, policy, log_reward, _resized(start(), WALKERS, generator), generator)
        chains.cool(MOVES)
        seen = []
        for _ in range(KEPT):
            for _ in range(APART_MOVES):
                chains.move()
            seen.append(chains.state)
        return joined(seen)

    return draw


def draws_of(study: Study, exact: Exact, seed: int) -> Elsewhere | None:
    """From listed objects, or graphs that what is exact can draw."""
    if exact.listed is not None and exact.mass is not None:
        state, mass = exact.listed.state, exact.mass
        rows = torch.multinomial(mass, KEPT * WALKERS, replacement=True, generator=seeded(seed))
        return lambda policy: take(state, rows)
    if exact.drawn is not None:
        graphs = exact.drawn(KEPT * WALKERS, seed).to(torch.get_default_device())
        return lambda policy: space_of(study).terminal(graphs)
    return None


def without_edges(study: Study) -> Start:
    """Graphs that hold no edge but the required ones."""

    def drawn() -> Any:
        space = space_of(study)
        return space.terminal(space.fewest_edges.repeat(WALKERS, 1, 1))

    return drawn


def at_random(study: Study, seed: int) -> Start:
    """Objects by random actions."""
    return lambda: finished_at_random(space_of(study), WALKERS, seeded(seed))


def of_others(study: Study, local: Sequence[Policy[Any]], seed: int) -> Start:
    """Objects from each of the models, as many from each."""

    def draw() -> Any:
        space, generator = space_of(study), seeded(seed)
        each = -(-WALKERS // len(local))
        return joined([sample(one, space, each, generator=generator).trajectories.final for one in local])

    return draw


def _resized(state: Any, count: int, generator: torch.Generator) -> Any:
    """`count` of the rows, without repetition where there are enough."""
    rows = torch.randperm(len(state[0]), generator=generator)
    return take(state, rows.repeat(-(-count // len(rows)))[:count])


def _seed_of(policy: Policy[Any]) -> int:
    """Of the weights alone, so that a run that was killed ends as it would have ended."""
    tensors = policy.tensors()
    digest = "".join(tensor_digest(tensors[name]) for name in sorted(tensors))
    return int(sha256_hex(digest.encode())[:12], 16)
