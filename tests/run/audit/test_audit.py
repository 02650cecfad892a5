"""`epgfn audit`: a true run passes; whatever is changed, added, dropped, swapped or replayed afterwards is found."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epgfn.base.files import sha256_hex, write_atomic
from epgfn.ledger.entries import (
    DeadlineEntry,
    EnrolledEntry,
    ExcludedEntry,
    GlobalEntry,
    KeyDestroyedEntry,
    RefusedEntry,
    RevokedEntry,
    StateEntry,
    StudyEntry,
    WithdrawnEntry,
)
from epgfn.ledger.log import TileLog, export_log
from epgfn.ledger.note import NoteSigner
from epgfn.run.audit.audit import AuditReport, audit_run
from epgfn.sealing.bundle import sign_statement, verify_bundle
from epgfn.sealing.keys import SigningKey
from epgfn.sealing.statement import STUDY, make_statement
from epgfn.study import Study
from run_directory import ROUND_ID, RunDirectory, make_run, opened


def failed(report: AuditReport) -> set[str]:
    return {finding.check for finding in report.findings if not finding.ok}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return make_run(tmp_path_factory.mktemp("run") / "run")


@pytest.fixture
def copy(run: RunDirectory, tmp_path: Path) -> Path:
    """A copy of the true run, to tamper with."""
    return Path(shutil.copytree(run.root, tmp_path / "copy"))


def test_a_true_run_passes(run: RunDirectory) -> None:
    report = audit_run(run.root)
    assert report.ok, [finding for finding in report.findings if not finding.ok]
    assert all("\n" not in finding.message for finding in report.findings)
    shown = next(f for f in report.findings if f.check == "coordinator-key").message
    assert run.coordinator.public.fingerprint in shown and "compare" in shown


def test_the_pinned_coordinator_passes_and_another_one_does_not(run: RunDirectory, tmp_path: Path) -> None:
    pin = run.coordinator.public.fingerprint
    assert audit_run(run.root, coordinator_fingerprint=pin).ok
    assert audit_run(run.root, coordinator_fingerprint=f" {pin.upper()}\n").ok
    other = make_run(tmp_path / "other")
    assert audit_run(other.root).ok
    assert not audit_run(other.root, coordinator_fingerprint=pin).ok
    assert not audit_run(run.root, coordinator_fingerprint="").ok


# Bits -------------------------------------------------------------------------------------------------------------


def flips_are_found(root: Path, name: str, at: int, bit: int) -> None:
    path = root / name
    raw = path.read_bytes()
    changed = bytearray(raw)
    changed[at] ^= 1 << bit
    path.write_bytes(changed)
    try:
        assert not audit_run(root).ok, f"bit {bit} of byte {at} of {name} was changed unseen"
    finally:
        path.write_bytes(raw)


@settings(max_examples=200)
@given(data=st.data())
def test_any_flipped_bit_of_any_file_fails(run: RunDirectory, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(run.files))
    at = data.draw(st.integers(0, (run.root / name).stat().st_size - 1))
    flips_are_found(run.root, name, at, data.draw(st.integers(0, 7)))


def test_no_part_of_any_file_is_left_out(run: RunDirectory) -> None:
    for name in run.files:
        size = (run.root / name).stat().st_size
        for at in [*range(0, size, 29 if size < 400 else 301), size - 1]:
            flips_are_found(run.root, name, at, at % 8)
    assert audit_run(run.root).ok


@settings(max_examples=60)
@given(data=st.data())
def test_no_bytes_crash_the_audit(run: RunDirectory, data: st.DataObject) -> None:
    path = run.root / data.draw(st.sampled_from(run.files))
    raw = path.read_bytes()
    cut = data.draw(st.integers(0, len(raw)))
    junk = data.draw(
        st.binary(max_size=40) | st.sampled_from([b"{" * 5000, b"[1e999]", b"9" * 5000, b"\0" * 9000])
    )
    path.write_bytes(data.draw(st.sampled_from([junk, raw[:cut] + junk, junk + raw])))
    try:
        assert audit_run(run.root).ok == (path.read_bytes() == raw)
    finally:
        path.write_bytes(raw)


# Files ------------------------------------------------------------------------------------------------------------


def test_every_file_is_needed(copy: Path, run: RunDirectory) -> None:
    for name in run.files:
        path = copy / name
        raw = path.read_bytes()
        path.unlink()
        assert not audit_run(copy).ok, name
        path.write_bytes(raw)


@pytest.mark.parametrize("kind", ["missing", "empty", "file"])
def test_something_that_is_no_run_directory_fails_without_a_traceback(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "run"
    if kind == "empty":
        path.mkdir()
    elif kind == "file":
        path.write_text("no folder")
    assert not audit_run(path).ok


# Uploads ----------------------------------------------------------------------------------------------------------


def test_a_dropped_upload_fails(copy: Path) -> None:
    shutil.rmtree(copy / "uploads/north")
    assert failed(audit_run(copy)) == {"upload north"}


def test_an_added_upload_fails(copy: Path) -> None:
    shutil.copytree(copy / "uploads/north", copy / "uploads/west")
    assert failed(audit_run(copy)) == {"upload west"}


@pytest.mark.parametrize(
    "names",
    [
        ["model.sealed"],
        ["receipt.tlog-proof"],
        ["upload.sigstore.json"],
        ["model.sealed", "upload.sigstore.json"],
        ["model.sealed", "upload.sigstore.json", "receipt.tlog-proof"],
    ],
)
def test_swapped_uploads_and_receipts_fail(copy: Path, names: list[str]) -> None:
    for name in names:
        north, south = copy / "uploads/north" / name, copy / "uploads/south" / name
        a, b = north.read_bytes(), south.read_bytes()
        north.write_bytes(b)
        south.write_bytes(a)
    assert failed(audit_run(copy)) == {"upload north", "upload south"}


def test_a_receipt_of_another_entry_or_run_fails(copy: Path, run: RunDirectory, tmp_path: Path) -> None:
    other = make_run(tmp_path / "other").root / "uploads/north/receipt.tlog-proof"
    for receipt in (run.tiles.receipt(3), other.read_bytes(), run.tiles.receipt(7)):
        (copy / "uploads/north/receipt.tlog-proof").write_bytes(receipt)
        assert failed(audit_run(copy)) == {"upload north"}
    # A later receipt for the same entry is as good.
    (copy / "uploads/north/receipt.tlog-proof").write_bytes(run.tiles.receipt(6))
    assert audit_run(copy).ok


OTHER_DIGEST = "0" * 64


@pytest.mark.parametrize(
    "changes",
    [
        {"study_digest": OTHER_DIGEST},
        {"round_id": "round-0"},
        {"node_id": "south"},
        {"sender_fingerprint": OTHER_DIGEST},
        {"round_key_id": OTHER_DIGEST},
        {"suite": "X25519"},
        {"payload_type": "text/plain"},
        {"sealed_size": 5},
        {"model_size": 5},
        {"privacy": {"mode": "gradient"}},
        {"checkpoint": {"origin": "test/ledger", "size": 3, "root": base64.b64encode(bytes(32)).decode()}},
        {
            "checkpoint": {
                "origin": "elsewhere",
                "size": 0,
                "root": "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
            }
        },
    ],
    ids=lambda changes: str(next(iter(changes))),
)
def test_an_upload_bound_to_something_else_fails_though_signed_and_logged(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    run = opened(tmp_path / "run")
    run.send("north", **changes)
    run.send("south")
    run.close()
    assert failed(audit_run(run.finish())) == {"upload north"}


def test_an_upload_above_the_studys_size_fails(tmp_path: Path) -> None:
    text = (
        opened(tmp_path / "a")
        .study.raw.decode()
        .replace("[training]", "[transport]\nmax_upload_bytes = 1024\n[training]")
    )
    run = opened(tmp_path / "run", Study.from_bytes(text.encode()))
    run.send("north")
    run.send("south")
    run.close()
    assert failed(audit_run(run.finish())) == {"upload north", "upload south"}


def test_an_upload_signed_by_another_nodes_key_fails(tmp_path: Path) -> None:
    run = opened(tmp_path / "run")
    run.send("north")
    run.accept("south", *run.uploads["north"])
    run.close()
    assert failed(audit_run(run.finish())) == {"upload south"}


def test_a_node_key_that_the_ledger_did_not_enrol_fails(copy: Path) -> None:
    (copy / "keys/nodes/north.pem").write_bytes(SigningKey.generate().public.pem)
    assert "node-keys" in failed(audit_run(copy))


# Study, round, ledger ---------------------------------------------------------------------------------------------


def test_another_study_fails_even_when_the_coordinator_signs_it(copy: Path, run: RunDirectory) -> None:
    raw = run.study.raw.replace(b"quorum = 2", b"quorum = 1")
    (copy / "study.toml").write_bytes(raw)
    assert "study" in failed(audit_run(copy))
    digest = sha256_hex(raw)
    statement = make_statement({"study.toml": digest}, STUDY, {"study_digest": digest, "name": "small"})
    (copy / "study.sigstore.json").write_bytes(run.sign(statement))
    assert {"round", "ledger-entries", "global"} <= failed(audit_run(copy))


def test_statements_of_another_run_of_the_same_coordinator_fail(
    copy: Path, run: RunDirectory, tmp_path: Path
) -> None:
    other = RunDirectory(tmp_path / "other", run.study, run.coordinator, run.ledger)
    other.open_round()
    other.send("north")
    other.send("south")
    other.close()
    other.finish()
    for name in ("round.sigstore.json", "global/model.sigstore.json", "ledger", "uploads/north"):
        mixed = Path(shutil.copytree(copy, tmp_path / "mixed"))
        source, target = other.root / name, mixed / name
        if source.is_dir():
            shutil.rmtree(target)
            shutil.copytree(source, target)
        else:
            target.write_bytes(source.read_bytes())
        assert not audit_run(mixed).ok, name
        shutil.rmtree(mixed)


def rewritten(
    run: RunDirectory, copy: Path, entries: list[bytes], signer: NoteSigner | None = None
) -> AuditReport:
    """The audit of a copy whose ledger a cheating coordinator has written anew, signed as it should be."""
    signer = signer or run.ledger
    live = copy.with_name("live")
    TileLog(live, signer).publish(entries)
    shutil.rmtree(copy / "ledger")
    export_log(live, copy / "ledger", signer.verifier)
    return audit_run(copy)


def test_a_truncated_ledger_fails(run: RunDirectory, tmp_path: Path) -> None:
    for kept in range(len(run.entries)):
        folder = tmp_path / str(kept)
        copy = Path(shutil.copytree(run.root, folder / "copy"))
        report = rewritten(run, copy, run.entries[:kept])
        assert not report.ok, kept


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda e: [*e[:6], *e[7:]],
        lambda e: [*e[:6], e[7], e[6], *e[8:]],
        lambda e: [*e[:5], e[4], *e[5:]],
        lambda e: [*e, e[6]],
        lambda e: [e[1], e[0], *e[2:]],
        lambda e: [*e[:3], e[6], e[7], *e[3:6], *e[8:]],
        lambda e: [*e, b"{}"],
        lambda e: [*e, b'{"kind":"unknown"}'],
    ],
    ids=[
        "dropped",
        "swapped",
        "inserted",
        "twice",
        "study-after-round",
        "before-enrolled",
        "no-kind",
        "unknown-kind",
    ],
)
def test_a_rewritten_ledger_fails_though_signed(
    run: RunDirectory, copy: Path, rewrite: Callable[[list[bytes]], list[bytes]]
) -> None:
    assert not rewritten(run, copy, rewrite(run.entries)).ok


def test_a_ledger_signed_with_another_key_fails(run: RunDirectory, copy: Path) -> None:
    other = NoteSigner.generate(run.ledger.name)
    assert "ledger" in failed(rewritten(run, copy, run.entries, other))
    (copy / "keys/ledger.vkey").write_text(other.verifier.vkey + "\n")
    assert "round" in failed(audit_run(copy))


def entries_that_do_not_belong() -> list[object]:
    key = SigningKey.generate().public
    return [
        StudyEntry(study_digest=OTHER_DIGEST, bundle_sha256=OTHER_DIGEST),
        StateEntry(round_id="round-2", state="open"),
        StateEntry(round_id=ROUND_ID, state="open"),
        EnrolledEntry(node_id="stranger", signing_key=key.pem.decode(), fingerprint=key.fingerprint),
        EnrolledEntry(node_id="north", signing_key=key.pem.decode(), fingerprint=key.fingerprint),
        EnrolledEntry(node_id="west", signing_key=key.pem.decode(), fingerprint=OTHER_DIGEST),
        WithdrawnEntry(round_id=ROUND_ID, node_id="west", sealed_sha256=OTHER_DIGEST),
        GlobalEntry(round_id=ROUND_ID, bundle_sha256=OTHER_DIGEST, model_sha256=OTHER_DIGEST),
        KeyDestroyedEntry(round_id=ROUND_ID, round_key_id=OTHER_DIGEST),
    ]


@pytest.mark.parametrize("entry", entries_that_do_not_belong(), ids=lambda e: type(e).__name__)
def test_an_entry_that_has_no_place_in_the_round_fails(tmp_path: Path, entry: object) -> None:
    run = opened(tmp_path / "run")
    run.send("north")
    run.send("south")
    run.close()
    run.log(entry)  # type: ignore[arg-type]
    assert failed(audit_run(run.finish()))


def test_an_upload_accepted_after_the_round_was_closed_fails(tmp_path: Path) -> None:
    run = opened(tmp_path / "run")
    run.send("north")
    run.log(StateEntry(round_id=ROUND_ID, state="aggregating"))
    run.send("south")
    run.close()
    assert "ledger-entries" in failed(audit_run(run.finish()))


# The global model -------------------------------------------------------------------------------------------------


def test_a_run_without_a_global_model_fails_in_that_check(tmp_path: Path) -> None:
    run = opened(tmp_path / "run")
    run.send("north")
    report = audit_run(run.finish())
    assert "global" in failed(report) and "upload north" not in failed(report)


def test_a_global_model_of_other_uploads_than_the_accepted_fails(tmp_path: Path) -> None:
    def changed(number: int, run: RunDirectory) -> dict[str, object]:
        north, south = run.aggregated("north"), run.aggregated("south")
        return [
            {"aggregated": [north], "absent": ["south", "west"]},
            {"aggregated": [north, south, {**south, "node_id": "west"}], "absent": []},
            {"aggregated": [north, {**south, "sealed_sha256": OTHER_DIGEST}]},
            {"aggregated": [{**north, "node_id": "south"}, {**south, "node_id": "north"}]},
            {"absent": []},
            {"absent": ["stranger"]},
            {"study_digest": OTHER_DIGEST},
            {"round_id": "round-0"},
            {"checkpoint": {**run.checkpoint(), "root": base64.b64encode(bytes(32)).decode()}},
            {"checkpoint": {**run.checkpoint(), "size": 99}},
        ][number]

    for number in range(10):
        run = opened(tmp_path / str(number) / "run")
        run.send("north")
        run.send("south")
        run.close(**changed(number, run))
        assert failed(audit_run(run.finish())) == {"global"}, number


def test_a_global_model_of_fewer_uploads_than_the_quorum_fails(tmp_path: Path) -> None:
    run = opened(tmp_path / "run")
    run.send("north")
    run.close()
    assert failed(audit_run(run.finish())) == {"global"}


def test_a_withdrawn_upload_must_not_be_in_the_global_model(tmp_path: Path) -> None:
    for aggregated in (False, True):
        run = opened(tmp_path / str(aggregated) / "run")
        for node in run.study.roster:
            run.send(node)
        withdrawn = run.uploads["west"]
        run.log(WithdrawnEntry(round_id=ROUND_ID, node_id="west", sealed_sha256=sha256_hex(withdrawn[0])))
        if not aggregated:
            del run.uploads["west"]
        run.close()
        report = audit_run(run.finish())
        assert failed(report) == ({"global"} if aggregated else set())
        # Nothing but the coordinator's word stands behind a withdrawal, so nobody may overlook it.
        assert "WITHDRAWN" in next(f for f in report.findings if f.check == "upload west").message


@pytest.mark.parametrize(
    ("story", "checks"),
    [
        ("send revoke enrol", set()),
        ("send revoke", set()),
        ("revoke enrol send", set()),
        ("revoke enrol send revoke", set()),
        ("revoke send", {"ledger-entries"}),
        ("revoke revoke", {"ledger-entries"}),
        ("enrol send", {"ledger-entries"}),
        ("revoke enrol-old send", {"ledger-entries"}),
        ("revoke-other send", {"ledger-entries"}),
        ("send revoke enrol swap", {"upload west"}),
        ("revoke enrol send old-key", {"node-keys", "upload west"}),
    ],
)
def test_revoked_keys_have_their_place_in_the_story(tmp_path: Path, story: str, checks: set[str]) -> None:
    run = opened(tmp_path / "run")
    old = run.keys["west"]
    run.send("north")
    run.send("south")

    def enrol(key: SigningKey) -> None:
        run.keys["west"] = key
        print_ = key.public.fingerprint
        run.log(EnrolledEntry(node_id="west", signing_key=key.public.pem.decode(), fingerprint=print_))

    for word in story.split():
        if word == "send":
            run.send("west")
        elif word.startswith("revoke"):
            key = run.keys["north" if word == "revoke-other" else "west"]
            run.log(RevokedEntry(round_id=ROUND_ID, node_id="west", fingerprint=key.public.fingerprint))
        elif word.startswith("enrol"):
            enrol(old if word == "enrol-old" else SigningKey.generate())
        elif word == "swap":  # what counted under the old key, as if the new one had signed it
            payload = verify_bundle(run.uploads["west"][1], old.public)
            bundle = sign_statement(payload, run.keys["west"])
            (run.root / "uploads/west/upload.sigstore.json").write_bytes(bundle)
        elif word == "old-key":
            run.keys["west"] = old
    run.close()
    found = audit_run(run.finish())
    if "ledger-entries" in checks:
        assert "ledger-entries" in failed(found)
    else:
        assert failed(found) >= checks and (checks or found.ok), found.findings


@pytest.mark.parametrize(
    ("story", "check"),
    [
        ("withdraw", ""),
        ("withdraw send", ""),
        ("withdraw send withdraw", ""),
        ("withdraw again", "ledger-entries"),
        ("withdraw withdraw", "ledger-entries"),
        ("aggregating withdraw", "ledger-entries"),
        ("revoke withdraw", "ledger-entries"),
        ("revoke enrol withdraw", ""),
        ("by-other", "withdrawal west"),
        ("by-coordinator", "withdrawal west"),
        ("other-round", "withdrawal west"),
        ("other-model", "withdrawal west"),
        ("early", "withdrawal west"),
        ("other-file", "withdrawal west"),
        ("no-file", "withdrawal west"),
        ("stray", "files"),
    ],
)
def test_a_withdrawal_counts_as_its_node_has_signed_it(tmp_path: Path, story: str, check: str) -> None:
    run = opened(tmp_path / "run")
    for node in run.study.roster:
        run.send(node)
    sealed, bundle = run.uploads["west"]
    for word in story.split():
        if word == "send":
            run.send("west")
        elif word == "again":  # the same artifact once more
            run.accept("west", sealed, bundle)
        elif word == "aggregating":
            run.log(StateEntry(round_id=ROUND_ID, state="aggregating"))
        elif word == "revoke":
            print_ = run.keys["west"].public.fingerprint
            run.log(RevokedEntry(round_id=ROUND_ID, node_id="west", fingerprint=print_))
        elif word == "enrol":
            key = run.keys["west"] = SigningKey.generate()
            pem = key.public.pem.decode()
            run.log(EnrolledEntry(node_id="west", signing_key=pem, fingerprint=key.public.fingerprint))
        elif word == "stray":
            write_atomic(run.root / "withdrawals/3.sigstore.json", b"{}")
        else:
            changes = {
                "other-round": {"round_id": "round-2"},
                "early": {"checkpoint": {**run.checkpoint(), "size": 3}},
            }.get(word, {})
            signers = {"by-other": run.keys["north"], "by-coordinator": run.coordinator}
            run.withdraw(
                "west",
                signer=signers.get(word, run.keys["west"]),
                digest=OTHER_DIGEST if word == "other-model" else "",
                **changes,
            )
            folder = run.root / "withdrawals"
            if word == "other-file":
                next(folder.iterdir()).write_bytes(b"{}")
            if word == "no-file":
                shutil.rmtree(folder)
    run.close()
    found = audit_run(run.finish())
    assert check in failed(found) if check else found.ok, found.findings
    if story == "withdraw":
        said = {finding.check: finding.message for finding in found.findings}
        assert "west has signed" in said["withdrawal west"]
        assert "as west has signed" in said["upload west"]


def test_a_round_that_has_a_result_neither_waits_nor_lets_a_model_be_taken_back(tmp_path: Path) -> None:
    run = opened(tmp_path / "run")
    for node in run.study.roster:
        run.send(node)
    run.log(StateEntry(round_id=ROUND_ID, state="aggregating"))
    run.aggregate("global")
    run.log(StateEntry(round_id=ROUND_ID, state="waiting"))
    run.withdraw("west", run.keys["west"])
    run.log(DeadlineEntry(round_id=ROUND_ID, deadline="2031-01-01T00:00:00Z"))
    run.log(StateEntry(round_id=ROUND_ID, state="open"))
    run.log(StateEntry(round_id=ROUND_ID, state="aggregating"))
    run.end()
    assert "ledger-entries" in failed(audit_run(run.finish()))


def test_a_round_is_not_published_without_a_model(tmp_path: Path) -> None:
    run = opened(tmp_path / "run")
    run.send("north")
    run.send("south")
    run.log(StateEntry(round_id=ROUND_ID, state="aggregating"))
    run.log(StateEntry(round_id=ROUND_ID, state="published"))
    assert "ledger-entries" in failed(audit_run(run.finish()))


def test_an_upload_cannot_be_withdrawn_once_the_round_is_closed(tmp_path: Path) -> None:
    run = opened(tmp_path / "run")
    for node in run.study.roster:
        run.send(node)
    run.log(StateEntry(round_id=ROUND_ID, state="aggregating"))
    sealed, _ = run.uploads.pop("west")
    run.log(WithdrawnEntry(round_id=ROUND_ID, node_id="west", sealed_sha256=sha256_hex(sealed)))
    run.close()
    assert "ledger-entries" in failed(audit_run(run.finish()))


def test_a_failed_round_publishes_nothing(tmp_path: Path) -> None:
    run = opened(tmp_path / "run")
    run.send("north")
    run.send("south")
    run.log(StateEntry(round_id=ROUND_ID, state="failed"))
    run.close()
    assert "ledger-entries" in failed(audit_run(run.finish()))


@pytest.mark.parametrize(
    ("story", "fits"),
    [
        (["waiting", "2031-01-01T00:00:00Z", "open"], True),
        (["2031-01-01T00:00:00Z", "2031-01-01T00:00:01Z"], True),
        (["waiting", "open"], False),
        (["2031-01-01T00:00:00Z", "waiting", "open"], False),
        (["waiting", "2029-01-01T00:00:00Z", "open"], False),
        (["2031-01-01T00:00:00Z", "2031-01-01T00:00:00Z"], False),
        (["waiting", "aggregating"], False),
        (["failed", "2031-01-01T00:00:00Z"], False),
    ],
)
def test_an_extended_deadline_has_its_place_in_the_story(
    tmp_path: Path, story: list[str], fits: bool
) -> None:
    text = opened(tmp_path / "a").study.raw.decode()
    assert "quorum = 2" in text
    text = text.replace("quorum = 2", "quorum = 2\ndeadline = 2030-01-01T00:00:00Z")
    run = opened(tmp_path / "run", Study.from_bytes(text.encode()))
    run.send("north")
    for step in story:
        said = DeadlineEntry if step[0] == "2" else StateEntry
        run.log(said(**{"round_id": ROUND_ID, "deadline" if step[0] == "2" else "state": step}))
    if fits:
        run.send("south")
        run.close()
    report = audit_run(run.finish())
    assert ("ledger-entries" not in failed(report)) == fits
    if fits:
        assert report.ok
        finding = next(f for f in report.findings if f.check == "ledger-entries")
        assert "deadline extended to 2031-01-01T00:00:0" in finding.message


@pytest.mark.parametrize("case", ["right", "counted", "early", "twice", "another", "late"])
def test_an_excluded_upload_is_named_and_not_in_the_result(tmp_path: Path, case: str) -> None:
    run = opened(tmp_path / "run")
    for node in run.study.roster:
        run.send(node)
    sealed = sha256_hex(run.uploads["west"][0])

    def exclude(digest: str = sealed) -> None:
        run.log(
            ExcludedEntry(
                round_id=ROUND_ID, node_id="west", sealed_sha256=digest, reason="model-not-combined"
            )
        )

    if case == "early":
        exclude()
    run.log(StateEntry(round_id=ROUND_ID, state="aggregating"))
    if case in ("right", "counted", "twice"):
        exclude()
    if case == "twice":
        exclude()
    if case == "another":
        exclude(OTHER_DIGEST)
    if case != "counted":
        del run.uploads["west"]
    run.aggregate("global")
    if case == "late":
        exclude()
    run.end()
    report = audit_run(run.finish())
    if case == "right":
        assert report.ok, report.findings
        said = {finding.check: finding.message for finding in report.findings}
        assert "EXCLUDED by ledger entry" in said["upload west"]
        assert "west (model-not-combined)" in said["ledger-entries"]
    else:
        assert {"counted": "global"}.get(case, "ledger-entries") in failed(report)


def test_a_round_does_not_wait_where_enough_have_sent(tmp_path: Path) -> None:
    run = opened(tmp_path / "run")
    run.send("north")
    run.send("south")
    run.log(StateEntry(round_id=ROUND_ID, state="waiting"))
    assert "ledger-entries" in failed(audit_run(run.finish()))


def test_who_was_refused_is_said(tmp_path: Path) -> None:
    run = opened(tmp_path / "run")
    run.send("north")
    run.send("south")
    digests = {"sealed_sha256": OTHER_DIGEST, "bundle_sha256": OTHER_DIGEST}
    run.log(RefusedEntry(round_id=ROUND_ID, node_id="west", reason="malformed", **digests))
    run.close()
    report = audit_run(run.finish())
    assert report.ok
    assert "refused uploads of west" in next(
        f.message for f in report.findings if f.check == "ledger-entries"
    )


def test_names_in_the_files_cannot_steer_a_terminal_or_forge_a_line(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run", ledger=NoteSigner.generate("log\x9b2J\u202eok"))
    run.open_round()
    run.send("north")
    run.send("south")
    run.close()
    report = audit_run(run.finish())
    assert report.ok
    assert all(finding.message.isprintable() for finding in report.findings)


def test_a_model_that_is_not_of_the_studys_form_fails_though_signed(tmp_path: Path) -> None:
    run = opened(tmp_path / "run")
    run.send("north")
    run.send("south")
    run.model = lambda role, value: b"not safetensors"  # type: ignore[method-assign]
    run.close()
    assert failed(audit_run(run.finish())) == {"global"}


def test_a_round_key_that_was_not_destroyed_as_promised_fails(run: RunDirectory, copy: Path) -> None:
    kept = [entry for entry in run.entries if b"key-destroyed" not in entry]
    assert failed(rewritten(run, copy, kept)) == {"round-key"}


def test_a_kept_round_key_passes_only_where_the_study_says_so(tmp_path: Path) -> None:
    text = (
        opened(tmp_path / "a")
        .study.raw.decode()
        .replace("[training]", "[transport]\nkeep_round_key = true\n[training]")
    )
    run = opened(tmp_path / "run", Study.from_bytes(text.encode()))
    run.send("north")
    run.send("south")
    run.always_destroy = True
    run.close()
    assert failed(audit_run(run.finish())) == {"round-key"}
