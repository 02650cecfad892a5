"""Whose privacy: of a person with several records at most so many are used, and the noise covers all of them together."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from epgfn.base.errors import RefusedError, UsageError
from epgfn.cli.privacy import app
from epgfn.privacy.attacks.canaries import make_case
from epgfn.privacy.claims.claims import Claim, recompute
from epgfn.privacy.mechanisms.counts import CountsMechanism
from epgfn.privacy.mechanisms.moments import MomentsMechanism
from epgfn.privacy.of_study.agreement import require_claim
from epgfn.privacy.of_study.planning import plan
from epgfn.privacy.of_study.question import Question
from epgfn.privacy.of_study.releases import maker_of
from epgfn.study import Study
from epgfn.study.records.tables import BoundedRecords, load_table, of_persons
from seeded import seed_noise
from small import PRIVATE_STUDY

PERSONS = PRIVATE_STUDY.replace(
    "delta = 1e-5", 'delta = 1e-5\nunit = "person"\nperson = "patient"\nrows_per_person = 4'
)
STUDY = Study.from_bytes(PERSONS.encode())


@pytest.mark.parametrize("rows", [1, 4])
def test_the_claim_is_of_all_records_of_a_person_together(rows: int) -> None:
    one = MomentsMechanism(3, 2.0, 1e-5)
    found = MomentsMechanism(3, 2.0, 1e-5, unit="person", rows=rows)
    claim = found.planned_claim
    assert 1.99 < recompute(claim).epsilon <= 2.0 and claim.unit == "person"
    for mine, other in zip(found.first_stage.noise, one.first_stage.noise, strict=True):
        assert mine.scale == pytest.approx(rows * other.scale, rel=1e-2)
    again = Claim.from_json(claim.to_json())
    assert again == claim and ("rows" in claim.to_json()) == (rows > 1)
    record = claim.model_copy(update={"rows": 1})
    assert recompute(record).mu == pytest.approx(recompute(claim).mu / rows)


def test_who_sees_the_release_tells_no_more_of_a_person_than_is_claimed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The strongest attack there is on one with four records, all at the clip and the same: its log ratios have the deviation mu, and
    mean half of mu squared, of Gaussian differential privacy at most."""
    seed_noise(monkeypatch)
    rows, others = 4, np.random.default_rng(0).normal(size=(300, 2))
    person = np.full((rows, 2), 1.0)
    mechanism = MomentsMechanism(2, 2.0, 1e-5, unit="person", rows=rows)
    seen = []
    for _ in range(400):
        release = mechanism.release(others)
        seen.append(mechanism.log_ratio(release, others, np.concatenate([others, person])))
    mu = mechanism.planned_claim.mu
    spread = 3 / math.sqrt(2 * len(seen))
    assert np.std(seen) <= mu * (1 + spread)
    assert np.std(seen) > 0.5 * mu  # and it is not much more noise than is needed
    single = MomentsMechanism(2, 2.0, 1e-5)
    weak = [
        single.log_ratio(single.release(others), others, np.concatenate([others, person])) for _ in range(200)
    ]
    assert np.std(weak) > 2 * mu  # for a promise to records says little to persons


