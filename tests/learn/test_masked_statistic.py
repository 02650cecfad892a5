"""Statistics as whole numbers on a public grid: their sum is the statistic of all records together, and cannot wrap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import tomli_w
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from epgfn.base.errors import RefusedError, UsageError
from epgfn.learn.masked import STEPS, decode, encode, largest, length, pooled_of_total
from epgfn.learn.shared import CELLS, MEAN, RECORDS, SCATTER, pooled, statistic_of
from epgfn.masking.collector import total
from epgfn.masking.masks import Terms, Vector
from epgfn.masking.messages import Shares, Unmasking
from epgfn.masking.party import Party
from epgfn.study import Study
from epgfn.targets.gaussian import Moments

NODES = ("east", "north", "south", "west")
SIZES = (2, 3, 2, 3, 2)


def study_of(variables: int = 0, **tables: Any) -> Study:
    """Of so many numeric variables, or of categories of `SIZES`."""
    told: list[dict[str, Any]] = [
        {"name": f"v{j}", "centre": 0, "scale": 1, "lower": -9, "upper": 9} for j in range(variables)
    ] or [{"name": f"v{j}", "categories": list(map(str, range(size)))} for j, size in enumerate(SIZES)]
    said: dict[str, Any] = {
        "name": "together",
        "roster": list(NODES),
        "variables": told,
        "space": {"max_parents": 1 if variables == 2 else 2},
        "training": {"steps": 2, "batch": 8},
        "aggregation": {"steps": 2, "batch": 8},
        "policy": {"hidden": 8},
        **tables,
    }
    said["target"] = {
        "kind": "bge" if variables else "bdeu",
        "parameters": "shared",
        **tables.get("target", {}),
    }
    return Study.from_bytes(tomli_w.dumps(said).encode())


def numbers(variables: int, seed: int = 1, sizes: Sequence[int] = (40, 90, 150, 20)) -> list[Tensor]:
    """(n, V) for each node: correlated, and each node's own way from the centre."""
    rng = np.random.default_rng(seed)
    mix = np.eye(variables) + rng.normal(size=(variables, variables)) / 2
    return [
        torch.from_numpy(rng.normal(size=(n, variables)) @ mix + rng.normal(size=variables)) for n in sizes
    ]


def added(vectors: Sequence[Vector]) -> Vector:
    """Modulo 2^64."""
    result: Vector = np.sum(np.stack(vectors), 0, dtype=np.uint64)
    return result


@pytest.mark.parametrize("variables", [5, 11])
@pytest.mark.parametrize("of", [4, 3])
def test_the_total_is_the_statistic_of_all_records_and_its_scores_are_theirs(variables: int, of: int) -> None:
    study, parts = study_of(variables), numbers(variables)[:of]
    held = {node: statistic_of(study, x) for node, x in zip(NODES, parts, strict=False)}
    found = decode(study, added([encode(study, one) for one in held.values()]))
    together = Moments.of_records(torch.cat(parts))
    assert together.mean is not None and found[RECORDS].tolist() == [together.n]
    half = of / (2 * STEPS)
    assert float((found[MEAN][0] - together.mean).abs().max()) <= half / together.n + 1e-14
    off = half * (1 + 2 * float(together.mean.abs().max())) + half**2
    assert float((found[SCATTER][0] - together.scatter).abs().max()) <= off + 1e-10
    score, wanted = pooled_of_total(study, found), pooled(study, held)
    assert score.records == wanted.records and score.between == []
    torch.testing.assert_close(score.table, wanted.table, rtol=0, atol=1e-5)


def test_counts_are_exact() -> None:
    study, rng = study_of(), np.random.default_rng(2)
    parts = [
        torch.from_numpy(np.stack([rng.integers(size, size=n) for size in SIZES], 1)) for n in (30, 1, 7, 90)
    ]
    found = decode(study, added([encode(study, statistic_of(study, x)) for x in parts]))
    everything = statistic_of(study, torch.cat(parts))
    assert torch.equal(found[CELLS], everything[CELLS])
    assert torch.equal(pooled_of_total(study, found).table, pooled(study, {"all": everything}).table)


def test_only_masked_vectors_are_needed_and_a_node_may_drop_out() -> None:
    study, random = study_of(5), np.random.default_rng(3).bytes
    held = {node: statistic_of(study, x) for node, x in zip(NODES, numbers(5), strict=True)}
    terms = Terms(study.digest, "round-1", NODES, 3, length(study))
    parties = {node: Party.begin(terms, node, random) for node in NODES}
    keys = {node: party.public for node, party in parties.items()}
    parties = {node: party.with_keys(keys, random) for node, party in parties.items()}
    shares = {node: Shares.parse(party.shares or b"", node, NODES) for node, party in parties.items()}
    masked, said = dict[str, Vector](), dict[str, Unmasking]()
    for node in NODES[:3]:
        parties[node], masked[node] = (
            parties[node]
            .with_shares({one: sent.to[node] for one, sent in shares.items() if one != node})
            .masked(encode(study, held[node]))
        )
    for node in masked:
        party = parties[node].signing(masked).unmasking(masked, list(masked))
        said[node] = Unmasking.parse(party.said or b"", list(masked), NODES[3:])
    result = total(terms, keys, shares, masked, said)
    assert np.array_equal(result, added([encode(study, held[node]) for node in masked]))
    score = pooled_of_total(study, decode(study, result))
    wanted = pooled(study, {node: held[node] for node in masked})
    torch.testing.assert_close(score.table, wanted.table, rtol=0, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-1e4, 1e4), min_size=4, max_size=4), st.integers(0, 99))
