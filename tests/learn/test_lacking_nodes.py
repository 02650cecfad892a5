"""What a node says of a graph that lacks one of its variables: the marginal likelihood of what it has, against sums over what it lacks."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from epgfn.base.errors import EpgfnError
from epgfn.bench.families import gaussian
from epgfn.gflownet.measure import exact
from epgfn.gflownet.measure.exact import enumerate_dags
from epgfn.learn.aggregate import train_global
from epgfn.learn.exact import exact_of_table
from epgfn.learn.local import train_local
from epgfn.learn.scores import score_table, study_masks
from epgfn.study import Study


def study(
    prior: str, lacks: str, names: str = "xyzw", kind: str = "bge", data: str = "", more: str = ""
) -> Study:
    cells = 'categories = ["0", "1"]' if kind == "bdeu" else "centre = 0, scale = 1"
    told = ", ".join(f'{{name = "{n}", {cells}}}' for n in names)
    return Study.from_bytes(
        (
            f'name = "t"\nroster = ["a", "b", "c"]\nvariables = [{told}]\nspace.max_parents = {len(names) - 1}\n'
            f'target.kind = "{kind}"\n{more}\n[prior]\n{prior}\n[data]\nlacks = {{ {lacks} }}\n{data}\n'
        ).encode()
    )  # fmt: skip


def of_graphs(one: Study, table: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """All graphs with at most `max_parents` parents, and the log-score of each."""
    graphs = enumerate_dags(len(one.variables))
    graphs = graphs[graphs.sum(1).amax(1) <= one.space.max_parents]
    column, _ = exact.table_columns(study_masks(one), graphs)
    return graphs, table[torch.arange(len(one.variables)), column].sum(1)


def bdeu_of(graph: np.ndarray, rows: np.ndarray) -> float:
    """log-probability of whole records of two categories, one after the other (sample size 1)."""
    total = 0.0
    for j in range(graph.shape[0]):
        parents = np.flatnonzero(graph[:, j])
        configurations = 2 ** len(parents)
        for seen in range(len(rows)):
            same = (rows[:seen, parents] == rows[seen, parents]).all(1)
            as_this = same & (rows[:seen, j] == rows[seen, j])
            prior = 1 / configurations
            total += math.log((as_this.sum() + prior / 2) / (same.sum() + prior))
    return total


def summed_over(graph: np.ndarray, rows: np.ndarray, lacked: int) -> float:
    """log-probability of records without a variable: the sum over everything that it may have been."""
    each = []
    for cells in itertools.product((0, 1), repeat=len(rows)):
        whole = rows.copy()
        whole[:, lacked] = cells
        each.append(bdeu_of(graph, whole))
    return float(torch.logsumexp(torch.tensor(each, dtype=torch.float64), 0))


def test_of_graphs_in_which_it_has_no_effects_the_sum_over_what_is_lacked_is_exactly_the_score() -> None:
    one = study('leaves = ["w"]', 'a = ["w"]', kind="bdeu")
    rows = np.random.default_rng(0).integers(0, 2, (6, 4))
    rows[:, 1] = rows[:, 0]
    lacking = rows.copy()
    lacking[:, 3] = -1
    graphs, found = of_graphs(one, score_table(one, torch.from_numpy(lacking), 3))
    possible = graphs[:, 3].sum(1) == 0
    assert torch.isinf(found[~possible]).all()
    for number in np.random.default_rng(1).choice(torch.nonzero(possible)[:, 0].numpy(), 25, replace=False):
        assert float(found[number]) == pytest.approx(summed_over(graphs[number].numpy(), rows, 3), abs=1e-9)


def test_no_scores_by_families_are_the_sum_where_what_is_lacked_joins_two_others() -> None:
    """Why it is refused: x <- w -> y and z alone. The sum over w is no function of parent sets: what w -> x adds depends on w -> y."""
    rows = np.random.default_rng(0).integers(0, 2, (9, 3))
    rows[:, 1] = rows[:, 0]

    def of(*edges: tuple[int, int]) -> float:
        graph = np.zeros((3, 3), dtype=int)
        for i, j in edges:
            graph[i, j] = 1
        return summed_over(graph, rows, 2)

    together = of((2, 0), (2, 1)) - of((2, 1)) - (of((2, 0)) - of())
    assert together > 0.5  # nats, of nine records


def test_a_cause_of_one_variable_alone_changes_nothing_where_it_is_lacked() -> None:
    """Its effect has the same parents otherwise and the same form of distribution, with parameters of the node's own."""
    one = study('roots = ["w"]\nforbidden = [["w", "x"], ["w", "z"]]', 'a = ["w"]')
    x = np.random.default_rng(3).normal(size=(40, 4))
    x[:, 3] = np.nan
    table = score_table(one, torch.from_numpy(x), 3)
    masks = study_masks(one)
    for k, mask in enumerate(masks.tolist()):
        if mask & 8 and torch.isfinite(table[1, k]):
            assert table[1, k] == table[1, int((masks == mask - 8).nonzero())]
    assert (table[3][torch.isfinite(table[3])] == 0).all()


