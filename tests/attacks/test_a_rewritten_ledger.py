"""Promise: a ledger that was rewritten does not stand beside what was seen of it before.

The coordinator holds the ledger's key, and signs another history: without an artifact, shorter, or another one for each reader. The run
directory by itself is then in order. A receipt or a checkpoint that somebody has kept convicts it.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from attacks import closing, refusals
from epgfn.base.errors import EpgfnError, RefusedError
from epgfn.ledger.note import NoteSigner
from epgfn.run.audit.audit import audit_run
from epgfn.run.audit.kept import Own, gather
from epgfn.run.heads import ForkError, compare, read_head
from run_directory import ROUND_ID, RunDirectory, opened


def collected(run: RunDirectory, folder: Path) -> Path:
    """What north and south have kept of `run`: receipts with their entries, and the newest checkpoint."""
    for node, index in (("north", 6), ("south", 7)):
        (folder / node).mkdir(parents=True)
        (folder / node / "receipt.tlog-proof").write_bytes(
            (run.root / f"uploads/{node}/receipt.tlog-proof").read_bytes()
        )
        (folder / node / "entry.json").write_bytes(run.entries[index])
    (folder / "south" / "last-checkpoint").write_bytes(run.tiles.note)
    (folder / "readme.txt").write_text("passed over")
    return folder


@pytest.fixture
def other(run: RunDirectory, tmp_path: Path) -> RunDirectory:
    """Another history of the same round, by the same coordinator with the same keys: north was swapped, and all is in order."""
    made = RunDirectory(tmp_path / "other", run.study, run.coordinator, run.ledger)
    made.open_round()
    made.send("north")
    made.send("south")
    made.close()
    made.finish()
    assert refusals(made.root) == {}
    return made


def kept_refusals(root: Path, folder: Path) -> dict[str, str]:
    report = audit_run(root, kept=gather(folder))
    return {finding.check: finding.message for finding in report.findings if not finding.ok}


def test_a_true_run_holds_what_its_nodes_have_kept(run: RunDirectory, tmp_path: Path) -> None:
    folder = collected(run, tmp_path / "kept")
    report = audit_run(run.root, kept=gather(folder))
    assert report.ok
    said = {finding.check: finding.message for finding in report.findings if finding.check.startswith("kept")}
    assert list(said) == [
        "kept north/receipt.tlog-proof",
        "kept south/last-checkpoint",
        "kept south/receipt.tlog-proof",
    ]
    assert "proves entry 6 (a model of north is accepted" in said["kept north/receipt.tlog-proof"]


def test_another_history_that_is_in_order_is_convicted_by_what_was_kept(
    run: RunDirectory, other: RunDirectory, tmp_path: Path
) -> None:
    found = kept_refusals(other.root, collected(run, tmp_path / "kept"))
    assert set(found) == {
        "kept north/receipt.tlog-proof",
        "kept south/last-checkpoint",
        "kept south/receipt.tlog-proof",
    }
    assert "the ledger was rewritten after the receipt was given" in found["kept north/receipt.tlog-proof"]
    assert (
        "are a FORK: test/ledger has signed that its first 12 entries" in found["kept south/last-checkpoint"]
    )


def test_a_shorter_history_is_no_extension_of_what_was_seen(run: RunDirectory, tmp_path: Path) -> None:
    """As if the export had been made before north's artifact came."""
    folder = collected(run, tmp_path / "kept")
    early = RunDirectory(tmp_path / "early", run.study, run.coordinator, run.ledger)
    early.__dict__.update({key: value for key, value in run.__dict__.items() if key not in ("root", "tiles")})
    early.entries = run.entries[:6]
    found = kept_refusals(early.finish(), folder)
    assert "Here that entry is missing" in found["kept north/receipt.tlog-proof"]
    assert "is of a ledger of 12 entries and this run directory has 6" in found["kept south/last-checkpoint"]


def test_a_receipt_of_another_ledger_proves_nothing_here(run: RunDirectory, tmp_path: Path) -> None:
    stranger = RunDirectory(tmp_path / "stranger", ledger=NoteSigner.generate("test/ledger"))
    stranger.open_round()
    stranger.send("north")
    folder = tmp_path / "kept"
    folder.mkdir()
    (folder / "receipt").write_bytes((stranger.root / "uploads/north/receipt.tlog-proof").read_bytes())
    (folder / "torn").write_bytes(b"c2sp.org/tlog-proof@v1\nindex")
    found = kept_refusals(run.root, folder)
    assert "the note is not signed by test/ledger" in found["kept receipt"]
    assert "is not a receipt" in found["kept torn"]


