"""Categories without a privacy mode, from CSV files to the audit: what a node's file tells, and consent to counts below ten."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from epgfn.run.audit.audit import audit_run
from epgfn.study import Study
from epgfn.study.records.small_counts import small_counts
from parties import WAITING, CoordinatorProcess, Node

STUDY = Study.from_bytes(
    b"""
name = "habits"
roster = ["north", "south"]
seed = 3
variables = [
  {name = "smokes", categories = ["no", "yes"]}, {name = "coughs", categories = ["no", "yes"]},
  {name = "sleeps", categories = ["no", "yes"]},
]
[space]
max_parents = 2
[target]
kind = "bdeu"
[policy]
hidden = 16
[training]
steps = 12
batch = 64
[aggregation]
steps = 12
batch = 64
samples = 200
"""
)


def written(path: Path, times: dict[tuple[int, ...], int]) -> Path:
    rows = [",".join(["no", "yes"][k] for k in row) for row, many in times.items() for _ in range(many)]
    np.random.default_rng(0).shuffle(rows)
    path.write_text("smokes,coughs,sleeps\n" + "\n".join(rows) + "\n")
    return path


@pytest.fixture(scope="module")
def coordinator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CoordinatorProcess]:
    folder = tmp_path_factory.mktemp("coordinator")
    (folder / "study.toml").write_bytes(STUDY.raw)
    with CoordinatorProcess(folder / "home", folder / "study.toml") as process:
        yield process


def test_counts_below_ten_leave_only_with_consent_that_is_asked_once(
    coordinator: CoordinatorProcess, tmp_path: Path
) -> None:
    cells = list(itertools.product((0, 1), repeat=3))
    few = written(tmp_path / "few.csv", dict(zip(cells, (17, 4, 2, 9, 1, 11, 12, 5), strict=True)))
    many = written(tmp_path / "many.csv", dict(zip(cells, (17, 24, 12, 19, 31, 11, 12, 15), strict=True)))
    north = Node(tmp_path / "north").join(coordinator, "north")
    assert "occurs among its records" in north.ok("enroll")
    run = [
        "run",
        "--data",
        str(few),
        "--accept-study",
        STUDY.digest,
        "--approve-automatically",
        "--wait",
        "0",
    ]
    sentence = north.fails(WAITING, *run)
    assert "5 combinations of values occur in fewer than 10 of your records, the rarest in 1" in sentence
    assert "--accept-small-counts" in sentence and not (north.home / "outbox").exists()

    shown = " ".join(north.ok("inspect").split())
    assert "there are 61 of them, and in all 3 columns 8 combinations of values occur" in shown
    assert "1 of them belongs to one record alone" in shown
    assert "To let them leave: --accept-small-counts" in shown
    assert "--accept-small-counts" in north.fails(WAITING, "approve")
    north.ok("approve", "--accept-small-counts")
    north.ok(
        "train", "--data", str(few), "--seed", "9"
    )  # another model of the same study is not asked about again
    north.ok("approve")
    facts = json.loads(north.ok("inspect", "--json"))
    assert facts["small_counts_accepted"] and "combinations" not in json.dumps(facts["statement"])
    north.ok("submit")

    south = Node(tmp_path / "south").join(coordinator, "south")
    south.ok(
        "run", "--data", str(many), "--accept-study", STUDY.digest, "--approve-automatically", "--wait", "300"
    )
    assert not (south.home / "accepted-small-counts").exists()
    coordinator.command("export", "--out", str(tmp_path / "run"))
    assert audit_run(tmp_path / "run").ok


def test_a_model_that_nobody_counted_is_asked_about(tmp_path: Path) -> None:
    """As one that was trained before anybody counted."""
    many = written(tmp_path / "many.csv", dict.fromkeys(itertools.product((0, 1), repeat=3), 20))
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / "study.toml").write_bytes(STUDY.raw)
    with CoordinatorProcess(folder / "home", folder / "study.toml") as other:
        node = Node(tmp_path / "node").join(other, "north").train(many, STUDY)
        (node.home / "local" / "check.json").unlink()
        assert "was not counted" in node.fails(WAITING, "approve")
        node.set(accept_small_counts=True)
        node.ok("approve")


def test_the_rarest_combination_of_as_many_columns_as_go_together() -> None:
    columns = [np.repeat([0, 1], 30), np.tile([0, 1], 30), np.r_[np.zeros(57, int), 1, 1, 1]]
    assert small_counts(columns, (2, 2, 2), 1) == ((2,), 1, 3)
    assert small_counts(columns, (2, 2, 2), 2) == ((1, 2), 2, 1)
    assert small_counts(columns[:2], (2, 2), 3) is None
    assert small_counts([c.astype(np.int64) for c in columns], (1 << 40, 1 << 40, 2), 3) == ((0, 1, 2), 2, 1)
