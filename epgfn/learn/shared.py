"""Parameters that all sites share: what a node sends beside its policy then, and the score table of all records together.

    spec = statistic_spec(study)                         tensors beside the policy in a node's model file; none where each site has its own
    held = statistic_of(study, records)                  of records, exactly; `statistic_of_release` of a release with noise
    table = pooled_table(study, {"north": held, ...})    the score of the pooled records, the prior in it once

A score of pooled records needs no record, only what adds up over them: n, mean and scatter for linear-Gaussian scores; how often each
combination of values occurs, of as many columns as a family has, for BDeu. With a design there is one of these for each regime. Under
privacy mode `statistic` what is sent are the very integers that were released with noise, of which the policy's table is made as well.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from epgfn.base.errors import EpgfnError, RefusedError, UsageError
from epgfn.gflownet.policies.spec import TensorSpec
from epgfn.learn.scores import (
    admissible,
    categories_of,
    moments_of,
    of_sets,
    study_sets,
    table_from_moments,
    table_from_scores,
)
from epgfn.study import Study
from epgfn.study.design import Regime, regimes_of
from epgfn.study.objects import space_of
from epgfn.study.parameters import is_shared
from epgfn.targets import TARGETS
from epgfn.targets.bdeu import bdeu_of_tables
from epgfn.targets.gaussian import Moments

if TYPE_CHECKING:
    from epgfn.privacy.mechanisms.counts import CountsMechanism
    from epgfn.privacy.mechanisms.moments import MomentsMechanism
    from epgfn.privacy.mechanisms.release import Values

PREFIX: Final = "statistic."
RECORDS, MEAN, SCATTER, CELLS = (PREFIX + name for name in ("records", "mean", "scatter", "cells"))
MAX_CELLS: Final = 1 << 22
"""Counts that a node may have to send: 32 MiB."""
MOST_RECORDS: Final = 2.0**53
LARGEST: Final = 1 << 56
"""Of a released integer: sums of many nodes' fit into 64 bits."""
FARTHEST: Final = 1e12
"""A mean may be from the public centre, in scales; sums of products are still finite."""
TOLERANCE: Final = 1e-4
"""Nats by which a table may differ from what the numbers beside it give, beside a billionth of its largest score: machines round."""

Subset = tuple[int, ...]
Held = Mapping[str, Tensor]
"""The tensors of one node's statistic, by name."""


class Pooled(NamedTuple):
    """`table` (V, K) float64 nats, the prior in it once. `records`: how many, or under privacy how many records without noise would say as
    much. `between`: of each variable the share of its variance that lies between the sites' means; none where there are no means.
    `moments`: what adds up, where it is of numbers and all rows count for every score."""

    table: Tensor
    records: float
    between: list[float]
    moments: Moments | None = None


def apart(tensors: Held) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What a node's model file holds: the policy, and the statistic."""
    policy = {name: tensor for name, tensor in tensors.items() if not name.startswith(PREFIX)}
    return policy, {name: tensor for name, tensor in tensors.items() if name.startswith(PREFIX)}


def moments_mechanism(study: Study, n_public: int | None) -> MomentsMechanism:
    """The release of n, sums (unless the mean is known) and X^T X that the study asks for."""
    # Both mechanisms load SciPy, and few studies need them.
    from epgfn.privacy.mechanisms.moments import MomentsMechanism

    return MomentsMechanism(
        len(study.variables),
        radius=study.privacy.radius,
        with_sums=study.needs_sums,
        n_public=n_public,
        **_asked(study),
    )


def counts_mechanism(study: Study, n_public: int | None) -> CountsMechanism:
    """The release of contingency tables that the study asks for."""
    from epgfn.privacy.mechanisms.counts import CountsMechanism

    order = min(study.space.max_parents + 1, len(study.variables))
    return CountsMechanism(categories_of(study), order, n_public=n_public, **_asked(study))


def public_number(study: Study, node_id: str) -> int | None:
    """How many records the study says the node has."""
    stated = study.privacy.records
    return stated[node_id] if stated else None


def statistic_spec(study: Study) -> dict[str, TensorSpec]:
    """Names, shapes and dtypes of a node's statistic; nothing but the study decides them.

    Raises:
        UsageError: it would be more than `MAX_CELLS` counts.
    """
    if not is_shared(study):
        return {}
    v, parts = len(study.variables), len(_regimes(study))
    if study.privacy.is_private:
        return {
            name: TensorSpec((entries,), "int64")
            for stage in _stages(study)
            for name, entries in ((_name(stage.name, part.kind), part.entries) for part in stage.noise)
        }
    if study.columns.numeric:
        return {
            RECORDS: TensorSpec((parts,), "float64"),
            MEAN: TensorSpec((parts, v), "float64"),
            SCATTER: TensorSpec((parts, v, v), "float64"),
        }
    return {CELLS: TensorSpec((parts, _cells(study)), "int64")}


