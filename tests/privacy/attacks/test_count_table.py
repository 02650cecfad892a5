"""What a node's BDeu table tells whoever opens its model, in privacy mode none: its table of records, up to the names of the values."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from epgfn.gflownet.policies.order_potential import normalise_table
from epgfn.gflownet.spaces import DagBySinks
from epgfn.learn.policy import initial_policy
from epgfn.learn.scores import score_table
from epgfn.privacy.attacks.count_table import from_bdeu
from epgfn.sealing.model_file import write_model
from epgfn.sealing.model_header import read_header
from epgfn.study import Study
from epgfn_node.exposure import exposed, in_words


def study_of(*categories: int, parents: int = 2) -> Study:
    variables = ", ".join(
        f'{{name = "{name}", categories = {[str(k) for k in range(r)]}}}'
        for name, r in zip("abcdef", categories, strict=False)
    )
    return Study.from_bytes(
        f'name = "counts"\nroster = ["north", "south"]\nvariables = [{variables}]\n[space]\nmax_parents = {parents}\n'
        '[target]\nkind = "bdeu"\n'.encode()
    )


def world(seed: int, n: int, categories: tuple[int, ...]) -> np.ndarray:
    """Records of a random network, each variable with up to two parents."""
    draw, columns = np.random.default_rng(seed), []
    for i, r in enumerate(categories):
        parents = [j for j in range(i) if draw.random() < 0.5][:2]
        shape = tuple(categories[j] for j in parents)
        place = np.ravel_multi_index([columns[j] for j in parents], shape) if parents else np.zeros(n, int)
        chances = draw.dirichlet(np.ones(r), size=int(np.prod(shape, dtype=int)))
        columns.append(np.array([draw.choice(r, p=chances[k]) for k in place]))
    return np.stack(columns, axis=1)


def sent(study: Study, records: np.ndarray) -> np.ndarray:
    """The table as a model file carries it."""
    space = DagBySinks(len(study.variables), study.space.max_parents)
    return normalise_table(space, score_table(study, records, 2)).numpy()


def is_so_up_to_names(records: np.ndarray, columns: list[int], counts: np.ndarray) -> bool:
    true = np.zeros(counts.shape, int)
    np.add.at(true, tuple(records[:, i] for i in columns), 1)
    names = itertools.product(*(itertools.permutations(range(r)) for r in counts.shape))
    return any((true[np.ix_(*each)] == counts).all() for each in names)


@pytest.mark.parametrize(
    ("categories", "parents", "n"),
    [
        ((2, 2, 2), 2, 30),
        ((2, 2, 2), 2, 250),
        ((2, 2, 2, 2, 2), 3, 60),
        ((2, 3, 2), 2, 40),
        ((2, 2, 2), 1, 30),
    ],
)
def test_number_of_records_and_table_come_out_of_differences_of_scores(
    categories: tuple[int, ...], parents: int, n: int
) -> None:
    records = world(7, n, categories)
    table = sent(study_of(*categories, parents=parents), records)
    table += np.random.default_rng(0).normal(
        size=(len(table), 1)
    )  # a constant of each variable's own tells nothing
    found = from_bdeu(table, categories, sample_size=1.0)
    assert found is not None and found.n == n and found.tried >= n
    for places, counts in found.tables.items():
        assert is_so_up_to_names(records, [found.variables[i] for i in places], counts)


def test_of_many_records_the_table_comes_out_for_who_knows_how_many() -> None:
    records = world(3, 1_000, (2, 2, 2))
    table = sent(study_of(2, 2, 2), records)
    assert from_bdeu(table, (2, 2, 2), sample_size=1.0, n=999) is None
    found = from_bdeu(table, (2, 2, 2), sample_size=1.0, n=1_000)
    assert found is not None and is_so_up_to_names(records, [0, 1, 2], found.tables[0, 1, 2])


def test_what_the_scores_do_not_tell_is_not_made_up() -> None:
    records = world(1, 10, (2, 2, 2))
    assert (
        from_bdeu(sent(study_of(2, 2, 2), records), (2, 2, 2), sample_size=1.0) is None
    )  # more than one table has them
    table = sent(study_of(2, 2, 2), world(7, 30, (2, 2, 2)))
    assert (
        from_bdeu(table + np.random.default_rng(1).normal(0, 1e-3, table.shape), (2, 2, 2), sample_size=1.0)
        is None
    )
    assert from_bdeu(table[:2, :3], (2, 2), sample_size=1.0) is None  # two variables
    assert (
        from_bdeu(sent(study_of(9, 9, 9), world(2, 60, (9, 9, 9))), (9, 9, 9), sample_size=1.0) is None
    )  # too much to try


def test_scores_with_a_prior_in_them_are_not_read_as_likelihoods() -> None:
    for prior in ('forbidden = [["a", "b"]]', 'edge_probabilities = [["a", "b", 0.2]]', 'kind = "fan-in"'):
        study = Study.from_bytes(study_of(2, 2, 2).raw + f"[prior]\n{prior}\n".encode())
        tensors = initial_policy(
            study, score_table(study, world(7, 30, (2, 2, 2)), 2), torch.Generator().manual_seed(0)
        )
        raw = write_model(tensors, {"study_digest": study.digest, "role": "local"})
        assert exposed(study, raw, read_header(raw)[0])["records"] is None


@pytest.mark.parametrize(
    ("n", "told", "words"),
    [(30, None, "there are 30 of them, and in all 3"), (500, 500, "you have 500 records: in all 3")],
)
def test_a_node_is_shown_what_its_own_model_file_tells(n: int, told: int | None, words: str) -> None:
    study, records = study_of(2, 2, 2), world(7, n, (2, 2, 2))
    tensors = initial_policy(study, score_table(study, records, 2), torch.Generator().manual_seed(0))
    raw = write_model(tensors, {"study_digest": study.digest, "role": "local"})
    found = exposed(study, raw, read_header(raw)[0], told)
    _, times = np.unique(records, axis=0, return_counts=True)
    made = found["combinations"]
    assert (found["records"], made["shown"], made["alone"]) == (n, len(times), int((times == 1).sum()))
    assert words in " ".join(in_words(found)) and made["was_told"] == (told is not None)