@pytest.mark.parametrize("seed", range(5))
def test_the_product_of_nodes_that_lack_different_variables_is_what_listing_all_graphs_gives(
    seed: int,
) -> None:
    """Five variables, three nodes of different sizes: one lacks the last two, one the last, one nothing."""
    rng = np.random.default_rng(seed)
    one = study('tiers = [["u", "x", "y"], ["z"], ["w"]]', 'a = ["z", "w"], b = ["w"]', "uxyzw")
    mix = np.triu(rng.normal(size=(5, 5)), 1) + np.eye(5)
    parts = [rng.normal(size=(n, 5)) @ mix for n in rng.choice([15, 40, 120, 400], 3, replace=False)]
    have = [(0, 1, 2), (0, 1, 2, 3), (0, 1, 2, 3, 4)]
    total, weight = torch.zeros(5, 1), 0.0
    graphs = enumerate_dags(5)
    graphs = graphs[(graphs[:, 4].sum(1) == 0) & (graphs[:, 3, :3].sum(1) == 0)]
    families: dict[tuple[int, int, tuple[int, ...]], float] = {}
    weights = []
    for graph in graphs.tolist():
        weight = 0.0
        for node, held in enumerate(have):
            for j in held:
                parents = tuple(i for i in range(5) if graph[i][j])
                key = node, j, parents
                if key not in families:  # of the records of what the node has, as if there were nothing else
                    of_held = parts[node][:, held]
                    families[key] = gaussian(
                        of_held, held.index(j), tuple(map(held.index, parents)), len(held)
                    )
                weight += families[key]
        weights.append(weight)
    expected = torch.einsum(
        "d,dij->ij", torch.softmax(torch.tensor(weights, dtype=torch.float64), 0), graphs.double()
    )
    tables = []
    for part, held in zip(parts, have, strict=True):
        x = part.copy()
        x[:, [j for j in range(5) if j not in held]] = np.nan
        tables.append(score_table(one, torch.from_numpy(x), 3))
    total = torch.stack(tables).sum(0)
    found = exact_of_table(one, total)
    assert found is not None
    for i, j in itertools.permutations(range(5), 2):
        name = f"{one.variable_names[i]}->{one.variable_names[j]}"
        assert found.probabilities[name] == pytest.approx(float(expected[i, j]), abs=1e-9)


def test_accepted_confounding_really_is_confounding() -> None:
    """w causes x and y strongly, at all of three sites, and x and y have nothing else in common: the two sites that have w say so, the one
    that lacks it says x - y, and with most of the records it is believed."""
    one = study('roots = ["w"]', 'c = ["w"]', data="accept_confounding = true")
    rng = np.random.default_rng(0)

    def part(n: int) -> np.ndarray:
        w = rng.normal(size=n)
        return np.column_stack([w + rng.normal(size=n), w + rng.normal(size=n), rng.normal(size=n), w])

    parts = [part(60), part(60), part(2000)]
    lacking = parts[2].copy()
    lacking[:, 3] = np.nan
    whole = torch.stack([score_table(one, torch.from_numpy(x), 3) for x in parts]).sum(0)
    product = torch.stack([score_table(one, torch.from_numpy(x), 3) for x in [*parts[:2], lacking]]).sum(0)

    def adjacent(table: torch.Tensor) -> float:
        found = exact_of_table(one, table)
        assert found is not None
        return found.probabilities["x->y"] + found.probabilities["y->x"]

    assert adjacent(whole) < 0.1 and adjacent(product) > 0.99


def test_records_without_a_variable_that_the_study_gives_the_node_are_refused() -> None:
    one = study('leaves = ["w", "z"]', 'a = ["w"]')
    x = np.random.default_rng(0).normal(size=(30, 4))
    x[:, 2:] = np.nan
    with pytest.raises(EpgfnError, match="without any value of z and w, which no node of the study lacks"):
        score_table(one, torch.from_numpy(x), 3)


@pytest.mark.parametrize("how", ["complete-rows", "design"])
def test_blanks_and_designs_of_what_a_node_has_count_as_ever(how: str) -> None:
    blanks = how == "complete-rows"
    more = "" if blanks else 'design = { column = "arm", sets = { usual = [], set = ["y", "w"] } }'
    data = 'missing = "complete-rows"' if blanks else ""
    rng = np.random.default_rng(4)
    x = rng.normal(size=(60, 4))
    if blanks:
        x[:9, 0] = np.nan
    else:
        x = np.column_stack([x, np.arange(60) % 2])
    one = study('leaves = ["w"]', 'a = ["w"]', data=data, more=more)
    part = Study.from_bytes(
        b'name = "t"\nroster = ["a"]\nspace.max_parents = 2\n'
        + ("variables = [" + ", ".join(f'{{name = "{n}", centre = 0, scale = 1}}' for n in "xyz") + "]\n").encode()
        + (b'[data]\nmissing = "complete-rows"\n' if blanks else b'[design]\ncolumn = "arm"\nsets = { usual = [], set = ["y"] }\n')
    )  # fmt: skip
    wanted = score_table(part, torch.from_numpy(np.delete(x, 3, axis=1)), 1)
    x[:, 3] = np.nan
    found = score_table(one, torch.from_numpy(x), 3)
    at = {mask: k for k, mask in enumerate(study_masks(one).tolist())}
    for k, mask in enumerate(study_masks(part).tolist()):
        for j in range(3):
            if not mask >> j & 1:
                assert float(found[j, at[mask]]) == pytest.approx(float(wanted[j, k]), abs=1e-9)


def test_models_of_lacking_nodes_are_trained_and_multiplied() -> None:
    one = study('leaves = ["w"]', 'a = ["w"]', more="training.steps = 5\naggregation.steps = 5")
    rng = np.random.default_rng(1)
    parts = {
        node: rng.normal(size=(n, 4)) @ (np.eye(4) + np.eye(4, k=1))
        for node, n in zip("abc", (30, 60, 200), strict=True)
    }
    parts["a"][:, 3] = np.nan
    models = {node: train_local(one, x, seed=1).tensors for node, x in parts.items()}
    result = train_global(one, models, seed=1)
    total = torch.stack([score_table(one, torch.from_numpy(x), 3) for x in parts.values()]).sum(0)
    known = exact_of_table(one, total)
    assert known is not None and result.judged.basis == "exact"
    for name, p in known.probabilities.items():
        assert result.judged.probabilities[name] == pytest.approx(p, abs=1e-4)
