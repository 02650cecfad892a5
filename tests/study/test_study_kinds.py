"""A study of any kind: its models are its posterior, its words are its objects', its private releases say what they cost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from epgfn.base.errors import UsageError
from epgfn.gflownet.measure.distances import exact_distribution, l1
from epgfn.gflownet.spaces.enumeration import explore, terminating_states
from epgfn.gflownet.spaces.parent_index import modular_score
from epgfn.learn.aggregate import train_global
from epgfn.learn.local import train_local
from epgfn.learn.model import Model, terminating_distribution
from epgfn.learn.policy import require_possible
from epgfn.learn.target import Target, target_of
from epgfn.privacy.of_study.agreement import require_claim
from epgfn.privacy.of_study.releases import maker_of
from epgfn.study import Study
from epgfn.study.objects import marginals, space_of, written
from epgfn.study.records.tables import load_bounded_records, load_records
from kinds import TEXTS, private_study, study, write_records


def log_reward(study: Study, target: Target, state: object) -> Tensor:
    """(M,) nats of finished states."""
    if target.table is None:
        return target.log_reward(state)
    return modular_score(target.table, state.adjacency, study.space.max_parents)  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", TEXTS)
def test_local_and_global_models_are_the_exact_posteriors(kind: str, tmp_path: Path) -> None:
    loaded = study(kind)
    records = {
        node: load_records(write_records(kind, tmp_path / node, 40, seed), loaded)
        for seed, node in enumerate(loaded.roster)
    }
    models = {node: train_local(loaded, found, seed=1).tensors for node, found in records.items()}
    rewards = {node: target_of(loaded, found) for node, found in records.items()}
    for node, tensors in models.items():
        state, mass = terminating_distribution(Model(loaded, tensors))
        assert l1(mass, exact_distribution(log_reward(loaded, rewards[node], state))) < 0.05
    together = Model(loaded, train_global(loaded, models, seed=2).tensors)
    state, mass = terminating_distribution(together)
    total = torch.stack([log_reward(loaded, target, state) for target in rewards.values()]).sum(0)
    assert l1(mass, exact_distribution(total)) < 0.1
    # What is said about the objects is said about these very objects.
    texts = written(loaded, state)
    assert len(set(texts)) == len(texts)
    if not loaded.kind.has_edges:
        assert len(texts) == loaded.number_of_objects
    expected = marginals(loaded, state, mass / mass.sum())
    drawn = together.marginals(4000, seed=1)
    assert drawn.keys() == expected.keys()
    assert max(abs(drawn[name] - expected[name]) for name in expected) < 0.06
    assert set(together.sample(50, seed=3).objects) <= set(texts)


@pytest.mark.usefixtures("seeded_noise")
@pytest.mark.parametrize("kind", TEXTS)
def test_a_private_release_is_near_and_its_claim_holds_at_the_coordinator(kind: str, tmp_path: Path) -> None:
    """Far nearer to the posterior than knowing nothing is; and of the study's epsilon, as anyone can recompute."""
    loaded = private_study(kind)
    records = load_bounded_records(write_records(kind, tmp_path / "r", 400), loaded)
    maker = maker_of(loaded, "north")
    maker.check(records)
    done = maker.finish(maker.observe(records))
    assert done.claim == maker.planned_claim and done.claim.epsilon == pytest.approx(8.0, rel=1e-6)
    assert require_claim(loaded, done.claim.to_json()) == done.claim
    assert done.claim.unit == ("site" if kind == "phylogeny" else "record")
    space = space_of(loaded)
    state = terminating_states(space, explore(space))
    assert done.target is not None
    private = exact_distribution(log_reward(loaded, done.target, state))
    exact = exact_distribution(log_reward(loaded, target_of(loaded, records.scaled), state))
    uniform = torch.full_like(exact, 1 / len(exact))
    assert l1(private, exact) < 0.5 * l1(uniform, exact)


@pytest.mark.parametrize("kind", TEXTS)
def test_two_releases_of_the_same_records_differ(kind: str, tmp_path: Path) -> None:
    """Noise comes from the operating system, never from a seed."""
    loaded = private_study(kind)
    records = load_bounded_records(write_records(kind, tmp_path / "r", 100), loaded)
    maker = maker_of(loaded, "north")
    assert maker.observe(records) != maker.observe(records)


def test_categories_are_read_by_name_whatever_the_order_of_columns_and_lists(tmp_path: Path) -> None:
    loaded = study("categories")
    path = write_records("categories", tmp_path / "r", 30)
    found = load_records(path, loaded)
    assert found.shape == (30, 3) and found.dtype == np.int64
    turned = Study.from_bytes(TEXTS["categories"].replace('["0", "1", "2"]', '["2", "1", "0"]').encode())
    assert (load_records(path, turned)[:, 1] == 2 - found[:, 1]).all()
    private = private_study("categories")
    other = Study.from_bytes(private.raw.replace(b'["0", "1", "2"]', b'["2", "1", "0"]'))
    assert (load_bounded_records(path, private).raw == load_bounded_records(path, other).raw).all()


