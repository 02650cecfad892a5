"""Score tables of a study of graphs: log R(G) = sum_j phi_j(Pa_j) in nats, one party's share of the prior included.

The prior is added here, so that no target can forget its N-th root.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from epgfn.base.errors import EpgfnError, UsageError
from epgfn.gflownet.measure.exact import log_partition, marginals_and_dags
from epgfn.gflownet.measure.projection import with_marginals
from epgfn.gflownet.spaces.parent_sets import parent_masks, parent_sets
from epgfn.learn.imputation import Blanks
from epgfn.study import Study
from epgfn.study.design import Regime, regimes_of
from epgfn.study.knowledge import pairs
from epgfn.study.lacks import lacked_by, over_held
from epgfn.study.missing import groups_of
from epgfn.study.objects import space_of
from epgfn.study.records.names import listed
from epgfn.targets import TARGETS
from epgfn.targets.bdeu import bdeu
from epgfn.targets.conditional_gaussian import conditional_gaussian
from epgfn.targets.gaussian import DegenerateError, Moments
from epgfn.targets.priors import PRIORS, by_edge, general_log_odds, log_odds

MAX_SCORES = 30_000_000  # numbers in a table: 240 MB
CHAINS, WARM = 20, 3  # of blanks that are filled in, and how many tables each of them leaves out at its start


def study_sets(study: Study) -> Tensor:
    """The parent sets a table of this study has columns for, (K, V) bool.

    Raises:
        UsageError: there are too many to hold a score for each.
    """
    return parent_sets(*require_scorable(study))


def study_masks(study: Study) -> Tensor:
    """`study_sets` as (K,) int64 bitmasks, for what counts over all subsets of few variables. Raises as there."""
    return parent_masks(*require_scorable(study))


def admissible(study: Study) -> Tensor:
    """(V, K) bool, columns as `study_sets`: which sets may be each variable's parents by the study's knowledge."""
    known: Tensor = space_of(study).admissible
    return known


def require_scorable(study: Study) -> tuple[int, int]:
    """How many variables and parents a study has.

    Raises:
        UsageError: there are too many parent sets to hold a score for each.
    """
    v, r = len(study.variables), study.space.max_parents
    if v * sum(math.comb(v, size) for size in range(r + 1)) > MAX_SCORES:
        raise UsageError(
            f"{v} variables with up to {r} parents need too many scores; lower space.max_parents or take fewer variables"
        )
    return v, r


def score_table(study: Study, records: Tensor | npt.NDArray[np.float64], n_parties: int) -> Tensor:
    """phi_j(Pa) = log f(D_j | D_Pa) + log pi_j(Pa) / n_parties, one party's local log-scores in nats.

    Args:
        study: names target, prior and fan-in. records: (n, V) as `load_records` gives them: numbers on the study's scale, categories, or
            both; (n, V + 1) in a study with a design, the last column each record's arm. Blanks are NaN, or below 0, where there are any:
            what filled-in tables say together is `imputed`. A column that is blank throughout is of a variable that the node lacks.
        n_parties: N, the length of the roster; the product of N subposteriors then carries the prior once.

    Returns:
        (V, K) float64, columns as `study_sets`; -inf where a set is not `admissible`, finite elsewhere.

    Raises:
        UsageError: too many scores, or a setting the target refuses.
        EpgfnError: a score is not finite or not sound, as with collinear or wrongly scaled variables; the sentence names them.
    """
    x = torch.as_tensor(records)
    has_arms = study.design.column is not None
    if x.ndim != 2 or x.shape[1] != len(study.variables) + has_arms:
        raise ValueError("records must be (n, V) with one column for each variable of the study")
    if study.data.lacks and (lacked := _lacked(study, x)):
        return table_from_scores(study, _of_held(study, x, lacked), n_parties)
    if study.data.missing == "impute" and bool(x.isnan().any()):
        return imputed(study, x, n_parties).table
    if has_arms or study.data.missing == "complete-rows":
        arms = x[:, -1].long() if has_arms else None
        return table_from_scores(study, _by_rows(study, x[:, : len(study.variables)], arms), n_parties)
    if not study.columns.numeric:
        return table_from_scores(
            study, _of_rows(study, x, Regime((), (*range(len(study.variables)),))), n_parties
        )
    return table_from_moments(study, moments_of(study, x), n_parties)


def _lacked(study: Study, records: Tensor) -> list[int]:
    """The variables whose columns are blank throughout.

    Raises:
        EpgfnError: no node of the study lacks just these.
    """
    x = records[:, : len(study.variables)]
    blank = (x.isnan() if x.is_floating_point() else x < 0).all(0)
    found = [j for j, none in enumerate(blank.tolist()) if none]
    names = [study.variable_names[j] for j in found]
    if found and all(lacked_by(study, node) != names for node in study.data.lacks):
        raise EpgfnError(f"records without any value of {listed(names)}, which no node of the study lacks")
    return found


def _of_held(study: Study, records: Tensor, lacked: list[int]) -> Tensor:
    """(V, K) log-likelihoods, nats, of records that have no value of the variables `lacked`: those of the part of a graph that lies over
    the others. So sets that differ by what is lacked have the same, and a lacked variable's are 0."""
    held = [j for j in range(len(study.variables)) if j not in lacked]
    part = over_held(study, tuple(study.variable_names[j] for j in lacked))
    x = records[
        :,
        [*held, *range(len(study.variables), records.shape[1])][
            : len(held) + (part.design.column is not None)
        ],
    ]
    scores = score_table(part, x, n_parties=1)
    at = {tuple(row): column for column, row in enumerate(study_sets(part).tolist())}
    # What is not there is all of them, in which every variable is its own parent: a set that nobody has.
    columns = torch.tensor([at.get(tuple(row), 0) for row in study_sets(study)[:, held].tolist()])
    found = torch.zeros(len(study.variables), len(columns), dtype=torch.float64)
    found[held] = scores[:, columns]
    return found


