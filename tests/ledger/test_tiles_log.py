"""The log on disk: what is published is what is read, a kill at any moment is repaired, nothing can be changed unseen."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epgfn.base.errors import EpgfnError
from epgfn.ledger import log as log_module
from epgfn.ledger import merkle
from epgfn.ledger.checkpoint import open_checkpoint, verify_extends
from epgfn.ledger.entries import AcceptedEntry, DeadlineEntry, ExcludedEntry, StateEntry, encode, parse
from epgfn.ledger.errors import LedgerError
from epgfn.ledger.log import TileLog, export_log, read_log
from epgfn.ledger.note import NoteSigner
from epgfn.ledger.proof import verify_proof
from epgfn.ledger.tiles import (
    ENTRIES,
    Tile,
    encode_bundle,
    log_tiles,
    parse_bundle,
)

SIGNER = NoteSigner("study.example/log", bytes(range(32)))
ALL = [f"entry {i}".encode() for i in range(700)]


def files_in(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def published(folder: Path, *sizes: int) -> TileLog:
    log = TileLog(folder, SIGNER)
    for size in sizes:
        log.publish(ALL[:size])
    return log


def test_tiles_of_70_000_entries_are_those_the_specification_lists() -> None:
    tiles = list(log_tiles(70_000))
    level = {n: [t for t in tiles if t.level == n] for n in (ENTRIES, 0, 1, 2, 3)}
    assert [len(level[n]) for n in (0, 1, 2, 3)] == [274, 2, 1, 0]
    assert [level[n][-1].width for n in (ENTRIES, 0, 1, 2)] == [112, 112, 17, 1]
    assert [t.path for t in log_tiles(256)] == ["tile/entries/000", "tile/0/000", "tile/1/000.p/1"]
    assert Tile(0, 1_234_067, 256).path == "tile/0/x001/x234/067"
    assert Tile(ENTRIES, 273, 112).path == "tile/entries/273.p/112"


@given(known=st.integers(0, 70_000), more=st.integers(0, 3_000))
def test_growing_touches_exactly_the_tiles_that_are_new(known: int, more: int) -> None:
    fresh = set(log_tiles(known + more, known))
    assert fresh == set(log_tiles(known + more)) - set(log_tiles(known))


@pytest.mark.parametrize(
    "path",
    [
        "tile/0/1",
        "tile/0/x000/001",
        "tile/00/001",
        "tile/0/001.p/0",
        "tile/0/001.p/256",
        "tile/0/001.p/07",
        "tile/x/001",
        "../tile/0/001",
        "tile/0/0001",
    ],
)
def test_a_path_that_is_no_tile_is_none(path: str) -> None:
    assert Tile.from_path(path) is None


@given(st.integers(-1, 62), st.integers(0, 10**12), st.integers(1, 256))
def test_a_path_leads_back_to_its_tile(level: int, n: int, width: int) -> None:
    assert Tile.from_path(Tile(level, n, width).path) == Tile(level, n, width)


@given(st.lists(st.binary(max_size=300), max_size=20), st.binary(min_size=1, max_size=5))
def test_a_bundle_gives_its_entries_back_and_refuses_other_lengths(entries: list[bytes], more: bytes) -> None:
    raw = encode_bundle(entries)
    assert parse_bundle(raw, len(entries)) == entries
    for wrong in (raw + more, raw[:-1]):
        if wrong:
            with pytest.raises(LedgerError):
                parse_bundle(wrong, len(entries))


@settings(max_examples=25)
@given(
    sizes=st.lists(st.sampled_from([0, 1, 2, 5, 255, 256, 257, 511, 512, 513, 700]), min_size=1, max_size=5)
)
def test_what_is_published_in_any_steps_is_what_is_read(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("log")
    sizes = sorted(sizes)
    log = published(folder, *sizes)
    view = read_log(folder, SIGNER.verifier)
    assert view.entries == ALL[: sizes[-1]]
    assert view.checkpoint == log.checkpoint
    assert view.checkpoint.root == merkle.root([merkle.leaf_hash(e) for e in view.entries])
    # In one step into an empty folder: the same but for partial tiles of earlier checkpoints.
    at_once = folder.with_name(folder.name + "-at-once")
    published(at_once, sizes[-1])
    assert files_in(at_once).items() <= files_in(folder).items()
    exported = folder.with_name(folder.name + "-exported")
    export_log(folder, exported, SIGNER.verifier)
    assert files_in(exported) == files_in(at_once)
    for each in (folder, at_once, exported):
        shutil.rmtree(each)


def test_publishing_again_changes_no_file(tmp_path: Path) -> None:
    log = published(tmp_path, 3, 300)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    log.publish(ALL[:300])
    published(tmp_path, 300)
    assert before == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}


def test_receipts_and_consistency_proofs_hold_for_every_entry(tmp_path: Path) -> None:
    log = published(tmp_path, 20)
    early = log.checkpoint
    receipt = log.receipt(7)
    log.publish(ALL[:300])
    for index in (0, 7, 255, 256, 299):
        assert verify_proof(log.receipt(index), ALL[index], SIGNER.verifier, strict=True) == (
            index,
            log.checkpoint,
        )
    verify_extends(early, log.checkpoint, log.consistency_proof(20))
    assert verify_proof(receipt, ALL[7], SIGNER.verifier, strict=True) == (7, early)
    assert log.consistency_proof(0) == []
    for bad in (300, -1):
        with pytest.raises(LedgerError):
            log.receipt(bad)


def test_a_changed_or_shortened_history_is_never_published(tmp_path: Path) -> None:
    log = published(tmp_path, 10)
    before = files_in(tmp_path)
    for entries in (ALL[:9], [b"other", *ALL[1:12]], [*ALL[:9], b"other"], []):
        for writer in (log, TileLog(tmp_path, SIGNER)):
            with pytest.raises(LedgerError):
                writer.publish(entries)
    with pytest.raises(LedgerError):
        TileLog(tmp_path, NoteSigner.generate(SIGNER.name)).publish(ALL[:11])
    assert files_in(tmp_path) == before
    log.publish(ALL[:11])


def test_an_entry_that_is_too_long_changes_nothing(tmp_path: Path) -> None:
    log = published(tmp_path, 2)
    with pytest.raises(LedgerError):
        log.publish([*ALL[:2], b"x" * 65_536])
    assert log.publish([*ALL[:2], b"x" * 65_535]).size == 3


def test_nothing_can_be_asked_before_the_first_publish(tmp_path: Path) -> None:
    for ask in (lambda log: log.receipt(0), lambda log: log.checkpoint, lambda log: log.consistency_proof(1)):
        with pytest.raises(LedgerError):
            ask(TileLog(tmp_path, SIGNER))


class Killed(BaseException):
    """Stands for SIGKILL: nothing after it runs."""


@pytest.mark.parametrize("steps", range(9))
@pytest.mark.parametrize("torn", [False, True])
def test_a_kill_after_any_file_is_repaired_and_never_shows_a_broken_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int, torn: bool
) -> None:
    log = published(tmp_path, 250)
    left = [steps]
    real = log_module.write_atomic

    def dying(path: Path, data: bytes) -> None:
        if left[0] == 0:
            if torn:  # what `write_atomic` leaves when it is killed in the middle
                path.parent.mkdir(parents=True, exist_ok=True)
                path.with_name(f".{path.name}.abc123").write_bytes(data[: len(data) // 2])
            raise Killed
        left[0] -= 1
        real(path, data)

    monkeypatch.setattr(log_module, "write_atomic", dying)
    try:
        log.publish(ALL[:520])
    except Killed:
        # Whoever reads meanwhile finds all that the old checkpoint commits to.
        assert read_log(tmp_path, SIGNER.verifier, strict=False).entries == ALL[:250]
    monkeypatch.setattr(log_module, "write_atomic", real)
    published(tmp_path, 530)
    assert read_log(tmp_path, SIGNER.verifier).entries == ALL[:530]


def test_a_full_disk_leaves_the_old_log_and_the_same_writer_recovers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = published(tmp_path, 5)

    def full(path: Path, data: bytes) -> None:
        raise EpgfnError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(log_module, "write_atomic", full)
        with pytest.raises(EpgfnError):
            log.publish(ALL[:6])
    assert read_log(tmp_path, SIGNER.verifier).checkpoint.size == 5
    assert log.publish(ALL[:6]).size == 6
    assert verify_proof(log.receipt(5), ALL[5], SIGNER.verifier)[0] == 5


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    published(folder, 3, 260)
    return folder


@settings(max_examples=150)
@given(data=st.data())
def test_no_bit_of_any_file_can_be_changed(finished: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(files_in(finished))))
    path = finished / name
    raw = path.read_bytes()
    changed = bytearray(raw)
    changed[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(changed)
    try:
        with pytest.raises(LedgerError):
            read_log(finished, SIGNER.verifier)
    finally:
        path.write_bytes(raw)
    read_log(finished, SIGNER.verifier)


def test_missing_surplus_and_linked_files_are_refused(tmp_path: Path) -> None:
    published(tmp_path, 260)
    for name, raw in files_in(tmp_path).items():
        (tmp_path / name).unlink()
        with pytest.raises(LedgerError):
            read_log(tmp_path, SIGNER.verifier)
        (tmp_path / name).symlink_to(__file__)
        with pytest.raises(LedgerError):
            read_log(tmp_path, SIGNER.verifier)
        (tmp_path / name).unlink()
        (tmp_path / name).write_bytes(raw)
    for name in ("notes.txt", "tile/0/002", "tile/0/001.p/5", "tile/entries/000.p/999", "tile/1/001.p/1"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"surplus")
        with pytest.raises(LedgerError):
            read_log(tmp_path, SIGNER.verifier)
        assert read_log(tmp_path, SIGNER.verifier, strict=False).checkpoint.size == 260
        path.unlink()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(LedgerError):
        read_log(tmp_path, SIGNER.verifier)


def test_a_checkpoint_that_promises_more_than_there_is_is_refused(tmp_path: Path) -> None:
    published(tmp_path, 5)
    checkpoint = open_checkpoint((tmp_path / "checkpoint").read_bytes(), SIGNER.verifier)
    huge = checkpoint.to_text().replace("\n5\n", f"\n{2**62}\n")
    (tmp_path / "checkpoint").write_bytes(SIGNER.sign(huge))
    with pytest.raises(LedgerError):
        read_log(tmp_path, SIGNER.verifier)


ACCEPTED = AcceptedEntry(round_id="r1", node_id="a", sealed_sha256="0" * 64, bundle_sha256="1" * 64, size=5)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b'{"kind":"other"}',
        b"\xff",
        encode(ACCEPTED) + b"\n",
        encode(ACCEPTED).replace(b'"size":5', b'"size":"5"'),
        encode(ACCEPTED).replace(b'"size":5', b'"size":-5'),
        encode(ACCEPTED).replace(b'"size":5', b'"size":5.0'),
        encode(ACCEPTED).replace(b'"size":5', b'"size":5,"zone":1'),
        encode(ACCEPTED).replace(b"000000", b"00000A"),
        encode(StateEntry(round_id="r1", state="open")).replace(b'"detail":{},', b""),
    ],
)
def test_an_entry_that_is_not_of_a_known_form_is_refused(raw: bytes) -> None:
    with pytest.raises(LedgerError):
        parse(raw)


def test_entries_read_as_they_were_written() -> None:
    for entry in (
        ACCEPTED,
        StateEntry(round_id="r1", state="closed", detail={"why": "deadline", "accepted": 3}),
        ExcludedEntry(round_id="r1", node_id="a", sealed_sha256="0" * 64, reason="model-not-combined"),
        DeadlineEntry(round_id="r1", deadline="2030-01-31T12:00:00Z"),
    ):
        assert parse(encode(entry)) == entry


WRITER = """
import sys
from pathlib import Path
from epgfn.ledger.log import TileLog
from epgfn.ledger.note import NoteSigner
log = TileLog(Path(sys.argv[1]), NoteSigner("study.example/log", bytes(range(32))))
for size in range(int(sys.argv[2]), 701):
    log.publish([f"entry {i}".encode() for i in range(size)])
    print(size, flush=True)
"""


def test_a_writer_that_is_really_killed_loses_nothing_it_acknowledged(tmp_path: Path) -> None:
    size = 240
    for lines in (3, 25):
        command = [sys.executable, "-c", WRITER, str(tmp_path), str(size)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            for _ in range(lines):
                size = int(writer.stdout.readline())
            writer.kill()
        view = read_log(tmp_path, SIGNER.verifier, strict=False)
        assert view.checkpoint.size >= size
        size = view.checkpoint.size
    published(tmp_path, size)
    assert read_log(tmp_path, SIGNER.verifier).entries == ALL[:size]
