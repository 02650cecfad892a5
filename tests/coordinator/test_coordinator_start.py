"""`serve` answers before it has loaded what checks and trains models, which takes seconds."""

from __future__ import annotations

from pathlib import Path

from coordinator_client import FakeNode, OwnProcess, make_home, reason_of, tiny_study
from epgfn_coordinator.status import status
from parties import on_coordinator

WITHOUT_TORCH = """
import importlib.abc, pathlib, sys, time

class Waiting(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        while name == "torch" and not pathlib.Path({file!r}).exists():
            time.sleep(0.05)

sys.meta_path.insert(0, Waiting())
from epgfn_coordinator import checking
checking.PATIENCE = 0.5
from epgfn_coordinator.cli import main
main()
"""


def test_a_coordinator_that_has_not_loaded_torch_answers_and_takes_models(tmp_path: Path) -> None:
    study = tiny_study()
    home = make_home(tmp_path / "home", study)
    loaded = tmp_path / "loaded"
    with OwnProcess(home, program=WITHOUT_TORCH.format(file=str(loaded))) as server:
        nodes = [FakeNode.enrolled(home, "a"), FakeNode.enrolled(home, "b")]
        uploads = [node.make_upload(study, seed=seed) for seed, node in enumerate(nodes)]
        # What its signed statement says needs no torch, and is refused at once.
        bad = nodes[0].make_upload(study, round_key_id="0" * 64)
        assert reason_of(lambda: nodes[0].begin(bad.bundle)) == "wrong-round-key"
        for node, upload in zip(nodes, uploads, strict=True):
            assert reason_of(lambda node=node, upload=upload: node.commit(node.put(upload))) == "checking"
        loaded.touch()
        server.wait_for("published")
        receipts = [node.send(upload).receipt for node, upload in zip(nodes, uploads, strict=True)]
    with OwnProcess(home, program=WITHOUT_TORCH.format(file=str(tmp_path / "never"))):
        # Back, without torch: every receipt and the result can be had, and it ends when it is told to.
        assert [node.send(upload).receipt for node, upload in zip(nodes, uploads, strict=True)] == receipts
        assert nodes[0].download() == nodes[1].download()


def test_what_a_machine_does_not_have_is_said_before_anything_is_served(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home", tiny_study())
    done = on_coordinator("serve", "--home", str(home.root), "--device", "abacus")
    assert done.returncode == 2 and "no device 'abacus'" in done.stderr


def test_until_fetched_it_serves_until_each_has_the_result_and_then_ends_by_itself(tmp_path: Path) -> None:
    study = tiny_study()
    home = make_home(tmp_path / "home", study)
    with OwnProcess(home, options=["--until-fetched"]) as server:
        nodes = [FakeNode.enrolled(home, "a"), FakeNode.enrolled(home, "b")]
        for seed, node in enumerate(nodes):
            node.send(node.make_upload(study, seed=seed))
        server.wait_for("published")
        nodes[0].download()
        assert status(home)["fetched"] == ["a"]
        server.process.terminate()
        _, said = server.process.communicate()
        assert server.process.returncode == 130 and "interrupted" in said  # stopped before b has it
    with OwnProcess(home, options=["--until-fetched"]) as server:
        assert nodes[1].download() == nodes[1].download()  # who has lost the answer gets it again
        server.process.communicate()
        assert server.process.returncode == 0
    assert status(home)["fetched"] == ["a", "b"]


def test_until_fetched_a_round_that_has_no_result_is_a_failure(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home", tiny_study())
    assert on_coordinator("abandon", "--home", str(home.root), "--yes").returncode == 0
    done = on_coordinator("serve", "--home", str(home.root), "--until-fetched")
    assert done.returncode == 1 and "ended without a result" in done.stderr
