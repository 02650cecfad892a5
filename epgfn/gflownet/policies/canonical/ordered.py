"""One model's choices: a score table, a reference order, and corrections, as log probabilities of what is done."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from epgfn.gflownet.policies.canonical.cells import Cells, cells_of, keys_of
from epgfn.gflownet.policies.canonical.corrections import Corrections, log_flow
from epgfn.gflownet.policies.canonical.drawing import drawn_within, with_earlier_parents
from epgfn.gflownet.policies.canonical.tables import Tables
from epgfn.gflownet.policies.canonical.walk import Walk
from epgfn.gflownet.spaces.parent_index import parent_index


class Taken(NamedTuple):
    """What B rows do: `child` (B,) and `parents` (B, V) bool by places, and (B,) float64: log probabilities, the policy's and the
    sampler's, and the `score` phi."""

    child: Tensor
    parents: Tensor
    log_pf: Tensor
    log_q: Tensor
    score: Tensor


class Weighed(NamedTuple):
    """Log weights of choices: `others` (S, V), `in_order` (B,) and `log_flow` (B,), the log of their sum."""

    others: Tensor
    in_order: Tensor
    log_flow: Tensor


class Seen(NamedTuple):
    """What may be done where a walk stands."""

    cells: Cells
    weighed: Weighed


class Ordered:
    """Choices by `tables` and `corrections`; those of less than `explored` nats are not explored."""

    def __init__(self, tables: Tables, corrections: Corrections, explored: float = -torch.inf) -> None:
        self.tables, self.sums, self.corrections = tables, tables.sums, corrections
        self.explored = explored

    def weighed(self, cells: Cells) -> Weighed:
        others, in_order = self.corrections.weighed(cells)
        return Weighed(others, in_order, log_flow(cells, others, in_order))

    def drawn(
        self,
        seen: Seen,
        generator: torch.Generator,
        temperature: float = 1.0,
        exploration: float = 0.0,
    ) -> Taken:
        """One choice each. Tempering and exploration act on what the flows decide, and on which late variables are parents."""
        cells, weighed = seen
        walk = cells.walk
        log_prob, in_order = _log_prob(cells, weighed)
        both = log_prob.detach(), in_order.detach()
        p, p_in = _behaviour(cells, *both, temperature, exploration, self.explored)
        segment, j = _drawn_cell(cells, p, p_in, generator)
        on = segment < 0
        segment = torch.where(on, cells.whole, segment)
        j = torch.where(on, walk.t, j)
        at = torch.where(on, in_order, log_prob[segment, j])
        q = torch.where(on, p_in, p[segment, j]).log()
        late, of_late, log_q_late, log_weight = drawn_within(
            self.sums, walk, cells, segment, j, generator, temperature
        )
        parents = with_earlier_parents(self.sums, walk.t, j, late, generator)
        phi = self.sums.score(j, parents)
        inside = phi - log_weight
        return Taken(j, parents, at + inside, q + log_q_late + phi - of_late, phi)

    def seen(self, walk: Walk) -> Seen:
        cells = cells_of(walk)
        return Seen(cells, self.weighed(cells))

    def log_pf(self, seen: Seen, child: Tensor, parents: Tensor) -> Tensor:
        """(B,) float64 of adding `child` (B,) with `parents` (B, V) bool, by places; -inf where that is not the one way to build what
        comes of it."""
        cells, weighed = seen
        segment, found = segment_of(cells, parents)
        on = child == cells.walk.t
        value = torch.where(on, weighed.in_order, weighed.others[segment, child]) - weighed.log_flow
        value = torch.where(weighed.log_flow > -torch.inf, value, -torch.inf)  # not what no way leads to
        value = torch.where(found & ~(on & (segment != cells.whole)), value, -torch.inf)
        inside = self.sums.score(child, parents) - log_within(self, cells, segment, child)
        return value + inside

    def totals(self, seen: Seen) -> Tensor:
        """(B,) float64: the probabilities of all choices, added up. Parents need no adding up: each set is drawn by exact sums."""
        log_prob, in_order = _log_prob(*seen)
        return in_order.exp().index_add(0, seen.cells.row, log_prob.exp().sum(1))

    def listed(self, seen: Seen, child: Tensor, parents: Tensor) -> Tensor:
        """(B, J, M) log p_F of (B, J) children with (B, M, V) bool parents, by places, among what is in."""
        cells, weighed = seen
        b, m = parents.shape[:2]
        row = torch.arange(b)[:, None].expand(b, m).flatten()
        segment, found = segment_of(cells, parents.flatten(0, 1), row)
        number = parent_index(parents.flatten(0, 1)[:, :, None], self.sums.max_parents)[:, 0].view(b, 1, m)
        segment, found = segment.view(b, 1, m), found.view(b, 1, m)
        j = child[:, :, None]
        on = j == cells.walk.t[:, None, None]
        value = torch.where(on, weighed.in_order[:, None, None], weighed.others[segment, j])
        value = value - weighed.log_flow[:, None, None]
        value = torch.where(found & ~(on & (segment != cells.whole[:, None, None])), value, -torch.inf)
        entries, v = cells.entries, self.sums.n_variables
        weight = self.sums.at(cells.walk.t[entries.row][:, None], torch.arange(v), entries.number[:, None])
        index = entries.segment[:, None].expand(-1, v)
        best = torch.full((len(cells.row), v), -torch.inf, dtype=torch.float64)
        best = best.scatter_reduce_(0, index, weight, "amax").clamp_min(-1e300)
        inside = torch.zeros_like(best).index_add_(0, entries.segment, (weight - best[entries.segment]).exp())
        log_weight = inside.log() + best
        value = value + self.sums.phi[j, number] - log_weight[segment, j]
        return torch.where(value.isnan(), -torch.inf, value)