def statistic_of(study: Study, records: Tensor) -> dict[str, Tensor]:
    """The statistic of (n, V) records as `load_records` gives them, (n, V + 1) with a design; exact.

    Raises:
        EpgfnError: a column is not finite, or its spread is lost in rounding.
    """
    rows = _rows_by_regime(study, records)
    if study.columns.numeric:
        moments = [_moments_of(study, x, regime) for regime, x in zip(_regimes(study), rows, strict=True)]
        means = [m.mean for m in moments if m.mean is not None]
        return {
            RECORDS: torch.tensor([m.n for m in moments], dtype=torch.float64),
            MEAN: torch.stack(means),
            SCATTER: torch.stack([(m.scatter + m.scatter.T) / 2 for m in moments]),
        }
    return {CELLS: torch.stack([_counted(study, x.long().numpy()) for x in rows])}


def statistic_of_release(study: Study, outputs: Sequence[Values]) -> dict[str, Tensor]:
    """The statistic that a node's released integers are, one mapping a stage."""
    return {
        _name(stage.name, kind): torch.from_numpy(np.ascontiguousarray(values, dtype=np.int64).reshape(-1))
        for stage, output in zip(_stages(study), outputs, strict=True)
        for kind, values in output.items()
    }


def outputs_of(study: Study, held: Held) -> tuple[Values, ...]:
    """The released integers that a private node's statistic is, as its mechanism's `finish` takes them."""
    return tuple(
        {part.kind: held[_name(stage.name, part.kind)].cpu().numpy() for part in stage.noise}
        for stage in _stages(study)
    )


def pooled(study: Study, held: Mapping[str, Held]) -> Pooled:
    """The score of the records of all nodes in `held` together.

    Raises:
        EpgfnError: the pooled records give no sound score.
    """
    return Pooled(_table(study, held, 1), *_size_of(study, held))


def own_table(study: Study, node_id: str, held: Held) -> Tensor:
    """(V, K) of one node's statistic with its share of the prior: what its policy has to be made of. Raises as `pooled`."""
    return _table(study, {node_id: held}, len(study.roster))


def check_statistic(study: Study, node_id: str, held: Held, scores: Tensor) -> None:
    """Refuse a statistic that no records have, or of which the policy beside it, with the (V, K) table `scores` by
    `order_potential.normalise_table`, is not made.

    Raises:
        RefusedError: "statistic-not-sound", "statistic-not-the-policys".
    """
    require_statistic(study, held)
    from epgfn.gflownet.policies.order_potential import normalise_table

    space = space_of(study)
    try:
        wanted = normalise_table(space, own_table(study, node_id, held))
    except (EpgfnError, ValueError, ArithmeticError, np.linalg.LinAlgError):
        raise _unsound("no score can be computed from it") from None
    apart_by = (wanted - scores.double()).masked_fill(~space.admissible, 0.0).abs().max()
    if not float(apart_by) <= TOLERANCE + 1e-9 * float(wanted.abs().max()):
        raise RefusedError(
            "statistic-not-the-policys",
            "the scores in the policy are not those of the statistic that is sent beside it; train again, and send what comes out",
        )


def require_statistic(study: Study, held: Held) -> None:
    """Refuse what is not of the form that the study asks for, or numbers that no records have.

    Raises:
        RefusedError: "statistic-not-sound".
    """
    _require_form(study, held)
    _require_sound(study, held)


# --- what adds up


def _table(study: Study, held: Mapping[str, Held], parties: int) -> Tensor:
    if study.privacy.is_private:
        return _from_releases(study, held, parties)
    regimes = _regimes(study)
    if study.columns.numeric and study.design.column is None:
        return table_from_moments(study, _pooled_moments(held, 0, None), parties)
    total = torch.zeros(len(study.variables), len(study_sets(study)), dtype=torch.float64)
    for place, regime in enumerate(regimes):
        scores = _regime_scores(study, held, place, regime)
        if scores is not None:
            wanted = list(regime.variables)
            total[wanted] += scores[wanted]
    return table_from_scores(study, total, parties)


def _regime_scores(study: Study, held: Mapping[str, Held], place: int, regime: Regime) -> Tensor | None:
    """(V, K) log-likelihoods of a regime's rows; None where nobody has any."""
    if study.columns.numeric:
        if not any(float(one[RECORDS][place]) for one in held.values()):
            return None
        moments = _pooled_moments(held, place, _judged(study, regime))
        return of_sets(study, lambda sets: TARGETS[study.target.kind](moments, sets, study.target))
    cells = torch.stack([one[CELLS][place] for one in held.values()]).sum(0)
    tables, start = dict[Subset, Tensor](), 0
    for subset, shape in _shapes(study).items():
        size = math.prod(shape)
        tables[subset] = cells[start : start + size].view(shape)
        start += size
    return bdeu_of_tables(tables, study_sets(study), sample_size=study.target.sample_size)


