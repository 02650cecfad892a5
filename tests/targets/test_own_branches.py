"""Unrooted trees with branch lengths of their own: the likelihood is the sum over all ancestors, its derivatives are those of the
differences, and the integral over lengths is that of quadrature and of importance sampling."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.linalg import expm
from torch import Tensor

from epgfn.base.errors import UsageError
from epgfn.gflownet.spaces.base import take
from epgfn.gflownet.spaces.phylogeny import Phylogeny
from epgfn.targets.jc69 import compress
from epgfn.targets.own_branches import OwnBranches, bent_in_logs, integrand
from epgfn.targets.pruning import Shape, along, curvature, members, prune, shape_of, slopes
from epgfn.targets.substitution import Substitution, hky, jc69

MODELS = {"jc69": jc69(), "jc69-gamma": jc69(0.4), "hky-gamma": hky([0.1, 0.2, 0.3, 0.4], 3.0, 0.5)}
each_model = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)


def codes_of(n: int, sites: int, alike: float, seed: int = 1, known: bool = True) -> Tensor:
    """Sites where each taxon has the base of all with the chance `alike`, else any; not `known`: some are gaps or ambiguous."""
    generator = torch.Generator().manual_seed(seed)
    base = torch.randint(4, (sites,), generator=generator)
    other = torch.randint(4, (n, sites), generator=generator)
    codes = (1 << torch.where(torch.rand(n, sites, generator=generator) < alike, base, other)).to(torch.uint8)
    if not known:
        vague = torch.rand(n, sites, generator=generator) < 0.2
        codes = torch.where(
            vague, codes | torch.randint(16, (n, sites), generator=generator).to(torch.uint8), codes
        )
    return codes


def lengths(trees: int, taxa: int) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.rand(trees, 2 * taxa - 3, generator=generator, dtype=torch.float64) * 0.4 + 1e-3


def by_all_ancestors(
    shape: Shape, row: int, length: Tensor, model: Substitution, codes: Tensor
) -> list[float]:
    """log-likelihoods of sites as they are defined: probabilities summed over all bases of all inner nodes and categories."""
    leaves, q, pi = shape.leaves, model.rates.numpy(), model.frequencies.numpy()
    parent = {}
    for step in range(leaves - 1):
        parent[int(shape.left[row, step])] = parent[int(shape.right[row, step])] = leaves + step
    found = []
    for site in codes.T.tolist():
        total = 0.0
        for speed in model.speeds.tolist():
            change = [expm(q * speed * float(t)) for t in length[row]]
            inner = range(leaves, 2 * leaves - 1)
            for bases in itertools.product(range(4), repeat=leaves - 1):
                at = dict(zip(inner, bases, strict=True))
                root = 2 * leaves - 2  # the join that the last taxon hangs from
                term = pi[at[root]] * sum(
                    change[root][at[root], x] for x in range(4) if site[leaves] >> x & 1
                )
                for node, above in parent.items():
                    below = [at[node]] if node in at else [x for x in range(4) if site[node] >> x & 1]
                    term *= sum(change[node][at[above], x] for x in below)
                total += term / len(model.speeds)
        found.append(math.log(total))
    return found


@each_model
@pytest.mark.parametrize("taxa", [3, 4, 5])
def test_pruning_is_the_sum_over_all_ancestors(taxa: int, model: Substitution) -> None:
    space, codes = Phylogeny(taxa - 1), codes_of(taxa, 6, 0.4, known=False)
    shape, patterns = shape_of(space, space.trees()), compress(codes)
    length = lengths(len(shape.left), taxa)
    found = prune(shape, length, model, patterns).log_site @ patterns.weights
    for row in range(0, len(shape.left), 4):
        assert float(found[row]) == pytest.approx(
            sum(by_all_ancestors(shape, row, length, model, codes)), abs=1e-9
        )


def test_below_each_branch_are_the_taxa_of_its_subtree() -> None:
    space = Phylogeny(4)
    trees = space.trees()
    below = members(shape_of(space, trees))
    assert not below[:, :, 4].any() and below[:, -1, :4].all()
    found = (below[:, 4:, :4].long() << torch.arange(4)).sum(2).sort(1).values
    assert (found == trees.nodes[:, 1:].sort(1).values).all()


@each_model
def test_derivatives_are_those_of_small_differences(model: Substitution) -> None:
    space = Phylogeny(5)
    shape = shape_of(space, take(space.trees(), torch.tensor([0, 17, 60, 104])))
    patterns, length = compress(codes_of(6, 40, 0.7)), lengths(4, 6)
    step = 1e-5
    done = prune(shape, length, model, patterns)
    slope, bent = slopes(done, model) @ patterns.weights, curvature(done, model, patterns)

    def moved(branch: int, by: float) -> Tensor:
        other = length.clone()
        other[:, branch] += by
        return other

    for branch in range(9):
        high, low = (prune(shape, moved(branch, by), model, patterns) for by in (step, -step))
        assert slope[:, branch].numpy() == pytest.approx(
            ((high.log_site - low.log_site) @ patterns.weights / (2 * step)).numpy(), rel=1e-5, abs=1e-5
        )
        second = (slopes(high, model) - slopes(low, model)) @ patterns.weights / (2 * step)
        assert bent[:, branch].numpy() == pytest.approx(second.numpy(), rel=1e-4, abs=1e-2)
        parts = along(done, model)[:, branch]  # the whole likelihood along one branch
        decay = (model.speeds[:, None] * model.values)[None, :, :, None]
        ratio = (parts * (decay * (length[:, branch, None, None, None] + 0.3)).exp()).sum((1, 2))
        there = prune(shape, moved(branch, 0.3), model, patterns).log_site
        assert ratio.log().numpy() == pytest.approx((there - done.log_site).numpy(), abs=1e-9)


@pytest.mark.parametrize(
    ("sites", "alike", "within"),
    [(1, 1.0, 0.001), (5, 1.0, 0.001), (5, 0.5, 0.1), (20, 0.8, 0.02), (100, 0.8, 0.01), (100, 0.95, 0.002)],
)
@pytest.mark.parametrize("rate", [10.0, 2.0])
def test_the_integral_over_three_branches_is_that_of_quadrature(
    sites: int, alike: float, within: float, rate: float
) -> None:
    """Sites that all differ, and sites that say nothing of how short a branch is, are the hard ones."""
    space = Phylogeny(2)
    target = OwnBranches(space, codes_of(3, sites, alike), jc69(), rate)
    shape = shape_of(space, space.trees())
    grid = torch.linspace(-16, 2.5, 40, dtype=torch.float64)
    u = torch.cartesian_prod(grid, grid, grid)
    wide = Shape(shape.left.expand(len(u), -1), shape.right.expand(len(u), -1))
    value = integrand(prune(wide, u.exp(), target.model, target.patterns), u, target.patterns, rate)
    expected = float(value.logsumexp(0) + 3 * (grid[1] - grid[0]).log())
    tolerance = within if rate == 10.0 else 3 * within
    assert float(target.log_marginal(space.trees())) == pytest.approx(expected, abs=tolerance)


@each_model
def test_the_integral_over_five_branches_is_that_of_importance_sampling(model: Substitution) -> None:
    space, draws, freedom = Phylogeny(3), 4000, 3.0
    target = OwnBranches(space, codes_of(4, 60, 0.8), model)
    shape = shape_of(space, space.trees())
    mode = target.mode(shape)
    bent = bent_in_logs(
        prune(shape, mode.length, model, target.patterns), mode.length.log(), model, target.patterns, 10.0
    )
    generator = np.random.default_rng(1)
    found = target.log_marginal(space.trees())
    for row in range(3):
        root = torch.linalg.cholesky(torch.linalg.inv(bent[row]))
        z = torch.from_numpy(generator.standard_normal((draws, 5)))
        w = torch.from_numpy(generator.chisquare(freedom, draws) / freedom)
        u = (mode.length[row].log() + (z / w.sqrt()[:, None]) @ root.T).clamp(-40, 4)
        log_q = (
            math.lgamma((freedom + 5) / 2)
            - math.lgamma(freedom / 2)
            - 2.5 * math.log(freedom * math.pi)
            - root.diagonal().log().sum()
            - (freedom + 5) / 2 * torch.log1p((z**2).sum(1) / w / freedom)
        )
        wide = Shape(shape.left[row].expand(draws, -1), shape.right[row].expand(draws, -1))
        value = integrand(prune(wide, u.exp(), model, target.patterns), u, target.patterns, 10.0)
        expected = float((value - log_q).logsumexp(0)) - math.log(draws)
        assert float(found[row]) == pytest.approx(expected, abs=0.04)


def test_lengths_are_found_where_no_small_change_gains() -> None:
    space = Phylogeny(6)
    target = OwnBranches(space, codes_of(7, 300, 0.7), MODELS["jc69-gamma"])
    shape = shape_of(space, take(space.trees(), torch.arange(0, 945, 63)))
    mode = target.mode(shape)
    u = mode.length.log()
    for branch in range(11):
        for by in (0.02, -0.02):
            other = u.clone()
            other[:, branch] += by
            there = integrand(
                prune(shape, other.exp(), target.model, target.patterns), other, target.patterns, 10.0
            )
            assert (there < mode.value + 1e-9).all()


@each_model
def test_equal_sites_are_counted_and_trees_do_not_hang_on_their_batch(model: Substitution) -> None:
    """One column for each different site, its number as weight; and each taxon may be the one at the root."""
    space, codes = Phylogeny(4), codes_of(5, 80, 0.7, known=False)
    trees = space.trees()
    target = OwnBranches(space, codes, model)
    assert float(target.patterns.weights.sum()) == 80 > len(target.patterns.weights)
    found = target.log_marginal(trees)
    twice = OwnBranches(space, torch.cat([codes, codes], 1), model)
    assert (twice.patterns.weights == 2 * target.patterns.weights).all()
    order = torch.randperm(15, generator=torch.Generator().manual_seed(1))
    assert target.log_marginal(take(trees, order)).numpy() == pytest.approx(found[order].numpy(), abs=1e-6)
    # Taxa in another order: the same numbers for the same unrooted trees, each known by its splits.
    turn = torch.tensor([4, 2, 0, 1, 3])
    other = OwnBranches(space, codes[turn], model).log_marginal(trees)
    assert splits_of(space, turn, other) == pytest.approx(splits_of(space, torch.arange(5), found), abs=1e-4)


def splits_of(space: Phylogeny, taxa: Tensor, value: Tensor) -> dict[frozenset[frozenset[int]], float]:
    """Of each tree whose leaves are `taxa`, the last at the root: its two inner branches, by the pairs of taxa they split off."""
    found = {}
    for nodes, one in zip(space.trees().nodes.tolist(), value.tolist(), strict=True):
        sides = [frozenset(int(taxa[i]) for i in range(4) if node >> i & 1) for node in nodes if node]
        inner = [
            side if len(side) == 2 else frozenset(range(5)) - side for side in sides if 2 <= len(side) <= 3
        ]
        found[frozenset(inner)] = one
    return found


def test_alignments_and_priors_that_do_not_fit_are_refused() -> None:
    space, codes = Phylogeny(3), codes_of(4, 5, 0.5)
    for wrong in (codes[:3], codes[:, :0]):
        with pytest.raises(UsageError, match="4 sequences"):
            OwnBranches(space, wrong, jc69())
    with pytest.raises(UsageError, match="above zero"):
        OwnBranches(space, codes, jc69(), 0.0)