def test_sums_of_any_sign_and_size_are_within_half_a_step_a_node(offsets: list[float], seed: int) -> None:
    study = study_of(3)
    parts = [x + offset for x, offset in zip(numbers(3, seed), offsets, strict=True)]
    found = decode(study, added([encode(study, statistic_of(study, x)) for x in parts]))
    all_of_them = torch.cat(parts)
    assert float(found[RECORDS][0]) == len(all_of_them)
    # A float64 mean of a node rounds too, by as much as its size says.
    ulps = 4 * len(all_of_them) * torch.finfo(torch.float64).eps * float(all_of_them.abs().max())
    difference = found[MEAN][0] * len(all_of_them) - all_of_them.sum(0)
    assert float(difference.abs().max()) <= 2 / STEPS + ulps


def test_no_total_wraps() -> None:
    study = study_of()
    spec = statistic_of(study, torch.zeros(1, len(SIZES), dtype=torch.int64))
    most = 2**50 + 1
    found = decode(study, added([encode(study, {CELLS: spec[CELLS] * most})] * 4))
    assert int(found[CELLS].max()) == 4 * most
    assert len(NODES) * largest(study) <= 2**62

    wide = study_of(2)
    n = 100.0
    edge = (largest(wide) / STEPS / n) ** 0.5

    def at(mean: float) -> dict[str, Tensor]:
        far = torch.tensor([[mean, -mean]], dtype=torch.float64)
        return {
            RECORDS: torch.tensor([n], dtype=torch.float64),
            MEAN: far,
            SCATTER: torch.eye(2, dtype=torch.float64)[None],
        }

    just = encode(wide, at(edge * 0.999))
    assert int(np.abs(just.view(np.int64)).max()) <= largest(wide)
    four = decode(wide, added([just] * 4))
    assert float(four[RECORDS][0]) == 4 * n
    assert float(four[MEAN][0, 0]) == pytest.approx(edge * 0.999, rel=1e-12)
    with pytest.raises(RefusedError, match="too large for a masked sum of 4 nodes"):
        encode(wide, at(edge * 1.001))


def test_a_regime_of_which_a_node_has_no_rows_and_what_is_set_in_it_has_no_spread() -> None:
    study = study_of(3, design={"column": "arm", "sets": {"first": ["v0"], "second": ["v1", "v2"]}})
    parts = []
    for place, x in enumerate(numbers(3)):
        arm = torch.zeros(len(x), 1, dtype=torch.float64)
        if place != 1:
            arm[::2] = 1
        x[:, 0] = torch.where(arm[:, 0] == 0, 0.3, x[:, 0])
        x[:, 1:] = torch.where(arm == 1, 0.7, x[:, 1:])
        parts.append(torch.cat((x, arm), 1))
    held = {node: statistic_of(study, x) for node, x in zip(NODES, parts, strict=True)}
    assert 0 in held["north"][RECORDS].tolist()
    sums = added([encode(study, one) for one in held.values()])
    found, everything = decode(study, sums), statistic_of(study, torch.cat(parts))
    assert torch.equal(found[RECORDS], everything[RECORDS])
    assert torch.equal(found[SCATTER] == 0, everything[SCATTER] == 0) and bool(
        (everything[SCATTER] == 0).any()
    )
    torch.testing.assert_close(found[SCATTER], everything[SCATTER], rtol=0, atol=1e-5)
    wanted = pooled(study, held).table
    torch.testing.assert_close(pooled_of_total(study, found).table, wanted, rtol=0, atol=1e-5)
    sums[0] = 0  # sums of no records
    with pytest.raises(RefusedError, match="is that of no records"):
        decode(study, sums)


def test_what_is_no_total_of_records_is_refused() -> None:
    study = study_of(3)
    whole = added([encode(study, statistic_of(study, x)) for x in numbers(3)])
    random = np.random.default_rng(4)
    for _ in range(20):  # what comes out where masks have not been taken off
        with pytest.raises(RefusedError, match="is that of no records") as error:
            decode(study, random.integers(2**64, size=len(whole), dtype=np.uint64))
        assert error.value.reason == "statistic-not-sound"
    nobody = whole.copy()
    nobody[0] = 0
    with pytest.raises(RefusedError):
        decode(study, nobody)
    with pytest.raises(ValueError, match="shape"):
        decode(study, whole[1:])


def test_it_is_of_exact_shared_statistics_alone() -> None:
    with pytest.raises(UsageError, match="shared"):
        length(study_of(3, target={"parameters": "own"}))
    with pytest.raises(UsageError, match="none"):
        length(study_of(3, privacy={"mode": "statistic", "epsilon": 1.0, "delta": 1e-6}))
