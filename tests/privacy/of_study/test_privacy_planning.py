"""What `epgfn.privacy.of_study.graph_plan` promises: exact comparisons, on made-up records, that say when records are too few."""

from __future__ import annotations

import numpy as np
import pytest

from epgfn.base.errors import UsageError
from epgfn.privacy.of_study.graph_plan import MOST_LOST, MOST_MOVED, Question, plan, random_network
from epgfn.study import Study
from small import PRIVATE_STUDY, SMALL_STUDY

pytestmark = pytest.mark.usefixtures("seeded_noise")
THREE = Study.from_bytes(SMALL_STUDY.encode())


def many(n_variables: int) -> Study:
    listed = ", ".join(f'{{ name = "v{i}" }}' for i in range(n_variables))
    return Study.from_bytes(f'name = "many"\nroster = ["a"]\nvariables = [{listed}]\n'.encode())


def test_few_records_are_called_too_few_and_many_are_not() -> None:
    rows = plan(Question(THREE, (20, 5_000), (0.5, 8.0), worlds=10))
    found = {(row.records, row.epsilon, row.scope): row for row in rows}
    assert len(found) == len(rows) == 8
    assert not found[20, 0.5, "local"].enough and found[5_000, 8.0, "local"].enough
    assert all(row.enough == (row.lost <= MOST_LOST and (row.l1 or 0) <= MOST_MOVED) for row in rows)
    assert found[20, 0.5, "local"].error > 5 * found[5_000, 8.0, "local"].error
    assert {(row.scope, row.nodes) for row in rows} == {("local", 1), ("product", 2)}
    for row in rows:
        assert row.worlds == 10 and 0 < row.error <= row.largest <= 1
        assert row.l1 is not None and 0 < row.l1 <= 2


def test_one_node_has_no_product_and_six_variables_no_list_of_graphs() -> None:
    rows = plan(Question(many(6), (200,), (4.0,), worlds=2))
    assert [(row.scope, row.l1, row.worlds) for row in rows] == [("local", None, 2)]


def test_the_size_of_nobody_is_needed_but_what_the_study_makes_public() -> None:
    raw = PRIVATE_STUDY.replace(
        "delta = 1e-5",
        'delta = 1e-5\nadjacency = "replace-one"\nrecords = {north = 60, south = 60}',
    )
    (row, _) = plan(Question(Study.from_bytes(raw.encode()), (60,), (4.0,), worlds=2))
    assert (row.records, row.epsilon) == (60, 4.0)


def test_without_a_number_of_worlds_time_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("epgfn.privacy.of_study.graph_plan.CPU_SECONDS", 0.0)
    seen: list[tuple[int, int]] = []
    rows = plan(Question(THREE, (50,), (4.0,)), lambda done, of: seen.append((done, of)))
    assert rows[0].worlds == 3 and [done for done, _ in seen] == [1, 2, 3]


def test_made_up_variables_have_unit_variance_and_no_cycle() -> None:
    for seed in range(5):
        mixing = random_network(7, np.random.default_rng(seed))
        np.testing.assert_allclose(np.square(mixing).sum(0), 1.0)
        reach = np.abs(mixing) > 1e-12  # i reaches j
        assert not (reach & reach.T & ~np.eye(7, dtype=bool)).any()


@pytest.mark.parametrize(
    ("study", "changed", "says"),
    [
        (many(15), {}, "14 variables"),
        (THREE, {"records": (1,)}, "records"),
        (THREE, {"records": ()}, "records"),
        (THREE, {"records": (100_000,)}, "delta"),
        (THREE, {"nodes": 0}, "node"),
        (THREE, {"worlds": 1}, "worlds"),
    ],
)
def test_what_cannot_be_planned_is_refused_at_once(study: Study, changed: dict[str, int], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Question(study, **{"records": (100,), "epsilons": (1.0,), **changed})  # type: ignore[arg-type]


def test_an_epsilon_no_release_can_have_is_refused() -> None:
    with pytest.raises(UsageError, match="epsilon"):
        plan(Question(THREE, (100,), (0.0,), worlds=2))