@pytest.mark.parametrize("mode", ["statistic", "counts"])
def test_the_attack_on_this_installation_takes_all_records_of_a_person(
    mode: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed_noise(monkeypatch)
    case = make_case(mode, epsilon=8.0, delta=1e-5, rows_per_person=3)
    without, with_canary = case.pair
    assert len(with_canary) == len(without) + 3
    found = case.attack(300, 0.99)
    assert 1.0 < found.epsilon <= found.claimed <= 8.0


def test_the_attack_on_a_study_of_persons_says_what_it_took(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text(PERSONS)
    done = CliRunner().invoke(
        app, ["audit", str(path), "--releases", "100", "--json"], catch_exceptions=False
    )
    said = json.loads(done.stdout)
    assert said["ok"] and said["rows_per_person"] == 4 and len(said["rows"]) == 1
    shown = CliRunner().invoke(app, ["audit", str(path), "--releases", "100"], catch_exceptions=False)
    assert "with one person's 4 records and 100 without" in shown.stdout


def test_counts_of_a_person_are_covered_too() -> None:
    one, four = (CountsMechanism((2, 2), 2, 1.0, 1e-5, unit="person", rows=rows) for rows in (1, 4))
    assert four.stage.noise[0].scale == pytest.approx(4 * one.stage.noise[0].scale, rel=1e-2)
    assert recompute(four.planned_claim).epsilon <= 1.0


def test_at_most_so_many_records_of_anybody_are_used_and_chance_says_which() -> None:
    persons = np.repeat(np.arange(50), np.random.default_rng(1).integers(1, 12, 50))
    np.random.default_rng(2).shuffle(persons)
    values = np.arange(len(persons), dtype=np.float64)[:, None]
    found = [
        of_persons(BoundedRecords(values, values), persons, 4, np.random.default_rng(seed)).raw[:, 0]
        for seed in range(40)
    ]
    for kept in found:
        counts = np.bincount(persons[kept.astype(int)], minlength=50)
        assert (counts == np.minimum(np.bincount(persons, minlength=50), 4)).all()
        assert (np.diff(kept) > 0).all()
    assert len({tuple(kept) for kept in found}) == 40
    assert len(np.unique(np.concatenate(found))) == len(persons)  # each has a chance


@pytest.mark.parametrize("suffix", ["csv", "quoted", "parquet"])
def test_whose_a_record_is_is_read_from_its_column_and_used_for_nothing_else(
    tmp_path: Path, suffix: str
) -> None:
    ids = ["p1", "p 2", "", "p1", " p1 ", "", "3"]
    rows = np.random.default_rng(0).normal(size=(7, 3))
    path = tmp_path / "records"
    if suffix == "parquet":
        import pandas as pd

        frame = pd.DataFrame({"b": rows[:, 1], "patient": ids, "a": rows[:, 0], "c": rows[:, 2]})
        frame.to_parquet(path)
    else:
        cell = '"{}"' if suffix == "quoted" else "{}"
        lines = ["b,patient,a,c"] + [
            f"{b!r},{cell.format(i)},{a!r},{c!r}" for i, (a, b, c) in zip(ids, rows.tolist(), strict=True)
        ]
        path.write_text("\n".join(lines) + "\n")
    table = load_table(path, STUDY)
    assert table.persons is not None and len(table.columns) == 3
    same = table.persons[:, None] == table.persons
    assert (same == (np.array([i.strip() for i in ids])[:, None] == [i.strip() for i in ids])).all()
    np.testing.assert_array_equal(np.stack(table.columns, axis=1), rows)


def test_a_node_and_the_audit_agree_on_whom_the_claim_is_for() -> None:
    claim = maker_of(STUDY, "north").planned_claim
    assert (claim.unit, claim.rows) == ("person", 4) and require_claim(STUDY, claim.to_json()) == claim
    of_records = maker_of(Study.from_bytes(PRIVATE_STUDY.encode()), "north").planned_claim
    for stated in (
        of_records,
        claim.model_copy(update={"unit": "record", "rows": 1}),
        claim.model_copy(update={"rows": 1}),
        claim.model_copy(update={"unit": "record"}),
    ):
        with pytest.raises(RefusedError) as refused:
            require_claim(STUDY, stated.to_json())
        assert refused.value.reason.startswith("claim-")
    assert "one person is among them" in STUDY.privacy.in_words(STUDY.protected)
    assert b"rows_per_person" not in Study.from_bytes(PRIVATE_STUDY.encode()).raw


@pytest.mark.parametrize(
    "changes",
    [
        {"person": None},
        {"unit": "record"},
        {"person": "a"},
        {"mode": "answers"},
        {"adjacency": "replace-one", "records": {"north": 9, "south": 9}},
        {"rows_per_person": 0},
    ],
)
def test_what_protects_no_person_is_refused_when_the_study_is_read(changes: dict[str, Any]) -> None:
    privacy = {"unit": "person", "person": "patient", "rows_per_person": 4, **changes}
    privacy = {name: value for name, value in privacy.items() if value is not None}
    with pytest.raises(UsageError, match=r"person|answers"):
        Study.from_bytes(PRIVATE_STUDY.encode()).with_changes({"privacy": privacy})


def test_more_noise_than_can_be_drawn_is_refused_before_anything_is_charged() -> None:
    with pytest.raises(UsageError, match="more noise than can be drawn"):
        _ = MomentsMechanism(50, 0.05, 1e-5, radius=100.0, unit="person", rows=1000).planned_claim
    _ = MomentsMechanism(50, 0.5, 1e-5, unit="person", rows=5).planned_claim
    worst = MomentsMechanism(14, 0.1, 1e-5, unit="person", rows=20)
    assert worst.planned_claim.epsilon <= 0.1
    assert worst.release(np.zeros((30, 14))).claim.epsilon <= 0.1


def test_planning_knows_that_persons_cost_more(monkeypatch: pytest.MonkeyPatch) -> None:
    seed_noise(monkeypatch)
    plain = Study.from_bytes(PRIVATE_STUDY.encode())
    records, persons = (plan(Question(s, (500,), (2.0,), worlds=6)).rows[0].error for s in (plain, STUDY))
    assert persons > 1.5 * records


@pytest.mark.parametrize("ids", ["text", "dates"])
def test_ids_that_nobody_can_read_are_refused_without_being_shown(tmp_path: Path, ids: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    raw = pa.array([b"\xffsecret%d" % i for i in range(9)], pa.binary())
    column = (
        pa.Array.from_buffers(pa.string(), 9, raw.buffers())
        if ids == "text"
        else pa.array([1 << 30] * 9, pa.int32()).cast(pa.date32())
    )
    numbers = np.random.default_rng(0).normal(size=9)
    pq.write_table(
        pa.table({"a": numbers, "b": numbers, "c": numbers, "patient": column}), tmp_path / "records"
    )
    with pytest.raises(UsageError, match="'patient' cannot be read") as refused:
        load_table(tmp_path / "records", STUDY)
    said = str(refused.value).removeprefix(str(tmp_path))
    assert "secret" not in said and str(1 << 30) not in said and refused.value.__cause__ is None


def test_spaces_and_accents_written_otherwise_make_no_other_person(tmp_path: Path) -> None:
    path = tmp_path / "records.csv"
    ids = ["J\u00fcrgen", "Ju\u0308rgen", "J\u00fcrgen\u00a0", "\u3000J\u00fcrgen"]
    path.write_text("a,b,c,patient\n" + "".join(f"1,2,3,{name}\n" for name in ids), encoding="utf-8")
    persons = load_table(path, STUDY).persons
    assert persons is not None and persons.tolist() == [0, 0, 0, 0]
