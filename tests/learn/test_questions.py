"""Questions in words: their probabilities are those of the enumeration of all graphs, and what cannot be read is told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from epgfn.base.errors import UsageError
from epgfn.gflownet.measure.distances import exact_distribution
from epgfn.gflownet.measure.exact import enumerate_dags
from epgfn.gflownet.measure.graph_relations import classes
from epgfn.gflownet.measure.structure_chains import ENOUGH
from epgfn.gflownet.spaces.parent_index import modular_score
from epgfn.learn import model as models
from epgfn.learn.local import train_local
from epgfn.learn.model import Model
from epgfn.learn.questions import FORMS, question
from worlds import BY_EDGES, BY_SINKS, records


@pytest.fixture(scope="module")
def model() -> Model:
    study = BY_SINKS.with_changes({"training": {"steps": 20}})
    return Model(study, train_local(study, records(0), seed=1).tensors)


@pytest.fixture(scope="module")
def mass(model: Model) -> tuple[Tensor, Tensor]:
    """All graphs of four variables, and their posterior probabilities by the model's scores."""
    graphs, table = enumerate_dags(4), model._scores()
    assert table is not None
    return graphs, exact_distribution(modular_score(table.double(), graphs, model.space.max_parents))


def asked(form: str, names: list[str]) -> str:
    return form.format(*names[1:])


@pytest.mark.parametrize("form", [form for form, _ in FORMS] + ["a path leads from {} to {} avoiding {}"])
@pytest.mark.parametrize("basis", ["exact", "weighted", "chains"])
def test_as_probable_as_enumeration_says(
    model: Model, mass: tuple[Tensor, Tensor], form: str, basis: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if basis != "exact":
        monkeypatch.setattr(models, "MAX_VARIABLES", 3)
    if basis == "chains":
        monkeypatch.setattr(models, "weights_hold", lambda *_: False)
    graphs, p = mass
    text = asked(form, model.variable_names)
    truth = float(p[question(text, model.variable_names).holds(graphs)].sum())
    found = model.probability(text, n=4000)
    assert found.basis == basis and 0 < found.error < 0.04
    assert abs(float(found) - truth) < 4.5 * found.error + (ENOUGH if basis == "chains" else 0)


def test_most_probable_graphs_and_classes(model: Model, mass: tuple[Tensor, Tensor]) -> None:
    graphs, p = mass
    for as_classes in (False, True):
        found = model.most_probable(3, classes=as_classes, n=8000)
        kinds = classes(graphs) if as_classes else graphs
        for graph, share in zip(found.graphs, found.share, strict=True):
            truth = float(p[(kinds == graph).all(2).all(1)].sum())
            assert abs(share - truth) < 4.5 * np.sqrt(0.25 / 8000)
        assert list(found.rows()["share"]) == sorted(found.share, reverse=True)
        assert all("->" in text or "-" in text for text in found.rows()["edges"])


def test_chains_answer_where_weights_hold_and_miss_what_no_sample_shows(
    model: Model, mass: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Samples of a model that never draws a -> b weigh well, and are wrong."""
    graphs, p = mass
    truth = float(p[graphs[:, 0, 1]].sum())
    assert truth > 0.1
    whole = models.own_samples

    def without(*arguments: Any) -> Any:
        own = whole(*arguments)
        return own._replace(log_weight=own.log_weight.masked_fill(own.final.adjacency[:, 0, 1], -1e3))

    monkeypatch.setattr(models, "MAX_VARIABLES", 3)
    monkeypatch.setattr(models, "exact_of_table", lambda *_: None)
    monkeypatch.setattr(models, "own_samples", without)
    one, other = model.variable_names[:2]
    found = model.probability(f"{one} -> {other}", n=4000)
    assert found.basis == "chains" and abs(found.probability - truth) < 4.5 * found.error + ENOUGH
    assert abs(model.marginals(4000)[f"{one}->{other}"] - truth) < 0.05


def test_a_model_without_scores_answers_by_its_own_samples() -> None:
    study = BY_EDGES.with_changes({"training": {"steps": 2}})
    model = Model(study, train_local(study, records(0), seed=0).tensors)
    one, other = model.variable_names[:2]
    found, drawn = model.probability(f"{one} -> {other}", n=2500), model.graphs(2500)
    assert found.basis == "samples" and len(drawn.graphs) == 2500
    assert float(found) == pytest.approx(float(drawn.graphs[:, 0, 1].double().mean()))


def test_names_that_hold_words_of_a_question_or_blanks() -> None:
    names = ["a", "a and b", "HbA1c %", "a -> b", '"q"']
    assert question("a and b is a parent of HbA1c %", names).of == [1, 2]
    assert question('"a -> b" -> "a"', names).of == [3, 0]
    assert question('"q" - a', names).of == [4, 0]
    assert question("  a   is an ancestor of   a and b ", names).of == [0, 1]
    chain = torch.zeros(1, 5, 5, dtype=torch.bool)
    chain[0, 0, 1] = chain[0, 1, 2] = True
    assert bool(question("a path leads from a to HbA1c %", names).holds(chain))
    assert not bool(question("a path leads from a to HbA1c % avoiding a -> b, a and b", names).holds(chain))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a causes b", "cannot read 'a causes b'; it is none of these"),
        ("a -> c", "cannot read .* with names of the study's variables, which are a, b: "),
        ("a -> a", "named twice"),
        ("a path leads from a to b avoiding b", "where it begins or ends"),
        ("a path leads from a to b avoiding z", "no variable 'z'"),
        ("", "cannot read"),
    ],
)
def test_what_cannot_be_read_is_told(text: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        question(text, ["a", "b"])
