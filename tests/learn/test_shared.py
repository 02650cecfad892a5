"""Parameters that all sites share: what nodes send adds up to the score of all records together, exactly, and nothing else is taken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import tomli_w
import torch
from torch import Tensor

from epgfn.base.errors import RefusedError
from epgfn.learn.aggregate import UnusableModels, train_global
from epgfn.learn.exact import exact_of_table
from epgfn.learn.local import train_local, train_on_target
from epgfn.learn.policy import upload_spec, validate_upload
from epgfn.learn.scores import admissible, score_table
from epgfn.learn.shared import (
    CELLS,
    MEAN,
    RECORDS,
    SCATTER,
    apart,
    check_statistic,
    own_table,
    pooled,
    statistic_of,
    statistic_spec,
)
from epgfn.privacy.mechanisms.release import unpack
from epgfn.privacy.of_study.agreement import require_release
from epgfn.privacy.of_study.networks import DiscreteNetwork, GaussianNetwork
from epgfn.privacy.of_study.releases import maker_of
from epgfn.sealing.model_file import read_model, write_model
from epgfn.study import Study
from epgfn.study.records.tables import BoundedRecords
from epgfn.targets.gaussian import Moments

NODES = ["north", "south", "west"]
SIZES = (2, 3, 2, 3, 2)


def study_of(variables: int = 0, **tables: Any) -> Study:
    """Of so many numeric variables, or of categories of `SIZES`."""
    if variables:
        told: list[dict[str, Any]] = [
            {"name": f"v{j}", "centre": 0, "scale": 1, "lower": -9, "upper": 9} for j in range(variables)
        ]
        target = {"kind": "bge"}
    else:
        told = [{"name": f"v{j}", "categories": list(map(str, range(size)))} for j, size in enumerate(SIZES)]
        target = {"kind": "bdeu"}
    said: dict[str, Any] = {
        "name": "together",
        "roster": NODES,
        "variables": told,
        "space": {"max_parents": 2},
        "training": {"steps": 2, "batch": 8},
        "aggregation": {"steps": 2, "batch": 8},
        "policy": {"hidden": 8},
        **tables,
    }
    said["target"] = {**target, "parameters": "shared", **tables.get("target", {})}
    return Study.from_bytes(tomli_w.dumps(said).encode())


def numbers(variables: int, seed: int = 1, sizes: Sequence[int] = (40, 90, 150)) -> list[Tensor]:
    rng = np.random.default_rng(seed)
    mix = GaussianNetwork(variables, rng).mixing
    return [
        torch.from_numpy(rng.normal(size=(n, variables)) @ mix + rng.normal(size=variables)) for n in sizes
    ]


def categories(seed: int = 1) -> list[Tensor]:
    rng = np.random.default_rng(seed)
    network = DiscreteNetwork(SIZES, rng)
    return [torch.from_numpy(network.draw(n, rng)) for n in (30, 80, 120)]


def held_of(study: Study, parts: Sequence[Tensor]) -> dict[str, dict[str, Tensor]]:
    return {node: statistic_of(study, part) for node, part in zip(NODES, parts, strict=True)}


def together(study: Study, parts: Sequence[Tensor]) -> Tensor:
    """The score of all records in one table, on one machine."""
    return score_table(study, torch.cat(list(parts)), n_parties=1)


def same(study: Study, one: Tensor, other: Tensor) -> bool:
    known = admissible(study)
    return bool(torch.allclose(one[known], other[known], rtol=1e-9, atol=1e-7))


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_moments_of_parts_are_those_of_all_records(offset: float) -> None:
    parts = [part + offset for part in numbers(4)]
    found = Moments.pooled([Moments.of_records(part) for part in parts])
    wanted = Moments.of_records(torch.cat(parts))
    assert found.n == wanted.n and found.mean is not None and wanted.mean is not None
    torch.testing.assert_close(found.mean, wanted.mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.scatter, wanted.scatter, rtol=1e-8, atol=1e-6)


@pytest.mark.parametrize(
    "tables",
    [
        {},
        {"target": {"kind": "bic"}},
        {"target": {"mean": "known"}},
        {"target": {"alpha_mu": 2.0, "mean": "unknown"}},
        {"prior": {"kind": "fan-in", "forbidden": [["v0", "v1"]]}},
    ],
)
def test_the_table_of_the_statistics_is_that_of_all_records(tables: dict[str, Any]) -> None:
    study, parts = study_of(5, **tables), numbers(5)
    found = pooled(study, held_of(study, parts))
    assert same(study, found.table, together(study, parts))
    assert found.records == 280


@pytest.mark.parametrize("prior", [{}, {"candidates": {"v3": ["v1"], "v4": []}, "required": [["v0", "v2"]]}])
def test_the_same_of_counts(prior: dict[str, Any]) -> None:
    study, parts = study_of(prior=prior), categories()
    held = held_of(study, parts)
    assert same(study, pooled(study, held).table, together(study, parts))
    assert pooled(study, held).records == 230
    spec = statistic_spec(study)[CELLS]
    assert tuple(held["north"][CELLS].shape) == spec.shape
    assert spec.shape[1] <= 134  # of any three columns, never of all five


@pytest.mark.parametrize("kind", ["perfect", "imperfect"])
@pytest.mark.parametrize("numeric", [True, False])
def test_the_same_with_a_design(kind: str, numeric: bool) -> None:
    design = {"column": "arm", "kind": kind, "sets": {"none": [], "one": ["v1"], "two": ["v0", "v2"]}}
    study = study_of(5, design=design) if numeric else study_of(design=design)
    parts = [
        torch.column_stack([part, torch.arange(len(part)) % (3 if number else 2)])
        for number, part in enumerate(numbers(5) if numeric else categories())
    ]
    assert same(study, pooled(study, held_of(study, parts)).table, together(study, parts))


@pytest.mark.parametrize("variables", [5, 11])
def test_what_is_published_is_the_posterior_of_all_records(variables: int) -> None:
    study, parts = study_of(variables), numbers(variables)
    local = {
        node: train_local(study, part.numpy(), seed=i).tensors
        for i, (node, part) in enumerate(zip(NODES, parts, strict=True))
    }
    raw = write_model(local["north"], {"study_digest": study.digest, "role": "local"})
    assert read_model(raw, upload_spec(study))[0].keys() == local["north"].keys()
    found = train_global(study, local, seed=1)
    wanted = exact_of_table(study, together(study, parts))
    assert wanted is not None and found.judged.basis == "exact"
    for name, p in wanted.probabilities.items():
        assert found.judged.probabilities[name] == pytest.approx(p, abs=1e-9)
    assert not any(name.startswith("statistic.") for name in found.tensors)
    beside = found.diagnostics["parameters"]
    assert beside["largest_difference"] > 0.05 and len(beside["between"]) == variables
    if variables == 5:
        own = exact_of_table(study, torch.stack([score_table(study, part, 3) for part in parts]).sum(0))
        assert own is not None and beside["own"] == pytest.approx(dict(own.probabilities), abs=1e-9)
        # Who is absent has no share of the prior that is missing.
        some = train_global(study, {node: local[node] for node in NODES[:2]}, seed=1)
        wanted = exact_of_table(study, together(study, parts[:2]))
        assert wanted is not None
        assert some.judged.probabilities == pytest.approx(dict(wanted.probabilities), abs=1e-9)


def test_a_statistic_that_is_not_the_policys_is_refused() -> None:
    study, parts = study_of(4), numbers(4)
    tensors = train_local(study, parts[0].numpy(), seed=1).tensors
    validate_upload(study, "north", tensors)
    other = statistic_of(study, parts[1])
    with pytest.raises(RefusedError) as refused:
        validate_upload(study, "north", {**tensors, **other})
    assert refused.value.reason == "statistic-not-the-policys"
    with pytest.raises(UnusableModels) as unusable:
        train_global(study, {"north": {**tensors, **other}}, seed=1)
    assert unusable.value.reasons == {"north": "statistic-not-the-policys"}
    with pytest.raises(RefusedError) as refused:
        validate_upload(study, "north", apart(tensors)[0])
    assert refused.value.reason == "statistic-not-sound"
    plain = study.with_changes({"target": {"parameters": "own"}})
    with pytest.raises(RefusedError) as refused:
        validate_upload(plain, "north", tensors)
    assert refused.value.reason == "statistic-not-asked"


@pytest.mark.parametrize(
    "change",
    [
        {RECORDS: torch.tensor([-3.0], dtype=torch.float64)},
        {RECORDS: torch.tensor([40.5], dtype=torch.float64)},
        {MEAN: torch.full((1, 4), 1e300, dtype=torch.float64)},
        {SCATTER: -torch.eye(4, dtype=torch.float64)[None]},
        {SCATTER: torch.full((1, 4, 4), 2.0, dtype=torch.float64) - torch.eye(4, dtype=torch.float64)},
        {SCATTER: torch.full((1, 4, 4), torch.inf, dtype=torch.float64)},
        {MEAN: torch.zeros(1, 4)},
    ],
)
def test_numbers_that_no_records_have_are_refused(change: dict[str, Tensor]) -> None:
    study, parts = study_of(4), numbers(4)
    held = statistic_of(study, parts[0])
    with pytest.raises(RefusedError) as refused:
        check_statistic(study, "north", {**held, **change}, own_table(study, "north", held))
    assert refused.value.reason == "statistic-not-sound"


def test_tables_that_count_other_records_are_refused() -> None:
    study, parts = study_of(), categories()
    held = statistic_of(study, parts[0])
    for place, by in ((0, -1000), (0, 1)):
        cells = held[CELLS].clone()
        cells[0, place] += by
        with pytest.raises(RefusedError) as refused:
            check_statistic(study, "north", {CELLS: cells}, own_table(study, "north", held))
        assert refused.value.reason == "statistic-not-sound"


PRIVATE = {"mode": "statistic", "epsilon": 4.0, "delta": 1e-5}


@pytest.mark.parametrize("numeric", [True, False])
def test_what_is_sent_of_a_release_is_the_release(numeric: bool) -> None:
    study = study_of(4, privacy=PRIVATE) if numeric else study_of(privacy=PRIVATE)
    part = (numbers(4, sizes=[3000])[0] if numeric else categories()[2]).numpy()
    maker = maker_of(study, "north")
    raw = maker.observe(BoundedRecords(part, part))
    done = maker.finish(raw)
    assert done.target is not None and done.target.table is not None
    tensors = train_on_target(study, done.target, seed=1).tensors
    released = [values for output in unpack(raw) for _, values in sorted(output.items())]
    sent = [tensor for name, tensor in apart(tensors)[1].items()]
    assert sum(map(len, sent)) == sum(map(len, released))
    validate_upload(study, "north", tensors)
    require_release(study, "north", tensors, done.claim.to_json())
    other = maker.finish(maker.observe(BoundedRecords(part[:500], part[:500])))
    assert other.target is not None
    with pytest.raises(RefusedError) as refused:
        validate_upload(study, "north", {**tensors, **other.target.statistic})
    assert refused.value.reason == "statistic-not-the-policys"


def test_a_claim_of_another_release_is_refused() -> None:
    """The second stage's clip follows from what the first released: less noise, another radius."""
    study, part = study_of(4, privacy=PRIVATE), numbers(4, sizes=[3000])[0].numpy()
    maker, few = maker_of(study, "north"), part[:60]
    done, other = (maker.finish(maker.observe(BoundedRecords(x, x))) for x in (part, few))
    assert done.target is not None
    with pytest.raises(RefusedError) as refused:
        require_release(study, "north", done.target.statistic, other.claim.to_json())
    assert refused.value.reason == "claim-wrong"