def _from_releases(study: Study, held: Mapping[str, Held], parties: int) -> Tensor:
    if study.mechanism == "moments":
        return table_from_moments(study, Moments.pooled(_released(study, held)), parties)
    number = _public_total(study, held)
    outputs = [outputs_of(study, one) for one in held.values()]
    release = counts_mechanism(study, number).pooled(outputs)
    scores = of_sets(study, lambda sets: release.bdeu(sets, study.target.sample_size))
    return table_from_scores(study, scores, parties)


def _released(study: Study, held: Mapping[str, Held]) -> list[Moments]:
    """What each node's noisy integers say, each as its own policy takes it: means taken out, clipping undone, no negative variance."""
    return [
        moments_mechanism(study, public_number(study, node)).finish(outputs_of(study, one)).moments
        for node, one in held.items()
    ]


def _size_of(study: Study, held: Mapping[str, Held]) -> tuple[float, list[float], Moments | None]:
    """How many records in all, the share of variance between sites, and the moments."""
    if study.privacy.is_private:
        if study.mechanism != "moments":
            outputs = [outputs_of(study, one) for one in held.values()]
            return counts_mechanism(study, _public_total(study, held)).pooled(outputs).n, [], None
        parts = _released(study, held)
    elif study.columns.numeric:
        if study.design.column is not None:
            return sum(float(_all_rows(study, one)) for one in held.values()), [], None
        parts = [_one(one, 0, None) for one in held.values()]
    else:
        return sum(float(_all_rows(study, one)) for one in held.values()), [], None
    together = Moments.pooled(parts)
    if together.mean is None:
        return together.n, [], together
    within = torch.stack([part.scatter for part in parts]).sum(0).diagonal()
    return together.n, (1 - within / together.scatter.diagonal()).clamp(0, 1).tolist(), together


def _all_rows(study: Study, one: Held) -> float:
    """The largest number of rows that any regime counts; all of them where there is no design."""
    if study.columns.numeric:
        return float(one[RECORDS].max())
    size = math.prod(next(iter(_shapes(study).values())))
    return float(one[CELLS][:, :size].sum(1).max())


def _pooled_moments(held: Mapping[str, Held], place: int, judged: Tensor | None) -> Moments:
    parts = [_one(one, place, judged) for one in held.values() if float(one[RECORDS][place])]
    return Moments.pooled(parts)


def _one(held: Held, place: int, judged: Tensor | None) -> Moments:
    mean, scatter = held[MEAN][place].double(), held[SCATTER][place].double()
    return Moments(float(held[RECORDS][place]), mean, scatter, judged)


# --- of a node's own records


def _rows_by_regime(study: Study, records: Tensor) -> list[Tensor]:
    if study.design.column is None:
        return [records]
    rows, arms = records[:, :-1], records[:, -1].long()
    return [rows[torch.isin(arms, torch.tensor(regime.arms))] for regime in _regimes(study)]


def _moments_of(study: Study, rows: Tensor, regime: Regime) -> Moments:
    v = len(study.variables)
    if not len(rows):
        empty = torch.zeros(v, dtype=torch.float64)
        return Moments(0.0, empty, torch.zeros(v, v, dtype=torch.float64))
    if study.design.column is None:
        return moments_of(study, rows)
    return Moments.of_records(rows, _judged(study, regime))


def _judged(study: Study, regime: Regime) -> Tensor | None:
    if study.design.column is None:
        return None
    judged = torch.zeros(len(study.variables), dtype=torch.bool)
    judged[list(regime.variables)] = True
    return judged


def _counted(study: Study, rows: np.ndarray) -> Tensor:
    """(M,) int64 cells of all tables, one after the other."""
    cells = [
        np.bincount(
            np.ravel_multi_index(tuple(rows[:, i] for i in subset), shape), minlength=math.prod(shape)
        )
        for subset, shape in _shapes(study).items()
    ]
    return torch.from_numpy(np.concatenate(cells).astype(np.int64))


def _regimes(study: Study) -> list[Regime]:
    """The study's, or all rows in one."""
    return regimes_of(study) or [Regime((), tuple(range(len(study.variables))))]


# --- forms


def _asked(study: Study) -> dict[str, Any]:
    asked = study.privacy
    return {
        "epsilon": float(asked.epsilon or 0),
        "delta": float(asked.delta or 0),
        "adjacency": asked.adjacency,
        "unit": asked.unit,
        "rows": asked.rows_per_person,
    }


