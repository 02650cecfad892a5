"""Whether somebody can tell that a record is among a node's, tried on the node's own model and records before anything leaves.

Two who attack, both of whom have opened a model of graphs that carries its score table, in privacy mode none:

    all-but-one    knows every other record too, and computes the table with and without the record in question.
    population     knows what is usual (here: all of the node's records together, as a mean and a covariance, or as shares of cells), and
                   has what can be computed from models of random halves of the records: shadow models, of which it is known who is in.

    measured = all_but_one(study, table, records, seed=0)

Made for `epgfn-node inspect --dossier`: what comes out is computed from the records, for their owner alone.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from epgfn.gflownet.measure.ranks import mean_ranks
from epgfn.gflownet.policies.order_potential import normalise_table, stored
from epgfn.learn.scores import score_table
from epgfn.study import Study
from epgfn.study.objects import space_of
from epgfn.study.records.table import Numbers

Floats = npt.NDArray[np.float64]

TARGETS: Final = 20
MOST_SCORES: Final = 200_000
"""Numbers in a table beyond which fewer records are tried."""
SHADOWS: Final = 20
LEAST_A_VARIABLE: Final = 8
"""Records a variable below which a half says nothing of its covariance."""
FALSE_POSITIVES: Final = 0.01


class Measured(NamedTuple):
    """How often the attack is right: `auc` (.5: guessing, 1: certainty), the share `tpr` of members that it calls members while it does so
    with one in a hundred others, over so many `members` and `others`."""

    auc: float
    tpr: float
    members: int
    others: int


def all_but_one(study: Study, table: Floats, records: Numbers, *, seed: int) -> Measured:
    """The attack on the score table of a model, as its file holds it, for some of the `records` it was trained on, and as many made up by
    drawing each column by itself."""
    draw, n = np.random.default_rng(seed), len(records)
    count = min(n, TARGETS if table.size <= MOST_SCORES else 2)
    sent = torch.as_tensor(np.array(table))
    space = space_of(study)

    def off(rows: Numbers) -> float:
        made = normalise_table(space, score_table(study, rows, len(study.roster)))
        return float((stored(space, made) - sent).abs().max())

    whole = off(records)
    member = [off(np.delete(records, i, axis=0)) - whole for i in draw.choice(n, count, replace=False)]
    strangers = np.stack([draw.choice(column, count) for column in records.T], axis=1).astype(records.dtype)
    other = [whole - off(np.concatenate([records, row[None]])) for row in strangers]
    return _measured(np.array(member), np.array(other))


def population(study: Study, records: Numbers, *, seed: int) -> Measured | None:
    """The attack on what models of random halves of the `records` say; None where these are too few."""
    n, v = records.shape
    if n < 2 * LEAST_A_VARIABLE * (v if study.columns.numeric else 1):
        return None
    draw = np.random.default_rng(seed)
    member, other = [], []
    for _ in range(SHADOWS):
        order = draw.permutation(n)
        inside = order[: n // 2]
        score = _gaussian(records, inside) if study.columns.numeric else _cells(study, records, inside)
        member.append(score[inside])
        other.append(score[order[n // 2 :]])
    return _measured(np.concatenate(member), np.concatenate(other))


def _gaussian(records: Numbers, inside: Numbers) -> Floats:
    """(n,) how much likelier each record is under the mean and covariance of those `inside` than of all."""
    half, whole = (_mahalanobis(records, rows) for rows in (records[inside], records))
    return (whole - half) / 2


def _mahalanobis(records: Numbers, of: Numbers) -> Floats:
    centred = records - of.mean(0)
    spread = np.cov(of.T) + 1e-9 * np.eye(records.shape[1])
    distances: Floats = np.einsum("ni,ni->n", centred, np.linalg.solve(spread, centred.T).T)
    return distances


def _cells(study: Study, records: Numbers, inside: Numbers) -> Floats:
    """(n,) the same by how often each record's combination of as many columns as a family has occurs."""
    columns = records[:, : study.space.max_parents + 1]
    _, cell = np.unique(columns, axis=0, return_inverse=True)
    cell = cell.reshape(-1)
    every = np.bincount(cell)
    some = np.bincount(cell[inside], minlength=len(every))
    share: Floats = np.log(some[cell] + 0.5) - np.log(every[cell])
    return share


def _measured(member: Floats, other: Floats) -> Measured:
    ranks = mean_ranks(np.concatenate([member, other]))
    a, b = len(member), len(other)
    auc = (float(ranks[:a].sum()) - a * (a + 1) / 2) / (a * b)
    threshold = np.sort(other)[::-1][int(FALSE_POSITIVES * b)]
    return Measured(auc, float((member > threshold).mean()), a, b)


def as_json(found: Measured) -> dict[str, Any]:
    """The figures, rounded to what they are worth."""
    return {
        "auc": round(found.auc, 4),
        "true_positive_rate_at_1_percent": round(found.tpr, 4),
        "members": found.members,
        "others": found.others,
    }
