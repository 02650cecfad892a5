"""What a hospital gets: after fetch the node's home holds the whole result, over real mTLS, and every command of epgfn takes it."""

from __future__ import annotations

import html
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import epgfn
from epgfn.base.files import sha256_file
from epgfn.cli.main import app
from epgfn.study import Study
from epgfn_coordinator.export import export
from epgfn_coordinator.home import Home
from parties import CoordinatorProcess, Node, in_process


@dataclass(frozen=True)
class Finished:
    """A published round of two nodes, and what its coordinator exports."""

    study: Study
    coordinator: CoordinatorProcess
    north: Node
    south: Node
    run: Path


@pytest.fixture(scope="module")
def finished(small_study: Study, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    folder = tmp_path_factory.mktemp("study")
    file = folder / "study.toml"
    file.write_bytes(small_study.raw)
    with CoordinatorProcess(folder / "coordinator", file) as coordinator:
        nodes = {}
        for number, name in enumerate(("north", "south")):
            data = folder / f"{name}.csv"
            rows = [f"{(i * 7 + number) % 5 - 2},{(i * 3) % 7 - 3},{i % 3 - 1}" for i in range(40)]
            data.write_text("a,b,c\n" + "\n".join(rows) + "\n")
            nodes[name] = Node(folder / name).join(coordinator, name).train(data, small_study)
            nodes[name].ok("approve")
            nodes[name].ok("submit")
        for node in nodes.values():
            assert "the whole result is in" in node.ok("fetch", "--wait", "120")
        export(Home(folder / "coordinator"), folder / "run")
        yield Finished(small_study, coordinator, nodes["north"], nodes["south"], folder / "run")


def files(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): sha256_file(path) for path in folder.rglob("*") if path.is_file()
    }


def test_a_node_gets_all_but_what_others_sent_sealed(finished: Finished) -> None:
    for node, other in ((finished.north, "south"), (finished.south, "north")):
        own, whole = files(node.home / "result"), files(finished.run)
        assert own.pop("participant.json")
        assert whole.keys() - own.keys() == {f"uploads/{other}/model.sealed"}
        assert own.items() <= whole.items()
        sealed = (finished.run / f"uploads/{other}/model.sealed").read_bytes()
        assert not [path for path in node.home.rglob("*") if path.is_file() and path.read_bytes() == sealed]


def test_it_passes_its_audits_and_says_what_they_do_not_cover(finished: Finished) -> None:
    north = finished.north
    said = north.ok("audit")
    assert "ok   copy" in said and "ok   own" in said and "FAIL" not in said
    assert json.loads(north.ok("audit", "--json"))["ok"]
    done = in_process(app, "epgfn", ["audit", str(north.home)], {})
    assert done.returncode == 0 and "sealed models of others, which are not in north's copy" in done.stdout
    assert "cosigned" in north.ok(
        "cosign", str(north.home), "--out", str(north.home.with_name("cosigned.json"))
    )


@pytest.mark.parametrize(
    "command",
    [("sample", "-n", "3"), ("ask", "a is an ancestor of b"), ("exact",), ("export", "--to", "csv")],
    ids=lambda command: command[0],
)
def test_every_command_takes_the_home(finished: Finished, command: tuple[str, ...], tmp_path: Path) -> None:
    out = ["--out", str(tmp_path / "out")] if command[0] == "export" else []
    for place in (finished.south.home, finished.south.home / "result"):
        done = in_process(app, "epgfn", [command[0], str(place), *command[1:], *out], {})
        assert done.returncode == 0, done.stderr


def test_python_takes_the_home(finished: Finished) -> None:
    run, whole = epgfn.load_run(finished.north.home), epgfn.load_run(finished.run)
    assert run.table.equals(whole.table) and run.verdict == whole.verdict and run.audit.ok
    assert len(run.samples) == len(whole.samples)
    upstream = np.array(run.summary["graph_relations"]["ancestor_probabilities"])
    assert (upstream >= run.samples.adjacency.mean(0) - 1e-9).all()  # an edge is a path
    drawn = [each.sample(5, seed=1).adjacency.tolist() for each in (run.model, epgfn.load_model(run.path))]
    assert drawn[0] == drawn[1] == whole.model.sample(5, seed=1).adjacency.tolist()


def test_to_fetch_again_changes_nothing_and_keeps_a_report(finished: Finished) -> None:
    home = finished.north.home
    done = in_process(app, "epgfn", ["report", str(home)], {})
    page = home / "result/global/report.html"
    assert done.stdout.strip() == str(page) and "north's copy" in html.unescape(page.read_text())
    target, before = os.readlink(home / "result"), files(home)
    finished.north.ok("fetch")
    assert os.readlink(home / "result") == target and files(home) == before


def test_a_home_of_before_gets_the_rest(finished: Finished, tmp_path: Path) -> None:
    """It holds the global model alone; so does a home that was put back with its links followed."""
    home = tmp_path / "home"
    shutil.copytree(finished.south.home, home, symlinks=True)
    shutil.rmtree(home / ".results")
    (home / "result").unlink()
    node = Node(home)
    assert "no whole result" in in_process(app, "epgfn", ["report", str(home)], {}).stderr
    node.ok("fetch")
    assert files(home / "result") == {
        name: digest for name, digest in files(finished.south.home / "result").items() if "report" not in name
    }
    shutil.copytree(home, tmp_path / "followed")
    (tmp_path / "followed/result/global/summary.json").write_bytes(b"{}")
    assert "FAIL" in Node(tmp_path / "followed").command("audit").stdout
    Node(tmp_path / "followed").ok("fetch")
    assert (tmp_path / "followed/result").is_symlink() and "FAIL" not in Node(tmp_path / "followed").ok(
        "audit"
    )