@pytest.mark.parametrize("numeric", [True, False])
def test_with_little_noise_the_sum_of_releases_is_nearly_that_of_all_records(numeric: bool) -> None:
    loud = {**PRIVATE, "epsilon": 60.0}
    study = study_of(4, privacy=loud) if numeric else study_of(privacy=loud)
    exact = study_of(4) if numeric else study_of()
    parts = numbers(4, sizes=(4000, 4000, 4000)) if numeric else [part.repeat(30, 1) for part in categories()]
    if numeric:
        parts = [part - part.mean(0) for part in parts]
    held = {}
    for node, part in zip(NODES, parts, strict=True):
        maker = maker_of(study, node)
        done = maker.finish(maker.observe(BoundedRecords(part.numpy(), part.numpy())))
        assert done.target is not None
        held[node] = dict(done.target.statistic)
    found, wanted = pooled(study, held), together(exact, parts)
    p, q = exact_of_table(study, found.table), exact_of_table(exact, wanted)
    assert p is not None and q is not None
    assert p.probabilities == pytest.approx(dict(q.probabilities), abs=0.15)
    assert found.records > 0.5 * sum(map(len, parts))


def test_numbers_beyond_any_release_are_refused() -> None:
    study = study_of(4, privacy=PRIVATE)
    part = numbers(4, sizes=[300])[0].numpy()
    maker = maker_of(study, "north")
    done = maker.finish(maker.observe(BoundedRecords(part, part)))
    assert done.target is not None and done.target.table is not None
    held = {name: torch.full_like(tensor, -(1 << 63)) for name, tensor in done.target.statistic.items()}
    with pytest.raises(RefusedError) as refused:
        check_statistic(study, "north", held, done.target.table)
    assert refused.value.reason == "statistic-not-sound"
