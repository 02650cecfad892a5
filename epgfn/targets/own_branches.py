"""What an alignment says about unrooted trees when every branch has a length of its own: the lengths are integrated out.

    log m(D | topology) = log of the integral over t of prod over branches rate exp(-rate t_v) prod over sites L(site | topology, t)

In u = log t the integrand is maximised by Newton's steps (with the scores' outer products for the likelihood's part of the curvature, which
are never indefinite) and integrated by Laplace's approximation with its exact curvature A. That takes each branch for
normal in u, which one that the data want as short as can be is not. So every branch is integrated by itself too, all others
where they are, by the trapezoidal rule, which for such functions is exact, and the sum of the differences is added:

    log m = f(u*) + (V / 2) log 2 pi - 1/2 log det A + sum over v of log (integral of exp(f - f(u*)) along u_v) - 1/2 log (2 pi / A_vv).

How far off that is: tests/targets/test_own_branches.py against quadrature, docs/mathematics.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from epgfn.base.errors import EpgfnError, UsageError
from epgfn.gflownet.spaces.base import take
from epgfn.gflownet.spaces.phylogeny import Phylogeny, State, distinct
from epgfn.targets.jc69 import Patterns, compress
from epgfn.targets.pruning import Pruned, Shape, along, curvature, members, prune, shape_of, slopes
from epgfn.targets.substitution import Substitution, renamed

RATE = 10.0
"""Of the exponential prior by default: a mean of .1 expected changes per site."""
SHORTEST, LONGEST = 1e-9, 20.0
_BATCH_NUMBERS = (
    1 << 18
)  # for each array of a number per tree, branch, base and pattern: 2 MiB, which stay in a cache
_TRIES = 80
_LONGEST_STEP = 1.5  # in u: no branch grows or shrinks by more than 4.5 times at once
_NEAR = 0.3
_ENOUGH = 1e-6  # half the Newton decrement, nats: what the next step would gain
_GRID = torch.arange(-16.0, 9.1) * 0.75
"""Where a branch by itself is looked at, in its own standard deviations: towards zero the integrand falls only like t."""


class Mode(NamedTuple):
    """`length` (B, V): branch lengths where the integrand in log length is largest; `value` (B,) its logarithm there, nats, and `bent`
    (B, V, V) minus that one's second derivatives by log lengths."""

    length: Tensor
    value: Tensor
    bent: Tensor


