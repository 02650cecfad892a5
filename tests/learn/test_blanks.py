"""Scores of records with blanks: complete rows are those rows alone; filled-in tables against sums that fill in nothing of graphs."""

from __future__ import annotations

import numpy as np
import torch

from epgfn.bench.truth_cases import graphs
from epgfn.gflownet.measure.exact import edge_marginals, enumerate_dags, local_marginals, log_scores
from epgfn.gflownet.measure.projection import with_marginals
from epgfn.learn.local import train_local
from epgfn.learn.scores import imputed, score_table, study_masks
from epgfn.study import Study


def _records(n: int, rate: float, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3))
    x[:, 1] = 0.4 * x[:, 0] + x[:, 1]
    x[:, 2] = 0.5 * x[:, 1] + x[:, 2]
    blank = np.zeros(x.shape, dtype=bool)
    blank[:, 1] = rng.random(n) < rate / (1 + np.exp(-x[:, 0])) * 2  # at random given x
    seen = x.copy()
    seen[blank] = np.nan
    return x, seen


def _study(missing: str, x: np.ndarray, more: str = "") -> Study:
    return graphs("t", [x], f'[space]\nmax_parents = 2\n[data]\nmissing = "{missing}"\n{more}').study


def test_complete_rows_are_scored_as_if_there_were_no_others() -> None:
    _, seen = _records(80, 0.3)
    whole = seen[~np.isnan(seen).any(1)]
    found = score_table(_study("complete-rows", seen), seen, 1)
    torch.testing.assert_close(found, score_table(_study("refuse", seen), whole, 1))
    tiers = '[prior]\ntiers = [["v0"], ["v1", "v2"]]\n'
    apart = score_table(_study("complete-rows", seen, tiers), seen, 1)
    every = score_table(_study("refuse", seen, tiers), np.nan_to_num(seen), 1)
    assert float(apart[0, 0]) == float(every[0, 0]), "of v0 nothing is blank, so its score takes all records"


def test_categories_leave_out_rows_with_blanks() -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2, (60, 3))
    seen = x.copy()
    seen[::5, 1] = -1
    told = [f'{{ name = "v{j}", categories = ["a", "b"] }}' for j in range(3)]
    more = 'target.kind = "bdeu"\ndata.missing = "complete-rows"\nspace.max_parents = 2\n'
    study = graphs("t", [seen], more, told).study
    torch.testing.assert_close(score_table(study, seen, 1), score_table(study, x[(seen >= 0).all(1)], 1))


def test_a_table_has_the_probabilities_that_a_mean_of_posteriors_has() -> None:
    study = _study("refuse", _records(10, 0)[0])
    masks = study_masks(study)
    tables = [score_table(study, _records(60, 0, seed)[0], 1) for seed in (1, 2, 3)]
    wanted = np.mean([local_marginals(table, masks) for table in tables], axis=0)
    found = with_marginals(torch.stack(tables).mean(0), masks, wanted)
    np.testing.assert_allclose(local_marginals(found, masks), wanted, atol=1e-3)


def test_filled_in_tables_say_what_the_seen_records_say() -> None:
    """Against the integral over what was not seen, written down for three variables: with v1 blank in some rows only, these rows count for
    v0 and v2 alone, whose likelihood given a graph's parameters is averaged over draws of the parameters from the complete rows."""
    _, seen = _records(60, 0.4)
    study = _study("impute", seen, "imputations = 100\n")
    found = imputed(study, torch.as_tensor(seen), 1)
    expected = _by_averaging(seen, study)
    np.testing.assert_allclose(edge_marginals(found.table, study_masks(study)), expected, atol=0.06)
    assert "filled in 100 times" in found.in_words(study)


def _by_averaging(seen: np.ndarray, study: Study) -> np.ndarray:
    rng, whole, many = np.random.default_rng(9), ~np.isnan(seen).any(1), 20_000
    x, rest = seen[whole], seen[~whole][:, [0, 2]]
    dags, total = enumerate_dags(3), []
    known = log_scores(score_table(study, x, 1), study_masks(study), dags)
    scatter = np.eye(3) + (x - x.mean(0)).T @ (x - x.mean(0))
    middle = rest.mean(0)
    spread = (rest - middle).T @ (rest - middle)
    for at, graph in enumerate(dags.numpy()):
        across, weight = np.tile(np.eye(3), (many, 1, 1)), np.empty((many, 3))
        for j in range(3):
            p = np.flatnonzero(graph[:, j])
            inner = np.linalg.inv(scatter[np.ix_(p, p)])
            best = inner @ scatter[p, j]
            left = scatter[j, j] - scatter[p, j] @ best
            weight[:, j] = rng.gamma((len(x) + len(p) + 3) / 2, 2 / left, many)
            noise = rng.normal(size=(many, len(p))) @ np.linalg.cholesky(inner).T
            across[:, p, j] = -(best + noise / np.sqrt(weight[:, [j]]))
        cov = np.linalg.inv(across * weight[:, None] @ across.transpose(0, 2, 1))
        root = np.linalg.cholesky(cov / len(x))
        off = middle - (x.mean(0) + np.einsum("dij,dj->di", root, rng.normal(size=(many, 3))))[:, [0, 2]]
        two = cov[:, [0, 2]][:, :, [0, 2]]
        about = spread + len(rest) * off[:, :, None] * off[:, None, :]
        gains = -0.5 * np.einsum("dij,dji->d", np.linalg.inv(two), about)
        gains -= len(rest) / 2 * np.linalg.slogdet(two)[1]
        total.append(float(known[at]) + float(np.logaddexp.reduce(gains)))
    weights = np.exp(np.array(total) - max(total))
    return np.einsum("d,dij->ij", weights / weights.sum(), dags.numpy().astype(float))


def test_a_node_trains_on_blanks_and_is_told_how_much_they_leave_open() -> None:
    _, seen = _records(60, 0.3)
    study = _study("impute", seen, "imputations = 20\n[training]\nsteps = 20\n")
    result = train_local(study, seen, seed=1)
    assert result.notes and "filled in 20 times" in result.notes[0]