class Imputed(NamedTuple):
    """`table` (V, K) as `score_table` gives it. `edges` (C, M / C, V, V): P(i -> j) of each of M filled-in tables alone, of C chains."""

    table: Tensor
    edges: npt.NDArray[np.float64]

    def in_words(self, study: Study) -> str:
        """How much filled-in tables differ, for the node's own people."""
        names, each = study.variable_names, self.edges
        spread = each.reshape(-1, *each.shape[2:]).std(0)
        i, j = np.unravel_index(int(spread.argmax()), spread.shape)
        left = each.mean(1).std(0, ddof=1).max() / math.sqrt(len(each))
        return (
            f"blanks were filled in {each.shape[0] * each.shape[1]} times; what the tables say differs most of {names[i]} -> {names[j]} "
            f"(standard deviation of its probability {spread[i, j]:.2f}); their number leaves a standard error of {left:.3f} or less"
        )


def imputed(study: Study, records: Tensor, n_parties: int) -> Imputed:
    """What (n, V) records with blanks (NaN) say, filled in many times together with graphs (`epgfn.learn.imputation`).

    The posterior given what was seen is the mean of the filled-in tables' posteriors, which is no product over variables. The scores
    returned are those of the product that is nearest to it (Kullback-Leibler): of every parent set they have the mean's own probability.
    A mean of the scores would forget that tables differ. Tables are drawn with every edge there, weighed by how much likelier the
    study's graphs make them, and those taken by these weights are where chains begin that draw a graph and then the blanks again.

    Raises:
        UsageError, EpgfnError: as `score_table`, and where there are too many variables for exact sums or nothing was found.
    """
    v, masks, count = len(study.variables), study_masks(study), study.data.imputations
    complete, rng = study.with_changes({"data": {"missing": "refuse"}}), np.random.default_rng(study.seed)
    settings = study.target
    t = getattr(settings, "t", None) or 1.0
    blanks = Blanks(records.double().numpy(), t, getattr(settings, "alpha_w", None) or v + 2.0, rng)

    def scores(table: npt.NDArray[np.float64]) -> Tensor:
        return score_table(complete, torch.from_numpy(table), n_parties)

    begun = blanks.filled_in(count)
    gain = [log_partition(scores(table), masks) - _with_every_edge(study, table) for table in begun]
    weights = torch.softmax(torch.tensor(gain, dtype=torch.float64), 0).numpy()
    tables, found = list[Tensor](), list[npt.NDArray[np.float64]]()
    for first in rng.choice(count, CHAINS, p=weights):
        x = begun[first]
        for turn in range(WARM + count // CHAINS):
            table = scores(x)
            probabilities, drawn = marginals_and_dags(table, masks, 1, int(rng.integers(1 << 31)))
            if turn >= WARM:
                tables.append(table)
                found.append(probabilities)
            x = blanks.again(x, drawn[0].numpy())
    wanted = np.stack(found)
    edges = np.einsum("mjk,ki->mij", wanted, study_sets(study).numpy())
    start = torch.stack(tables).mean(0)
    return Imputed(with_marginals(start, masks, wanted.mean(0)), edges.reshape(CHAINS, -1, v, v))


def _with_every_edge(study: Study, records: npt.NDArray[np.float64]) -> float:
    """log-likelihood of a graph with every edge, in nats; whichever, as all imply the same."""
    v = len(study.variables)
    before = torch.tril(torch.ones(v, v, dtype=torch.bool), -1)
    moments = moments_of(study, torch.from_numpy(records))
    return float(TARGETS[study.target.kind](moments, before, study.target).diagonal().sum())


def _by_rows(study: Study, records: Tensor, arms: Tensor | None) -> Tensor:
    """(V, K) log-likelihoods, nats: each variable's is a sum over its regimes, of the rows that belong to them and have all that its scores
    need; 0 where it has no row.

    Raises:
        EpgfnError: as `score_table`, and which rows it is about.
    """
    total = torch.zeros(len(study.variables), len(study_sets(study)), dtype=torch.float64)
    whole = Regime((), tuple(range(len(study.variables))))
    blank = records.isnan() if records.is_floating_point() else records < 0
    groups = groups_of(study) if study.data.missing == "complete-rows" else [(list(whole.variables), [])]
    for regime in [whole] if arms is None else regimes_of(study):
        belongs = torch.ones(len(records), dtype=torch.bool)
        if arms is not None:
            belongs = torch.isin(arms, torch.tensor(regime.arms))
        for group, needed in groups:
            wanted = [j for j in regime.variables if j in group]
            rows = belongs & ~blank[:, needed].any(1)
            if wanted and bool(rows.any()):
                # Columns that no score of these variables needs may have blanks still; they have no part in what is kept.
                of_rows = torch.where(blank[rows], torch.zeros((), dtype=records.dtype), records[rows])
                total[wanted] += _of_rows(study, of_rows, Regime(regime.arms, tuple(wanted)))[wanted]
    return total


def _of_rows(study: Study, records: Tensor, regime: Regime) -> Tensor:
    """(V, K) log-likelihoods of these rows, of the regime's variables; undefined elsewhere."""
    if not study.columns.numeric and not study.columns.mixed:
        categories, size = torch.tensor(categories_of(study)), study.target.sample_size
        return of_sets(study, lambda sets: bdeu(records, categories, sets, sample_size=size))
    if not study.columns.mixed:
        require_mean(study)
    judged = torch.zeros(len(study.variables), dtype=torch.bool)
    judged[list(regime.variables)] = True
    names = list(study.design.sets)
    of_arms = f" of {' and '.join(names[arm] for arm in regime.arms)}" if regime.arms else ""
    where = f"in the {'complete ' if study.data.missing == 'complete-rows' else ''}rows{of_arms}"
    try:
        if study.columns.mixed:
            sizes = torch.tensor(categories_of(study))
            return of_sets(
                study, lambda sets: conditional_gaussian(records, sizes, sets, study.target, judged)
            )
        moments = Moments.of_records(records, judged)
        return of_sets(study, lambda sets: TARGETS[study.target.kind](moments, sets, study.target))
    except DegenerateError as error:
        was_set = (
            bool(regime.arms)
            and study.design.kind == "imperfect"
            and any(
                study.variable_names[column] in study.design.sets[names[regime.arms[0]]]
                for column in error.columns
            )
        )
        hint = "; it was set there: design.kind = 'perfect' leaves such rows out" if was_set else ""
        raise EpgfnError(f"{where}, {_named(study, error)}{hint}") from None
    except EpgfnError as error:
        which = ", ".join(study.variable_names[j] for j in regime.variables)
        raise EpgfnError(f"{where}, which are what the score of {which} is taken from, {error}") from None


def of_sets(study: Study, score: Callable[[Tensor], Tensor]) -> Tensor:
    """(V, K) of `score`, which takes (M, V) bool parent sets to (V, M): asked only of sets that somebody may have, 0 for all others."""
    sets = study_sets(study)
    if space_of(study).rules is None:
        return score(sets)
    some = admissible(study).any(0)
    found = torch.zeros(sets.shape[1], len(sets), dtype=torch.float64)
    found[:, some] = score(sets[some])
    return found


def categories_of(study: Study) -> tuple[int, ...]:
    """How many categories each variable has, in a study of them; 0 of one that scores take as a number."""
    return tuple(0 if v.is_number else len(v.categories or ()) for v in study.variables)


def moments_of(study: Study, records: Tensor) -> Moments:
    """n, mean and scatter of (n, V) numbers on the study's scale.

    Raises:
        EpgfnError: a column is not finite, or its spread is lost in rounding.
    """
    try:
        return Moments.of_records(records)
    except DegenerateError as error:
        raise _named(study, error) from None


def table_from_moments(study: Study, moments: Moments, n_parties: int) -> Tensor:
    """`score_table` from n, mean and scatter, exact or noisy; n need not be whole. Returns and raises as there."""
    require_mean(study)
    try:
        scores = of_sets(study, lambda sets: TARGETS[study.target.kind](moments, sets, study.target))
    except DegenerateError as error:
        raise _named(study, error) from None
    return table_from_scores(study, scores, n_parties)


def require_mean(study: Study) -> None:
    """Raises:
    UsageError: the study sets `alpha_mu` as studies did when the mean was known, and does not say what is known of it now.
    """
    if study.is_of_known_means:
        raise UsageError(
            "the study sets target.alpha_mu without target.mean, as studies did when every mean was taken for known; say "
            'target.mean = "known" for that score, or target.mean = "unknown", where alpha_mu is how many records the '
            "public centre is worth (leave it out for none)"
        )


def _named(study: Study, error: DegenerateError) -> EpgfnError:
    names = [study.variable_names[column] for column in error.columns]
    return EpgfnError(DegenerateError.sentence(names, error.why))


def table_from_scores(study: Study, scores: Tensor, n_parties: int) -> Tensor:
    """`score_table` from log-likelihoods (V, K), columns as `study_sets`, undefined where j is in its own parent set. What the study's
    knowledge bars is left out here, whole in every party's table: a mask, and no part of the prior that N of them share."""
    table = scores + prior_table(study) / n_parties
    known = admissible(study)
    table = table.masked_fill(~known, -torch.inf)
    if not bool(torch.isfinite(table[known]).all()):
        raise EpgfnError(
            f"target {study.target.kind!r} gives scores that are not finite; check the study's centres, scales and target settings"
        )
    return table


def prior_table(study: Study) -> Tensor:
    """The whole log pi_j(Pa) in nats, (V, K) float64, finite everywhere, of the soft part of [prior]; a party's share is 1/N of it."""
    prior, v = study.prior, len(study.variables)
    if not prior.edge_probabilities:
        return PRIORS[prior.kind](study_sets(study), v, prior)
    general = general_log_odds(v, prior) if prior.kind == "edge" else 0.0
    odds = torch.full((v, v), general, dtype=torch.float64)
    for tail, head, probability in prior.edge_probabilities:
        for i, j in pairs(study, (tail, head)):
            odds[i, j] = log_odds(probability)
    return by_edge(study_sets(study), odds)