def segment_of(cells: Cells, parents: Tensor, row: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """(M,) the segment of each row with what (M, V) parents cover, and whether there is one; `row` (M,), all B of them if not given."""
    row = torch.arange(len(parents)) if row is None else row
    key = keys_of(cells.walk, row, parents)
    segment = torch.searchsorted(cells.key, key).clamp_max(len(cells.key) - 1)
    return segment, cells.key[segment] == key


def log_within(model: Ordered, cells: Cells, segment: Tensor, child: Tensor) -> Tensor:
    """(B,) log of the sum over all parents of each row's child that hold of the sinks what that segment says, exactly."""
    entries, t = cells.entries, cells.walk.t
    keep = entries.segment == segment[entries.row]
    row, number = entries.row[keep], entries.number[keep]
    weight = model.sums.at(t[row], child[row], number)
    best = torch.full((len(child),), -torch.inf, dtype=torch.float64).scatter_reduce_(0, row, weight, "amax")
    best = torch.where(best == -torch.inf, 0.0, best)
    total = torch.zeros(len(child), dtype=torch.float64).index_add_(0, row, (weight - best[row]).exp())
    return total.log() + best


def _log_prob(cells: Cells, weighed: Weighed) -> tuple[Tensor, Tensor]:
    return weighed.others - weighed.log_flow[cells.row][:, None], weighed.in_order - weighed.log_flow


def _behaviour(
    cells: Cells, log_prob: Tensor, in_order: Tensor, temperature: float, exploration: float, explored: float
) -> tuple[Tensor, Tensor]:
    """Probabilities of the sampler, (S, V) and (B,): as `sampling.draws.behaviour`."""
    if temperature == 1 and exploration == 0:
        return log_prob.exp(), in_order.exp()
    p, p_in = (log_prob / temperature).exp(), (in_order / temperature).exp()
    total = p_in.index_add(0, cells.row, p.sum(1))
    p, p_in = p / total[cells.row][:, None], p_in / total
    if exploration > 0:
        allowed, may = (log_prob > explored).double(), (in_order > explored).double()
        count = may.index_add(0, cells.row, allowed.sum(1))
        p = (1 - exploration) * p + exploration * allowed / count[cells.row][:, None]
        p_in = (1 - exploration) * p_in + exploration * may / count
    return p, p_in


def _drawn_cell(cells: Cells, p: Tensor, p_in: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """(B,) segments, -1 for going on in order, and variables."""
    each = p.sum(1)
    below = each.cumsum(0)
    total = torch.zeros_like(p_in).index_add_(0, cells.row, each)
    level = torch.rand(len(p_in), generator=generator, dtype=torch.float64) * (p_in + total)
    first = torch.searchsorted(cells.row, torch.arange(len(p_in)))
    last = torch.searchsorted(cells.row, torch.arange(len(p_in)), right=True) - 1
    start = below[first] - each[first]
    segment = torch.searchsorted(below, start + level - p_in, right=True).clamp(first, last)
    segment = torch.where(each[segment] > 0, segment, _largest(cells, each, first))
    rest = level - p_in - (below[segment] - each[segment] - start)
    inside = p[segment].cumsum(1)
    j = (inside <= rest.clamp_min(0)[:, None].minimum(inside[:, -1:] * (1 - 1e-12))).sum(1)
    return torch.where((level < p_in) | (total <= 0), -1, segment), j.clamp_max(p.shape[1] - 1)


def _largest(cells: Cells, each: Tensor, first: Tensor) -> Tensor:
    """(B,) the segment of each row with the largest weight, for where rounding met one without any."""
    best = torch.zeros(len(first), dtype=each.dtype).scatter_reduce_(0, cells.row, each, "amax")
    place = torch.where(each == best[cells.row], torch.arange(len(each)), len(each))
    found = torch.full((len(first),), len(each), dtype=torch.int64).scatter_reduce_(
        0, cells.row, place, "amin"
    )
    return found.clamp_max(len(each) - 1)
