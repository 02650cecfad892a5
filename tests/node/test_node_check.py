"""The node looks at its records before anything is trained on them, says what is odd to its owner, and to nobody else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from epgfn.study import Study
from old_home import old_home
from parties import REFUSED, WAITING, WRONG_USE, CoordinatorProcess, Node
from small import PRIVATE_STUDY

NODES = ["north", "south", "east"]
NEW = ["west", "centre"]  # for the test of enrolling alone, since a name enrolls once
LOUD = "column b: its spread is "
FACTOR = "divided by 38.67 (cholesterol in mg/dL and mmol/L)"


@pytest.fixture(scope="module")
def study(small_study: Study) -> Study:
    return small_study.with_changes({"roster": NODES + NEW, "aggregation": {"close_when": "all"}})


@pytest.fixture(scope="module")
def coordinator(tmp_path_factory: pytest.TempPathFactory, study: Study) -> Iterator[CoordinatorProcess]:
    folder = tmp_path_factory.mktemp("coordinator")
    (folder / "study.toml").write_bytes(study.raw)
    with CoordinatorProcess(folder / "home", folder / "study.toml") as process:
        yield process


def written(path: Path, factor: float) -> Path:
    rows = np.random.default_rng(0).normal(size=(40, 3)) * [1, factor, 1]
    np.savetxt(path, rows, delimiter=",", header="a,b,c", comments="", fmt="%.9f")
    return path


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    return written(tmp_path / "odd.csv", 38.67)


@pytest.fixture
def fine(tmp_path: Path) -> Path:
    return written(tmp_path / "fine.csv", 1.0)


def test_a_file_can_be_looked_at_before_anything_else(
    study: Study, odd: Path, fine: Path, tmp_path: Path
) -> None:
    (tmp_path / "study.toml").write_bytes(study.raw)
    node = Node(tmp_path / "home")
    shown = node.ok("check", "--study", str(tmp_path / "study.toml"), "--data", str(odd))
    assert f"WARNING: {LOUD}" in shown and FACTOR in shown and "40 records" in shown
    facts = json.loads(
        node.ok("check", "--study", str(tmp_path / "study.toml"), "--data", str(fine), "--json")
    )
    assert facts["warnings"] == [] and [c["name"] for c in facts["columns"]] == ["a", "b", "c"]
    assert facts["columns"][0]["mean"] == pytest.approx(
        np.loadtxt(fine, delimiter=",", skiprows=1)[:, 0].mean(), rel=1e-5
    )
    assert "Nothing odd was found." in node.ok(
        "check", "--study", str(tmp_path / "study.toml"), "--data", str(fine)
    )
    assert not (tmp_path / "home" / "local").exists()
    assert "--data FILE" in node.fails(WRONG_USE, "check", "--study", str(tmp_path / "study.toml"))
    assert "no node" in node.fails(WRONG_USE, "check", "--data", str(fine))


def test_one_mistyped_row_is_named(study: Study, tmp_path: Path) -> None:
    """It alone would make an edge certain; and too few records are said before `train` refuses them."""
    (tmp_path / "study.toml").write_bytes(study.raw)
    rows = np.random.default_rng(4).normal(size=(200, 3))
    rows[3] = [0.1, -15.0, 30.0]
    np.savetxt(tmp_path / "row.csv", rows, delimiter=",", header="a,b,c", comments="", fmt="%.9f")
    node = Node(tmp_path / "home")
    shown = node.ok("check", "--study", str(tmp_path / "study.toml"), "--data", str(tmp_path / "row.csv"))
    for column in "bc":
        assert f"WARNING: column {column}: 1 cell (line 5) is far from the others, " in shown
    assert "column a" not in shown and "correct the file, or leave out what is wrong" in shown
    (tmp_path / "few.csv").write_text("a,b,c\n1,0,1\n0,1,1\n")
    shown = node.ok("check", "--study", str(tmp_path / "study.toml"), "--data", str(tmp_path / "few.csv"))
    assert "WARNING: 2 records are fewer than the study has variables (3)" in shown
    assert "WARNING: column c: is constant" in shown


def test_nobody_watching_means_nothing_is_trained_on_odd_records(
    coordinator: CoordinatorProcess, study: Study, odd: Path, tmp_path: Path
) -> None:
    node = Node(tmp_path / "home").join(coordinator, "north")
    run = [
        "run",
        "--data",
        str(odd),
        "--accept-study",
        study.digest,
        "--approve-automatically",
        "--wait",
        "0",
    ]
    sentence = node.fails(REFUSED, *run)
    assert LOUD in sentence and FACTOR in sentence and "--accept-warnings" in sentence
    assert not (node.home / "local" / "model.safetensors").exists()
    assert f"WARNING: {LOUD}" in node.ok("check", "--data", str(odd))
    node.fails(WAITING, *run, "--accept-warnings")  # only for want of the other nodes
    assert (node.home / "receipts" / "receipt.tlog-proof").exists()
    assert f"WARNING: {LOUD}" in node.ok("inspect")


def test_who_watches_is_told_and_decides(
    coordinator: CoordinatorProcess, study: Study, odd: Path, fine: Path, tmp_path: Path
) -> None:
    node = Node(tmp_path / "home").join(coordinator, "south")
    assert f"WARNING: {LOUD}" in node.ok("train", "--data", str(odd), "--accept-study", study.digest)
    assert (node.home / "local" / "check.json").stat().st_mode & 0o777 == 0o600
    facts = json.loads(node.ok("inspect", "--json"))
    assert (
        facts["records_check"]["warnings"][0]["loud"]
        and "what the records look like (local/check.json)" in facts["never_leaves"]
    )
    assert FACTOR not in json.dumps(facts["statement"])
    run = ["run", "--data", str(odd), "--approve-automatically", "--wait", "0"]
    assert LOUD in node.fails(REFUSED, *run)
    assert not (node.home / "outbox" / "approved").exists()
    assert "WARNING" not in node.ok("train", "--data", str(fine))
    assert "Nothing odd was found." in node.ok("inspect")
    node.set(accept_warnings=True)
    node.ok("train", "--data", str(odd))
    node.fails(WAITING, *run)
    assert (node.home / "receipts" / "receipt.tlog-proof").exists()


def test_under_privacy_only_check_looks(odd: Path, fine: Path, tmp_path: Path) -> None:
    """Whatever the records: `train` says the same, keeps nothing, and goes on; `inspect` names the command."""
    private = Study.from_bytes(PRIVATE_STUDY.encode()).with_changes({"roster": NODES})
    (tmp_path / "study.toml").write_bytes(private.raw)
    budget = ["--accept-study", private.digest, "--privacy-budget", "4"]
    said = []
    with CoordinatorProcess(tmp_path / "coordinator", tmp_path / "study.toml") as coordinator:
        for name, data in (("north", fine), ("south", written(tmp_path / "wide.csv", 5.0))):
            node = Node(tmp_path / name).join(coordinator, name)
            lines = node.ok("train", "--data", str(data), *budget).splitlines()
            said.append(
                [line.replace(str(node.home), "HOME") for line in lines if "epgfn-node check" in line]
            )
            assert not (node.home / "local" / "check.json").exists()
            assert "for your eyes alone: epgfn-node check" in node.ok("inspect")
        assert (
            said[0][0].split(" ", 1)[1] == said[1][0].split(" ", 1)[1] and len(said[0]) == len(said[1]) == 1
        )
        assert f"WARNING: {LOUD}" in node.ok("check", "--data", str(odd))
        node.ok("check", "--data", str(odd), "--json")


def test_a_home_of_before_is_shown_as_not_looked_at(tmp_path: Path) -> None:
    assert "not looked at when this model was trained" in Node(old_home(tmp_path)).ok("inspect")


def test_enrolling_tells_the_next_command_as_it_is_to_be_typed(
    coordinator: CoordinatorProcess, study: Study, odd: Path, tmp_path: Path
) -> None:
    for node, data in zip(NEW, (True, False), strict=True):
        one = Node(tmp_path / node)
        one.ok("init", *(["--data", str(odd)] if data else []))
        said = one.ok("enroll", "--invite", str(coordinator.invite(node, tmp_path / f"{node}.json")))
        typed = "" if data else " --data FILE"  # init was told already where the records are
        assert f"epgfn-node train --home {one.home}{typed} --accept-study {study.digest}\n" in said
