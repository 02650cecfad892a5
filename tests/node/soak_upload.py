"""Uploads over a network that is cut anywhere, to a coordinator that is killed at any time: each ends with one receipt."""

from __future__ import annotations

import contextlib
import random
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

from epgfn.study import Study
from parties import REFUSED, CoordinatorProcess, Node, require_receipt
from proxy import RecordingProxy
from soaking import rounds

TRIES = 30


def soak_uploads_with_random_cuts_and_kills(
    small_study: Study, small_files: dict[str, Path], tmp_path: Path
) -> None:
    changes = {"policy": {"hidden": 1024}, "training": {"steps": 2}, "aggregation": {"steps": 2}}
    study = small_study.with_changes(changes)
    small_files["study"].write_bytes(study.raw)
    for number, chance in rounds("uploads"):
        folder = tmp_path / str(number)
        with CoordinatorProcess(folder / "coordinator", small_files["study"]) as coordinator:
            node = Node(folder / "north").join(coordinator, "north").train(small_files["north"], study)
            node.ok("approve")
            with RecordingProxy(coordinator.address) as proxy:
                node.set(address=proxy.address)
                told = _until_accepted(node, coordinator, proxy, chance)
            require_receipt(node)
            ledger = (folder / "coordinator" / "ledger").rglob("*")
            accepted = sum(path.read_bytes().count(b'"accepted"') for path in ledger if path.is_file())
            assert accepted == 1, "one artifact, one entry"
        print(f"  {told}", flush=True)
        shutil.rmtree(folder)


def _until_accepted(
    node: Node, coordinator: CoordinatorProcess, proxy: RecordingProxy, chance: random.Random
) -> str:
    """Submit again and again, with cuts each time and a kill every other time; what happened."""
    size = (node.home / "outbox" / "model.sealed").stat().st_size
    kept = kills = cuts = 0
    for tries in range(1, TRIES + 1):
        lengths = [int(size * chance.random() / 2) + 1 for _ in range(chance.randint(1, 5))]
        killer = threading.Timer(chance.uniform(0.0, 1.5), coordinator.kill)
        dies = chance.random() < 0.5 and tries < TRIES / 2
        if dies:
            killer.start()
        with _cutting(proxy, lengths) as made:
            done = node.command("submit")
        cuts += len(made)
        if dies:
            killer.join()
            kills += 1
            proxy.retarget(coordinator.start().address)
        if done.returncode == 0:
            return f"{size} bytes in {tries} tries, {cuts} cuts, {kills} kills"
        assert done.returncode == REFUSED and "Traceback" not in done.stderr, done.stderr
        assert not (node.home / "receipts").exists()
        now = sum(part.stat().st_size for part in (coordinator.home / "uploads").glob("*.part"))
        artifacts = sum(path.stat().st_size for path in (coordinator.home / "artifacts").glob("*"))
        assert now + artifacts >= kept, "what was kept is kept"
        kept = now
    raise AssertionError(f"not accepted in {TRIES} tries")


@contextlib.contextmanager
def _cutting(proxy: RecordingProxy, lengths: list[int]) -> Iterator[list[int]]:
    """Meanwhile the connections are cut after so many bytes, again and again; yields those cuts that were made."""
    made: list[int] = []
    stop = threading.Event()

    def cut() -> None:
        for length in lengths:
            proxy.cut_after(length)
            while not proxy.was_cut.wait(0.05):
                if stop.is_set():
                    return
            made.append(length)

    thread = threading.Thread(target=cut)
    thread.start()
    try:
        yield made
    finally:
        stop.set()
        thread.join()