@pytest.mark.parametrize(
    ("kind", "cell", "what"),
    [("categories", "Sometimes", "none of the study's categories"), ("multiset", "", "is blank")],
)
def test_a_cell_that_is_no_category_is_refused_without_quoting_it(
    kind: str, cell: str, what: str, tmp_path: Path
) -> None:
    loaded = study(kind)
    path = write_records(kind, tmp_path / "r", 5)
    lines = path.read_text().splitlines()
    first = lines[3].split(",")
    lines[3] = ",".join([cell or " ", *first[1:]])
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(UsageError) as caught:
        load_records(path, loaded)
    assert (
        what in str(caught.value) and "line 4" in str(caught.value) and "Sometimes" not in str(caught.value)
    )


@pytest.mark.parametrize(
    ("kind", "old", "new", "names"),
    [
        ("multiset", "size = 4", "side = 4", "space.side has no meaning"),
        ("multiset", "size = 4\n", "", "needs space.size"),
        ("multiset", "signal = 0.4", 'kind = "bge"', "does not go with space 'multiset'"),
        ("multiset", "[policy]", '[prior]\nkind = "edge"\n[policy]', "prior"),
        ("multiset", ', categories = ["apple", "pear", "fig"]', "", "categories"),
        ("multiset", '"fig"]', '"fig", "fig"]', "twice"),
        ("sequence", "[policy]", '[policy]\nkind = "edge-net"', "does not go with space 'sequence'"),
        ("phylogeny", ', {name = "cat"}, {name = "dog"}', "", "three taxa"),
        ("phylogeny", '"cat"', '"big cat"', "taxon"),
        ("hypergrid", "lower = 0, ", "", "public bounds"),
        ("hypergrid", "lower = 1,", "lower = 0,", "logarithm"),
        ("categories", 'kind = "bdeu"', 'kind = "bge"', "takes numbers"),
        (
            "categories",
            '{name = "cough", categories = ["no", "yes"]}',
            '{name = "cough"}',
            "takes categories",
        ),
        ("categories", "max_parents = 2", "max_parents = 2\nsize = 3", "space.size has no meaning"),
    ],
)
def test_a_study_that_makes_no_sense_is_refused_in_one_sentence(
    kind: str, old: str, new: str, names: str
) -> None:
    assert old in TEXTS[kind]
    with pytest.raises(UsageError) as caught:
        Study.from_bytes(TEXTS[kind].replace(old, new, 1).encode(), source="mine.toml")
    assert names in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "mode", "names"),
    [
        ("categories", "answers", "mode = 'statistic'"),
        ("multiset", "statistic", "mode = 'answers'"),
        ("multiset", "gradient", "rate and privacy.clip"),
    ],
)
def test_a_mode_without_a_mechanism_names_the_way_out(kind: str, mode: str, names: str) -> None:
    with pytest.raises(UsageError, match=names):
        private_study(kind, mode)


def test_answers_about_too_many_objects_are_refused_when_the_study_is_read() -> None:
    text = TEXTS["sequence"].replace("max_length = 3", "max_length = 30")
    with pytest.raises(UsageError, match="answers for every object"):
        Study.from_bytes((text + '[privacy]\nmode = "answers"\nepsilon = 1.0\ndelta = 1e-5\n').encode())


def test_trees_of_more_taxa_than_can_be_trusted_say_so() -> None:
    taxa = ", ".join(f'{{name = "t{i}"}}' for i in range(13))
    text = TEXTS["phylogeny"]
    start, end = text.index("variables"), text.index("[space]")
    many = text[:start] + f"variables = [{taxa}]\n" + text[end:]
    several = Study.from_bytes(many.encode())
    assert several.policy.kind == "split-table" and "unless its verdict is good" in several.caution
    assert not several.with_changes({"roster": ["north"]}).caution
    former = several.with_changes({"policy": {"kind": "tree-net"}})
    assert former.policy.kind == "tree-net" and "network alone" in former.caution
    private = {"mode": "gradient", "epsilon": 4.0, "delta": 1e-5}
    with pytest.raises(UsageError, match="taught by Markov chains"):
        several.with_changes({"policy": {"kind": "split-table"}, "privacy": private})
    assert Study.from_bytes(text.encode()).caution == ""


@pytest.mark.parametrize(
    ("old", "new", "names"),
    [
        ("size = 4", "size = 1000", "GiB"),
        ("[policy]", "[transport]\nmax_upload_bytes = 1024\n[policy]", "max_upload_bytes"),
    ],
)
def test_what_nobody_could_train_or_send_is_refused_before_anyone_does(
    old: str, new: str, names: str
) -> None:
    text = TEXTS["multiset"].replace(old, new, 1).replace("batch = 128", "batch = 4096")
    with pytest.raises(UsageError, match=names):
        require_possible(Study.from_bytes(text.encode()))