def own(run: RunDirectory, node: str = "north", **changes: object) -> Own:
    """What a node of `run` knows of itself."""
    sealed, bundle = run.aggregated(node)["sealed_sha256"], run.aggregated(node)["bundle_sha256"]
    whole = Own(
        node,
        run.study.digest,
        ROUND_ID,
        run.ledger.verifier.vkey,
        run.keys[node].public.fingerprint,
        (sealed, bundle),
    )
    return whole._replace(**changes)


def refused(root: Path, mine: Own) -> str:
    report = audit_run(root, own=mine)
    failed = [finding for finding in report.findings if not finding.ok]
    assert [finding.check for finding in failed] in ([], ["own"])
    return failed[0].message if failed else ""


def test_a_node_finds_its_artifact_under_its_key_or_says_what_became_of_it(
    run: RunDirectory, other: RunDirectory
) -> None:
    assert refused(run.root, own(run)) == ""
    assert "somebody else acts in its name" in refused(other.root, own(run))
    mine = own(run, fingerprint=other.keys["north"].public.fingerprint)
    assert "was dropped or swapped" in refused(other.root, mine)
    assert "that this node has never sent" in refused(run.root, own(run, sent=None))
    assert refused(run.root, own(run, sent=None, approved=own(run).sent[0])) == ""  # type: ignore[index]
    assert "took part in round round-0" in refused(run.root, own(run, round_id="round-0"))


def test_a_node_that_withdrew_is_not_told_that_it_was_invented(tmp_path: Path) -> None:
    run = closing(tmp_path / "run", lambda made: made.send("west"))
    mine = own(run, "west")
    run.withdraw("west", run.keys["west"])
    run.close()
    root = run.finish()
    assert refused(root, mine._replace(sent=None, withdrawn=frozenset([mine.sent[0]]))) == ""  # type: ignore[index]
    assert "does NOT count" in next(f.message for f in audit_run(root, own=mine).findings if f.check == "own")


def test_two_histories_are_a_fork_and_shown_with_both_signed_heads(
    run: RunDirectory, other: RunDirectory, tmp_path: Path
) -> None:
    heads = [read_head(made.root) for made in (run, other)]
    with pytest.raises(ForkError) as fork:
        compare(*heads)
    assert "They part at entry 1: the coordinator opens round" in str(
        fork.value
    ) or "They part at entry" in str(fork.value)
    for made, shown in zip((run, other), fork.value.evidence, strict=True):
        assert made.tiles.note.decode() in shown
    # Two checkpoints alone are enough, where they are of one size.
    notes = [tmp_path / name for name in ("one", "two")]
    for path, made in zip(notes, (run, other), strict=True):
        path.write_bytes(made.tiles.note)
    with pytest.raises(ForkError):
        compare(*(read_head(path, run.ledger.verifier) for path in notes))


def test_what_cannot_be_told_is_not_called_a_fork(run: RunDirectory, tmp_path: Path) -> None:
    whole, receipt = read_head(run.root), run.root / "uploads/north/receipt.tlog-proof"
    early = read_head(receipt, run.ledger.verifier)
    assert "is a beginning of" in compare(early, whole) == compare(whole, early)
    assert "the same ledger at the same moment" in compare(whole, whole)
    path = tmp_path / "newest"
    path.write_bytes(run.tiles.note)
    with pytest.raises(EpgfnError, match="only the 12 entries show"):
        compare(early, read_head(path, run.ledger.verifier))
    elsewhere = opened(tmp_path / "elsewhere")
    elsewhere.publish()
    elsewhere.finish()
    with pytest.raises(RefusedError, match="of two keys nothing follows"):
        compare(whole, read_head(elsewhere.root))
    with pytest.raises(EpgfnError, match="not signed"):
        read_head(path, elsewhere.ledger.verifier)


def test_no_file_of_a_collection_is_followed_or_read_beyond_its_bound(
    run: RunDirectory, tmp_path: Path
) -> None:
    folder = collected(run, tmp_path / "kept")
    (folder / "link").symlink_to(run.root / "ledger/checkpoint")
    with (folder / "large").open("wb") as file:
        file.write(b"c2sp.org/tlog-proof@v1\n")
        file.truncate(4 << 30)
    shutil.copy(run.root / "global/model.safetensors", folder / "binary")
    assert len(gather(folder)) == 3
