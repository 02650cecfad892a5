"""BDeu: the marginal likelihood of a network of categorical variables, equal for Markov-equivalent graphs.

With r_i categories of variable i and |Y| = prod of r_i over a set Y, let N_y be the number of records that show y. Then

    g(Y) = sum over y of log Gamma(a / |Y| + N_y) - log Gamma(a / |Y|)        (0 for what no record shows)

and the local score is g(Pa + j) - g(Pa), a the equivalent sample size: the uniform Dirichlet prior that weighs as much as a
records. Buntine, UAI 1991; Heckerman, Geiger & Chickering, Machine Learning 20 (1995).

The numbers of categories are public, part of what the parties agree on: a category that one party never saw still
counts. All that is needed from the records are counts, which add up over parties.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import torch
from torch import Tensor

from epgfn.base.errors import UsageError
from epgfn.gflownet.spaces.parent_sets import families

_BATCH_NUMBERS = 1 << 19  # numbers a batch, which a processor keeps near
_MAX_CONFIGURATIONS = 1 << 62
_SPARSE = 1  # cells a record from which on sorting is cheaper than a table of all of them


def bdeu(columns: Tensor, categories: Tensor, sets: Tensor, *, sample_size: float) -> Tensor:
    """log p(D_j | D_Pa) of every variable and parent set, in nats.

    Args:
        columns: (n, V) integers, the category of each record, 0 to r_i - 1 in column i.
        categories: (V,) int64, r_i, at least 2.
        sets: (K, V) bool parent sets.
        sample_size: a, above 0.

    Returns:
        (V, K) float64; undefined where j is in Pa.

    Raises:
        UsageError: a or some r_i is impossible, a category is outside its column's, or a family has too many
            configurations to number.
    """
    _check(columns, categories, sample_size)
    found, where = families(sets)
    scores = set_scores(columns.long(), categories, found, sample_size)[where]  # (1 + V, K)
    return scores[1:] - scores[:1]


def set_scores(columns: Tensor, categories: Tensor, sets: Tensor, sample_size: float) -> Tensor:
    """g(Y) of each set: (n, V) int64, (V,), (M, V) bool -> (M,) float64. The empty set has one configuration,
    which all n records show: log Gamma(a + n) - log Gamma(a)."""
    n, n_variables = columns.shape
    sizes, by_variable = sets.sum(1), columns.T.contiguous()
    totals = torch.where(sets, categories.double().log2(), 0.0).sum(1)  # bits
    out = torch.zeros(len(sets), dtype=torch.float64)
    for size in range(1, n_variables + 1):
        rows = (sizes == size).nonzero()[:, 0]
        if not len(rows):
            continue
        rows = rows[totals[rows].argsort()]  # sets of like tables side by side
        for some in torch.split(rows, max(1, _BATCH_NUMBERS // max(n * size, 1))):
            members = sets[some].nonzero()[:, 1].view(-1, size)  # (B, size)
            out[some] = _scores_of(by_variable, categories, members, sample_size)
    empty = torch.tensor(sample_size, dtype=torch.float64)
    return torch.where(sizes == 0, torch.lgamma(empty + n) - torch.lgamma(empty), out)


def _scores_of(by_variable: Tensor, categories: Tensor, members: Tensor, sample_size: float) -> Tensor:
    """g of B sets of one size, (V, n) categories, (B, size) variables each -> (B,) float64."""
    configuration = torch.zeros(len(members), by_variable.shape[1], dtype=torch.int64)  # (B, n)
    total = torch.ones(len(members), dtype=torch.int64)
    for variable in members.T:
        if bool((total > _MAX_CONFIGURATIONS // categories[variable]).any()):
            raise UsageError(
                "a family has too many configurations to number; lower max_parents or merge categories"
            )
        configuration = configuration * categories[variable][:, None] + by_variable[variable]
        total = total * categories[variable]
    counts = _counts(configuration, int(total.max())).double()
    share = (sample_size / total.double())[:, None]
    return (torch.lgamma(share + counts) - torch.lgamma(share)).sum(1)


def _counts(configuration: Tensor, total: int) -> Tensor:
    """How many records show each configuration, in some order, zeros among them or not: (B, n) int64 below `total` -> (B, ...) int64."""
    b, n = configuration.shape
    if total > max(n, 1) * _SPARSE:
        return run_lengths(configuration)
    row = torch.arange(b)[:, None] * total
    return torch.bincount((row + configuration).flatten(), minlength=b * total).view(b, total)


def run_lengths(values: Tensor) -> Tensor:
    """How often each distinct number stands in a row: (B, n) int64 -> (B, n) int64, zeros after the last one."""
    if not values.shape[1]:
        return values
    ordered = values.sort(dim=1).values
    new = torch.zeros_like(ordered)
    new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    return torch.zeros_like(ordered).scatter_add(1, new.cumsum(1), torch.ones_like(ordered))


def _check(columns: Tensor, categories: Tensor, sample_size: float) -> None:
    if not 0 < sample_size < float("inf"):
        raise UsageError(
            "the equivalent sample size of BDeu must be above 0 and finite; 1 is a common choice"
        )
    if columns.ndim != 2 or categories.shape != (columns.shape[1],) or bool((categories < 2).any()):
        raise UsageError(
            "BDeu needs a number of categories for each column, at least 2; set them in the study"
        )
    outside = ((columns < 0) | (columns >= categories)).any(0)
    if bool(outside.any()):
        column = int(outside.to(torch.uint8).argmax()) + 1
        raise UsageError(
            f"column {column} holds a category beyond those the study lists; correct the file or the study"
        )


def cell_score(counts: Tensor, sample_size: float) -> Tensor:
    """g(Y) from all |Y| cells of a table, (|Y|,) not negative and not necessarily whole, as noisy counts are -> () float64."""
    share = torch.tensor(sample_size / len(counts), dtype=torch.float64)
    return (torch.lgamma(share + counts.double()) - torch.lgamma(share)).sum()


def bdeu_of_tables(tables: Mapping[tuple[int, ...], Tensor], sets: Tensor, *, sample_size: float) -> Tensor:
    """`bdeu` from contingency tables in place of records: (K, V) bool -> (V, K) float64; undefined where j is in Pa, and 0 where no table
    holds all of a family. `tables`: by the variables each counts, ascending, one axis for each.

    Raises:
        ValueError: there is no table.
    """
    if not tables:
        raise ValueError("no table counts anything")
    place: dict[tuple[int, ...], tuple[int, ...]] = {}
    for held in tables:
        for size in range(len(held) + 1):
            for part in itertools.combinations(held, size):
                place.setdefault(part, held)
    found, where = families(sets)
    scores = torch.zeros(len(found), dtype=torch.float64)
    known = torch.zeros(len(found), dtype=torch.bool)
    for row, held_by in enumerate(found.tolist()):
        subset = tuple(i for i, there in enumerate(held_by) if there)
        variables = place.get(subset)
        if variables is None:
            continue
        rest = tuple(axis for axis, v in enumerate(variables) if v not in subset)
        table = tables[variables]
        cells = table.sum(rest) if rest else table
        scores[row], known[row] = cell_score(cells.reshape(-1), sample_size), True
    both = known[where[1:]] & known[where[:1]]
    return (scores[where[1:]] - scores[where[:1]]).masked_fill(~both, 0.0)