class OwnBranches:
    """log m(D | topology) of one party's sites for batches of finished trees over the first n - 1 taxa, the last at their root."""

    def __init__(self, space: Phylogeny, codes: Tensor, model: Substitution, rate: float = RATE) -> None:
        """`codes` (n, sites) uint8 as `jc69.compress` takes them, n = the space's leaves and one; `rate` of the prior of
        lengths.

        Raises:
            UsageError: no sites, another number of sequences, or a rate that is not above zero.
        """
        if not 0 < rate < math.inf:
            raise UsageError("the rate of the prior of branch lengths must be above zero; choose another")
        if len(codes) != space.n_leaves + 1 or codes.shape[1] == 0:
            raise UsageError(
                f"an alignment for this space has {space.n_leaves + 1} sequences and at least one site; give another file"
            )
        self.space, self.model, self.rate = space, model, rate
        self.patterns = compress(renamed(codes) if model.alike else codes)

    def log_marginal(self, state: State) -> Tensor:
        """(B,) float64 nats of the finished trees `state`.

        Raises:
            EpgfnError: a number is not finite.
        """
        first, row = distinct(self.space, state)
        numbers = self.patterns.partials.numel() * 2 * len(self.model.speeds)
        parts = torch.split(first, max(1, _BATCH_NUMBERS // numbers))
        total = torch.cat([self._log_marginal(shape_of(self.space, take(state, part))) for part in parts])
        if not bool(torch.isfinite(total).all()):
            raise EpgfnError("the alignment has no finite likelihood on some tree; check its sequences")
        return total[row]

    def mode(self, shape: Shape) -> Mode:
        """Newton's steps in log length, halved where they lose."""
        return maximised(shape, self.model, self.patterns, self.rate)

    def _log_marginal(self, shape: Shape) -> Tensor:
        length, value, bent = self.mode(shape)
        done = prune(shape, length, self.model, self.patterns)
        own = bent.diagonal(dim1=1, dim2=2)
        whole = length.shape[1] / 2 * math.log(2 * math.pi) - 0.5 * _log_det(bent)
        return value + whole + self._apart(done, length, own)

    def _apart(self, done: Pruned, length: Tensor, own: Tensor) -> Tensor:
        """(B,): what each branch's own integral differs by from the normal one, all together."""
        width = own.clamp_min(1e-12).rsqrt()
        total = torch.full_like(length, -torch.inf)
        parts = along(done, self.model).flatten(2, 3)  # (B, V, K 4, P)
        decay = (self.model.speeds[:, None] * self.model.values).flatten()  # (K 4,)
        for place in _GRID.double():
            moved = length * (place * width).clamp(max=math.log(LONGEST) * 2).exp()
            there = ((decay * moved[..., None]).exp()[..., None, :] @ parts)[..., 0, :]  # (B, V, P)
            gain = (
                there.clamp_min(1e-300).log() @ self.patterns.weights
                - self.rate * (moved - length)
                + place * width
            )
            total = torch.logaddexp(total, gain)
        step = float(_GRID[1] - _GRID[0])
        return (total + math.log(step) - 0.5 * math.log(2 * math.pi)).sum(1)


def maximised(shape: Shape, model: Substitution, patterns: Patterns, rate: float) -> Mode:
    """See `OwnBranches.mode`."""
    u = start(shape, patterns, rate).log()
    near = _climbed(shape, u, partial(_scoring_step, model=model, patterns=patterns, rate=rate), _NEAR)
    newton = partial(_newton_step, model=model, patterns=patterns, rate=rate)
    return _climbed(shape, near.length.log(), newton, _ENOUGH)


def _climbed(shape: Shape, u: Tensor, step_at: Callable[[Shape, Tensor], Steps], enough: float) -> Mode:
    """From log lengths u (B, V) to where no step should gain more than `enough`. A step that loses is halved."""
    best, value = u.clone(), torch.full((len(u),), -torch.inf, dtype=torch.float64)
    step, gain = torch.zeros_like(u), torch.full_like(value, torch.inf)
    bent = torch.zeros(*u.shape, u.shape[1], dtype=torch.float64)
    going = torch.arange(len(u))
    for _ in range(_TRIES):
        tried = (best[going] + step[going]).clamp(math.log(SHORTEST), math.log(LONGEST))
        there = step_at(Shape(shape.left[going], shape.right[going]), tried)
        better = there.value >= value[going] - 1e-9
        best[going] = torch.where(better[:, None], tried, best[going])
        value[going] = torch.where(better, there.value, value[going])
        step[going] = torch.where(better[:, None], there.step, step[going] / 2)
        gain[going] = torch.where(better, there.gain, gain[going] / 2)
        bent[going] = torch.where(better[:, None, None], there.bent, bent[going])
        going = going[gain[going] > enough]
        if not len(going):
            break
    return Mode(best.exp(), value, bent)


class Steps(NamedTuple):
    """At log lengths (B, V): the integrand's logarithm `value` (B,), minus its second derivatives or what is taken for them (B, V, V), the
    `step` (B, V) to take and what it should `gain` (B,), nats."""

    value: Tensor
    bent: Tensor
    step: Tensor
    gain: Tensor


def _scoring_step(shape: Shape, u: Tensor, model: Substitution, patterns: Patterns, rate: float) -> Steps:
    """With the scores' outer products for the likelihood's part of the curvature: never indefinite, and cheap."""
    done, slope, safe = _first(shape, u, model, patterns, rate)
    return Steps(integrand(done, u, patterns, rate), safe, *_solved(safe, slope))


def _newton_step(shape: Shape, u: Tensor, model: Substitution, patterns: Patterns, rate: float) -> Steps:
    """With the exact curvature, where that is definite."""
    done, slope, safe = _first(shape, u, model, patterns, rate)
    bent = bent_in_logs(done, u, model, patterns, rate)
    definite = (
        torch.linalg.cholesky_ex(bent - 1e-9 * torch.diag_embed(bent.diagonal(dim1=1, dim2=2))).info == 0
    )
    return Steps(
        integrand(done, u, patterns, rate),
        bent,
        *_solved(torch.where(definite[:, None, None], bent, safe), slope),
    )


def _first(
    shape: Shape, u: Tensor, model: Substitution, patterns: Patterns, rate: float
) -> tuple[Pruned, Tensor, Tensor]:
    """The evaluation, the slope by log lengths (B, V), and a definite (B, V, V) in place of minus the curvature."""
    length = u.exp()
    done = prune(shape, length, model, patterns)
    by_site = slopes(done, model) * length[..., None]  # (B, V, P): by log length
    data = by_site @ patterns.weights
    outer = (by_site * patterns.weights) @ by_site.mT
    damping = rate * length + (-data).clamp_min(0) + 1e-6
    return done, data + 1 - rate * length, outer + torch.diag_embed(damping)


def _solved(bent: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    step = torch.cholesky_solve(slope[..., None], torch.linalg.cholesky(bent))[..., 0]
    shrink = (_LONGEST_STEP / step.abs().amax(1).clamp_min(_LONGEST_STEP))[:, None]
    return step * shrink, (step * slope).sum(1) / 2


def start(shape: Shape, patterns: Patterns, rate: float) -> Tensor:
    """(B, V) branch lengths to begin with: those whose sums along the paths of the tree are nearest to the distances between taxa."""
    below = members(shape)  # (B, V, n) of zeros and ones
    first, second = torch.triu_indices(below.shape[2], below.shape[2], 1)
    between = (below[:, :, first] != below[:, :, second]).double()  # (B, V, pairs)
    normal = between @ between.mT + 1e-3 * torch.eye(below.shape[1], dtype=torch.float64)
    apart = between @ distances(patterns, 1 / rate)[first, second]
    found: Tensor = torch.linalg.solve(normal, apart[..., None])[..., 0]
    return found.clamp(1 / (2 + float(patterns.weights.sum())), LONGEST / 4)


def distances(patterns: Patterns, unknown: float) -> Tensor:
    """(n, n) expected changes per site between taxa, after Jukes and Cantor, from the sites where both are one base; `unknown` without
    any."""
    base = torch.where(patterns.partials.sum(2, keepdim=True) == 1, patterns.partials, 0.0)  # (n, P, 4)
    flat = (base * patterns.weights[:, None]).flatten(1)
    known = base.sum(2)
    both = (known * patterns.weights) @ known.T
    unlike = 1 - (flat @ base.flatten(1).T) / both.clamp_min(1)
    found = -0.75 * (1 - unlike.clamp(max=0.7) * 4 / 3).log()
    apart: Tensor = torch.where(both > 0, found, unknown)
    return apart


def integrand(done: Pruned, u: Tensor, patterns: Patterns, rate: float) -> Tensor:
    """(B,) nats: the logarithm of the integrand in log length."""
    prior = (math.log(rate) - rate * u.exp() + u).sum(1)
    return done.log_site @ patterns.weights + prior


def bent_in_logs(done: Pruned, u: Tensor, model: Substitution, patterns: Patterns, rate: float) -> Tensor:
    """(B, V, V) minus the second derivatives of the integrand's logarithm by log lengths u."""
    length = u.exp()
    first, second = slopes(done, model) @ patterns.weights, curvature(done, model, patterns)
    return torch.diag_embed(length * (rate - first)) - length[:, :, None] * second * length[:, None]


def _log_det(matrix: Tensor) -> Tensor:
    """Of (B, V, V) that are positive definite but for the rounding of what is nearly flat."""
    found: Tensor = torch.linalg.eigvalsh(matrix).clamp_min(1e-6).log().sum(1)
    return found