def _stages(study: Study) -> Sequence[Any]:
    """The release's stages: their names, and how many numbers of which kinds."""
    number = public_number(study, study.roster[0])
    if study.mechanism != "moments":
        return [counts_mechanism(study, number).stage]
    return moments_mechanism(study, number).planned_claim.stages


def _name(stage: str, kind: str) -> str:
    return f"{PREFIX}{stage}.{kind}"


def _public_total(study: Study, held: Mapping[str, Held]) -> int | None:
    numbers = [public_number(study, node) for node in held]
    return None if None in numbers else sum(number for number in numbers if number is not None)


def _shapes(study: Study) -> dict[Subset, tuple[int, ...]]:
    """The tables that are counted, of the families that no other holds: `max_parents` + 1 variables, or fewer by the study's knowledge."""
    sizes, v = categories_of(study), len(study.variables)
    order = min(study.space.max_parents + 1, v)
    if space_of(study).rules is None:
        subsets: list[Subset] = list(itertools.combinations(range(v), order))
    else:
        subsets = _largest_families(study)
    return {subset: tuple(sizes[i] for i in subset) for subset in subsets}


def _largest_families(study: Study) -> list[Subset]:
    known, sets = admissible(study), study_sets(study).tolist()
    found = {
        tuple(sorted({j, *(i for i, there in enumerate(sets[k]) if there)}))
        for j, k in known.nonzero().tolist()
    }
    largest: list[Subset] = []
    covered: set[Subset] = set()
    for subset in sorted(found, key=lambda one: (-len(one), one)):
        if subset not in covered:
            largest.append(subset)
            covered.update(
                part for size in range(len(subset) + 1) for part in itertools.combinations(subset, size)
            )
    return sorted(largest)


def _cells(study: Study) -> int:
    order = min(study.space.max_parents + 1, len(study.variables))
    total = MAX_CELLS + 1
    if math.comb(len(study.variables), order) <= MAX_CELLS:
        total = sum(math.prod(shape) for shape in _shapes(study).values())
    if total > MAX_CELLS:
        raise UsageError(
            f"target.parameters = 'shared' needs more than {MAX_CELLS:,} counts of each node; lower space.max_parents, merge categories or "
            "use target.parameters = 'own'"
        )
    return total


def _require_form(study: Study, held: Held) -> None:
    spec = statistic_spec(study)
    found = {name: (tuple(t.shape), str(t.dtype).removeprefix("torch.")) for name, t in held.items()}
    if found != {name: (one.shape, one.dtype) for name, one in spec.items()}:
        raise RefusedError(
            "statistic-not-sound",
            "the model does not hold the statistic that target.parameters = 'shared' asks for; train again with this version",
        )


def _require_sound(study: Study, held: Held) -> None:
    """Numbers that some records could have; of noisy ones, that they can be computed with."""
    if study.privacy.is_private:
        if any(int(t.max()) >= LARGEST or int(t.min()) <= -LARGEST for t in held.values()):
            raise _unsound("its numbers are larger than any release's")
        return
    if not study.columns.numeric:
        cells, start = held[CELLS], 0
        totals = []
        for shape in _shapes(study).values():
            size = math.prod(shape)
            totals.append(cells[:, start : start + size].sum(1))
            start += size
        total = torch.stack(totals)
        whole = (
            bool((cells >= 0).all())
            and bool((cells < MOST_RECORDS).all())
            and bool((total == total[0]).all())
        )
        if not whole or int(total.max()) < 1:
            raise _unsound("its tables do not count the same records")
        return
    n, mean, scatter = held[RECORDS], held[MEAN], held[SCATTER]
    counted = bool(((n >= 0) & (n <= MOST_RECORDS) & (n == n.floor())).all()) and float(n.max()) >= 1
    finite = bool(torch.isfinite(scatter).all()) and bool((mean.abs() <= FARTHEST).all())
    if not counted or not finite:
        raise _unsound("it has no number of records, or numbers beyond all use")
    if not torch.equal(scatter, scatter.mT) or bool((scatter.diagonal(dim1=-2, dim2=-1) < 0).any()):
        raise _unsound("its scatter is not that of any records")
    root = scatter.diagonal(dim1=-2, dim2=-1).sqrt()
    inverse = torch.where(root > 0, 1 / root, 0.0)
    correlated = scatter * inverse[..., :, None] * inverse[..., None, :]
    if float(torch.linalg.eigvalsh(correlated).min()) < -1e-8:
        raise _unsound("its scatter is not that of any records")


def _unsound(why: str) -> RefusedError:
    return RefusedError(
        "statistic-not-sound", f"the statistic beside the policy cannot be used: {why}; train again"
    )
