"""Promise: a coordinator that lies to a node gets no more than the node's operator has agreed to send, and is contradicted.

With its true keys, over real mTLS, it answers one call falsely at a time: another study, another key, sizes that are not, receipts of
others, results that were not agreed on, streams without end. After all of that the same home takes part as if nothing had been.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from coordinator_client import FakeNode, Upload
from epgfn.base.canonical import canonical_json, parse_canonical_json
from epgfn.base.files import sha256_hex
from epgfn.ledger.note import NoteSigner
from epgfn.rpc import abort
from epgfn.sealing.bundle import read_unverified
from epgfn.sealing.encoding import to_base64
from epgfn.sealing.keys import SigningKey
from epgfn.sealing.pki import CertificateAuthority, make_csr
from epgfn.study import Study
from epgfn.v1 import artifact_pb2, ledger_pb2, result_pb2
from epgfn_node import client, submit
from lying_coordinator import Liar, Lie
from parties import REFUSED, WAITING, Node

MIB = 1 << 20
BENT = "up\x1b[2J\u202e\nepgfn-node: all is well"


@pytest.fixture(scope="module")
def study(small_study: Study) -> Study:
    return small_study.with_changes(
        {"aggregation": {"close_when": "all"}, "transport": {"suite": "X25519"}, "roster": ["north", "south"]}
    )


@pytest.fixture(scope="module")
def liar(tmp_path_factory: pytest.TempPathFactory, study: Study) -> Iterator[Liar]:
    with Liar(tmp_path_factory.mktemp("liar"), study) as liar:
        yield liar


@pytest.fixture(scope="module")
def invitation(liar: Liar) -> str:
    return str(liar.invited("north"))


@pytest.fixture(scope="module")
def initialised(liar: Liar) -> Node:
    return liar.node("north")


@pytest.fixture(scope="module")
def north(
    liar: Liar, initialised: Node, invitation: str, study: Study, tmp_path_factory: pytest.TempPathFactory
) -> Node:
    """Enrolled after all that the tests before have done to its home, trained and approved."""
    records = tmp_path_factory.mktemp("records") / "records.csv"
    rows = [f"{i % 7 - 3},{i % 5 - 2},{i % 3 - 1}" for i in range(60)]
    records.write_text("a,b,c\n" + "\n".join(rows) + "\n")
    initialised.ok("enroll", "--invite", invitation)
    initialised.train(records, study).ok("approve")
    return initialised


@pytest.fixture(scope="module")
def south(liar: Liar, study: Study, north: Node) -> tuple[FakeNode, Upload, Any]:
    """Another node, what it has sent, and its receipt."""
    node = liar.fake("south")
    upload = node.make_upload(study)
    return node, upload, node.send(upload)


def replaced(message: Any, **fields: Any) -> Any:
    """The message with other `fields`."""
    new = type(message)()
    new.CopyFrom(message)
    for name, value in fields.items():
        new.ClearField(name)
        if isinstance(value, list):
            getattr(new, name).extend(value)
        else:
            setattr(new, name, value)
    return new


def lie(method: str, **fields: Callable[[Liar, Any], Any] | Any) -> dict[str, Callable[[Liar], Lie]]:
    """A lie in fields of one method's answer: a value, or a function of the liar and the true answer."""

    def of(liar: Liar) -> Lie:
        def told(_: Any, truth: Callable[[], Any], __: grpc.ServicerContext) -> Any:
            true = truth()
            return replaced(
                true,
                **{name: value(liar, true) if callable(value) else value for name, value in fields.items()},
            )

        return told

    return {method: of}


def forged(**changes: Any) -> Callable[[Liar, Any], bytes]:
    """The bundle of the true answer, signed again with changes."""
    return lambda liar, true: liar.signed(bytes(true.bundle), **changes)


def manifest_of(raw: bytes) -> Callable[[Liar, Any], bytes]:
    return forged(round_key=to_base64(raw), round_key_id=sha256_hex(b"X25519\0" + raw))


OTHER_STUDY = b'name = "other"\nroster = ["north"]\n[[variables]]\nname = "a"\ncentre = 0.0\nscale = 1.0\n'
STRANGER = NoteSigner.generate("stranger")
ENROLLING = {  # in this order: a home that has a certificate asks for none
    "another's certificate": (
        lie("Enroll", certificate_pem=lambda liar, _: _certificate(liar, SigningKey.generate(), "north")),
        "another TLS key",
    ),
    "its own certificate in another's name": (
        lie("Enroll", certificate_pem=lambda liar, _: _certificate(liar, _tls_key(liar), "south")),
        "another node",
    ),
    "an address that steers a terminal": (lie("Enroll", address=BENT), "not an address"),
    "no certificate": (lie("Enroll", certificate_pem=b"x" * MIB), ""),
    "another study": (lie("GetStudy", study=OTHER_STUDY), "another study than the invitation names"),
    "the study in another form": (
        lie("GetStudy", study=lambda _, true: bytes(true.study) + b"\n"),
        "another study than the invitation names",
    ),
    "a study that is signed as another": (
        lie("GetStudy", bundle=forged(name="another")),
        "calls the study by another name",
    ),
    "a study signed by another": (
        lie("GetStudy", bundle=lambda _, true: bytes(true.bundle).replace(b'"sig":"M', b'"sig":"N')),
        "",
    ),
    "a round of another study": (
        lie("GetRound", bundle=forged(study_digest="0" * 64)),
        "the round manifest names",
    ),
    "a round of another ledger": (
        lie("GetRound", bundle=forged(ledger_vkey=STRANGER.verifier.vkey)),
        "the round manifest names",
    ),
    "a key of small order": (
        lie("GetRound", bundle=manifest_of(bytes(32))),
        "does not fit its type",
    ),
    "a key that is not the one it is called": (
        lie("GetRound", bundle=forged(round_key=to_base64(bytes([9]) + bytes(31)))),
        "does not fit its type",
    ),
    "a key of another suite": (
        lie("GetRound", bundle=forged(suite="ML-KEM-768+X25519")),
        "does not fit its type",
    ),
    "a key that the study destroys is kept": (
        lie("GetRound", bundle=forged(keep_round_key=True)),
        "does not follow the study",
    ),
    "the study in place of the round": (
        lie("GetRound", bundle=lambda liar, _: (liar.home.root / "study.sigstore.json").read_bytes()),
        "is not of the expected kind",
    ),
    "no round": (lie("GetRound", bundle=b""), ""),
    "a bundle of a megabyte": (lie("GetRound", bundle=b"[" * MIB), ""),
    "the ledger of a stranger": (
        lie("GetCheckpoint", checkpoint=STRANGER.sign("stranger\n1\n" + to_base64(bytes(32)) + "\n")),
        "not signed by",
    ),
    "a checkpoint of a megabyte": (lie("GetCheckpoint", checkpoint=b"x" * MIB), "far too long"),
}


def _tls_key(liar: Liar) -> SigningKey:
    return SigningKey.load(liar.folder / "north/keys/tls.key")


def _certificate(liar: Liar, key: SigningKey, name: str) -> bytes:
    authority = CertificateAuthority.load(liar.home.root / "keys")
    return authority.issue_node(make_csr(key, name), name)


def told(liar: Liar, node: Node, lies: dict[str, Callable[[Liar], Lie]], *command: str) -> str:
    """The sentence with which a command ends under lies: one line of printable text, and nothing unforeseen."""
    with liar.telling(**{method: of(liar) for method, of in lies.items()}):
        said = node.fails(REFUSED, *command)
    assert said.isprintable() and len(said) < 1500, said
    assert "unexpected" not in said.lower(), said
    assert "all is well" not in said.partition(":")[0]
    return said


@pytest.mark.parametrize("what", ENROLLING)
def test_what_is_not_in_the_invitation_is_not_enrolled_for(
    liar: Liar, initialised: Node, invitation: str, what: str
) -> None:
    lies, why = ENROLLING[what]
    assert why in told(liar, initialised, lies, "enroll", "--invite", invitation)
    assert not (initialised.home / "accepted-study").exists()


def test_an_answer_that_swells_is_not_unpacked(liar: Liar, initialised: Node, invitation: str) -> None:
    """64 MiB of zeros are 64 KiB on the wire."""

    def bomb(_: Any, truth: Callable[[], Any], context: grpc.ServicerContext) -> Any:
        context.set_compression(grpc.Compression.Gzip)
        return replaced(truth(), bundle=bytes(64 * MIB))

    said = told(liar, initialised, {"GetRound": lambda _: bomb}, "enroll", "--invite", invitation)
    assert "resource_exhausted" in said


@pytest.mark.parametrize(
    "trailer", [b"\xff\xff\xff", b"\x08\x05\x12\x02no", b"\x08\x09\x1a\x04\x0a\x02\xff\xff"]
)
def test_a_refusal_that_contradicts_itself_is_an_error_like_any_other(
    liar: Liar, initialised: Node, invitation: str, trailer: bytes
) -> None:
    """Details that are no message, of another code than the call's, or with a part that is no message."""

    def refuse(_: Any, __: Any, context: grpc.ServicerContext) -> None:
        context.set_trailing_metadata((("grpc-status-details-bin", trailer),))
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, BENT)

    assert "failed_precondition" in told(
        liar, initialised, {"GetStudy": lambda _: refuse}, "enroll", "--invite", invitation
    )


def test_words_of_a_refusal_steer_no_terminal(liar: Liar, initialised: Node, invitation: str) -> None:
    def refuse(_: Any, __: Any, context: grpc.ServicerContext) -> None:
        abort(context, grpc.StatusCode.FAILED_PRECONDITION, BENT, BENT * 20)

    assert told(liar, initialised, {"GetStudy": lambda _: refuse}, "enroll", "--invite", invitation)


def size_of(node: Node) -> int:
    return (node.home / "outbox/model.sealed").stat().st_size


def sent(liar: Liar, method: str) -> int:
    return sum(size for name, size in liar.calls if name == method)


def test_a_ledger_of_another_history_gets_nothing(liar: Liar, north: Node, south: Any) -> None:
    fork = liar.fork([*liar.entries()[:3], *liar.entries()[4:], b'{"kind":"none"}', b'{"kind":"none"}'])

    def other(request: Any, _: Any, __: Any) -> Any:
        known = int(request.known_size)
        proof = fork.consistency_proof(known) if 0 < known < fork.checkpoint.size else []
        return ledger_pb2.GetCheckpointResponse(checkpoint=fork.note, consistency_proof=proof)

    kept = north.files()["last-checkpoint"]
    for answer in (
        other,
        lambda *_: ledger_pb2.GetCheckpointResponse(checkpoint=liar.fork(liar.entries()[:2]).note),
    ):
        said = told(liar, north, {"GetCheckpoint": lambda _, answer=answer: answer}, "submit")
        assert "HAS BEEN REWRITTEN" in said
        assert {name for name, _ in liar.calls} == {"GetCheckpoint"}
        assert north.files()["last-checkpoint"] == kept
    shutil.rmtree(north.home / "fork-evidence")


def test_a_receipt_of_a_second_history_is_a_fork_though_both_go_on(
    liar: Liar, north: Node, south: Any
) -> None:
    """One history for whoever asks with what it has seen, another for whoever asks with its receipt: each extends its own beginning."""
    package = json.loads(north.ok("inspect", "--json"))
    accepted = {
        "kind": "accepted",
        "round_id": south[0].manifest().round_id,
        "node_id": "north",
        "sealed_sha256": package["sealed_sha256"],
        "bundle_sha256": sha256_hex((north.home / "outbox/upload.sigstore.json").read_bytes()),
        "size": size_of(north),
    }
    entries = [*liar.entries()[:-1], canonical_json(accepted), *[b'{"kind":"none"}'] * 5]
    fork, at = liar.fork(entries), len(liar.entries()) - 1

    def checkpoint(request: Any, truth: Callable[[], Any], _: Any) -> Any:
        if request.known_size != fork.checkpoint.size:
            return truth()
        return ledger_pb2.GetCheckpointResponse(checkpoint=fork.note)

    def commit(_: Any, __: Any, ___: Any) -> Any:
        return artifact_pb2.CommitResponse(receipt=fork.receipt(at), entry=entries[at])

    lies: dict[str, Callable[[Liar], Lie]] = {
        "Begin": lambda _: lambda *_: artifact_pb2.BeginResponse(upload_id="a", accepted=True),
        "Commit": lambda _: commit,
        "GetCheckpoint": lambda _: checkpoint,
    }
    assert "HAS BEEN REWRITTEN" in told(liar, north, lies, "submit")
    assert not (north.home / "receipts").exists()
    evidence = [path.read_bytes() for path in (north.home / "fork-evidence").iterdir()]
    assert fork.note in evidence and north.files()["last-checkpoint"] not in evidence
    shutil.rmtree(north.home / "fork-evidence")


TAKEN = {"Begin": lambda _: lambda *_: artifact_pb2.BeginResponse(upload_id="a", accepted=True)}
"""Nothing is to arrive, or it would be accepted."""


def thrown_away(request: Iterator[Any], *_: Any) -> Any:
    for _piece in request:
        pass
    return artifact_pb2.UploadResponse(offset=0)


def committed(**fields: bytes) -> dict[str, Callable[[Liar], Lie]]:
    return {**TAKEN, "Commit": lambda _: lambda *_: artifact_pb2.CommitResponse(**fields)}


UPLOADING: dict[str, tuple[dict[str, Callable[[Liar], Lie]], str]] = {
    "more kept than there is": (lie("Begin", offset=1 << 40), "does not keep what it is sent"),
    "nothing ever kept": ({"Upload": lambda _: thrown_away}, "does not keep what it is sent"),
    "an upload with a name of megabytes": (lie("Begin", upload_id="x" * 3 * MIB), "far too long"),
    "taken and unknown": (TAKEN, "there is no such upload"),
    "no receipt": (committed(), "holds no checkpoint"),
    "a receipt of a megabyte": (committed(receipt=b"x" * MIB), "far too long"),
    "another's receipt": (
        {**TAKEN, "Commit": lambda liar: lambda *_: liar.others},
        "the receipt is for another artifact than the one that was sent",
    ),
}


@pytest.mark.parametrize("what", UPLOADING)
def test_an_upload_that_is_lied_to_leaves_no_receipt_and_sends_no_more_than_the_model(
    liar: Liar, north: Node, south: tuple[FakeNode, Upload, Any], what: str
) -> None:
    liar.others = artifact_pb2.CommitResponse(receipt=south[2].receipt, entry=south[2].entry)
    lies, why = UPLOADING[what]
    assert why in told(liar, north, lies, "submit")
    assert not (north.home / "receipts").exists()
    assert sum(size for name, size in liar.calls if name == "Upload") <= 2 * size_of(north)


def answered_for_ever(_: Any, __: Any, context: grpc.ServicerContext) -> None:
    abort(context, grpc.StatusCode.FAILED_PRECONDITION, "checking", "still at it")


def test_one_that_checks_for_ever_is_asked_for_a_while_and_again_another_day(
    liar: Liar, north: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submit, "MOST_CHECKING", 0.2)
    monkeypatch.setattr(submit, "ASK_AGAIN", 0.05)
    with liar.telling(Begin=TAKEN["Begin"](liar), Commit=answered_for_ever):
        said = north.fails(WAITING, "submit")
    assert "that it is checking it; nothing is lost: run submit again later" in said
    assert 2 <= sum(name == "Commit" for name, _ in liar.calls) <= 6
    assert not (north.home / "receipts").exists() and (north.home / "outbox/sending").exists()


def test_one_that_keeps_a_byte_at_a_time_is_left(liar: Liar, north: Node) -> None:
    kept = [0]

    def a_byte(request: Iterator[Any], *_: Any) -> Any:
        for _piece in request:
            pass
        kept[0] += 1
        return artifact_pb2.UploadResponse(offset=kept[0])

    begun = lambda *_: artifact_pb2.BeginResponse(upload_id="a", offset=kept[0])  # noqa: E731
    with liar.telling(Begin=begun, Upload=a_byte):
        assert "does not keep what it is sent" in north.fails(REFUSED, "submit")
    assert sum(name == "Upload" for name, _ in liar.calls) <= 2


@pytest.fixture(scope="module")
def published(liar: Liar, north: Node, south: Any) -> Node:
    """The same home, told the truth: what it sends is accepted."""
    north.ok("submit")
    liar.events.wait_for("published")
    return north


def pieces(*given: tuple[int, bytes]) -> dict[str, Callable[[Liar], Lie]]:
    """A download of these."""
    made = (result_pb2.DownloadResponse(offset=offset, data=data) for offset, data in given)
    return {"Download": lambda _: lambda *_: made}


def without_end(data: bytes) -> dict[str, Callable[[Liar], Lie]]:
    """A download that goes on for as long as anyone listens."""

    def told(*_: Any) -> Iterator[Any]:
        offset = 0
        while True:
            yield result_pb2.DownloadResponse(offset=offset, data=data)
            offset += len(data)

    return {"Download": lambda _: told}


def test_a_result_that_comes_a_byte_at_a_time_is_given_up_and_fetched_another_day(
    liar: Liar, published: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each byte comes well before a stream that stands still is given up."""
    monkeypatch.setattr(client, "STALL", 0.5)
    told_bytes = []

    def drip(request: Any, truth: Callable[[], Any], context: grpc.ServicerContext) -> Iterator[Any]:
        model = b"".join(bytes(piece.data) for piece in truth())
        for at in range(len(model)):
            if not context.is_active():
                return
            time.sleep(0.1)
            told_bytes.append(at)
            yield result_pb2.DownloadResponse(offset=request.offset + at, data=model[at : at + 1])

    said = told(liar, published, {"Download": lambda _: drip}, "fetch")
    assert "in the middle of a transfer; run again to go on from there" in said
    assert told_bytes and len(told_bytes) < 100
    for part in published.home.rglob("*.part"):
        part.unlink()  # where a true one would go on


def aggregated(change: Callable[[list[dict[str, str]]], list[dict[str, str]]], **more: Any) -> Any:
    def made(liar: Liar, true: Any) -> bytes:
        said = parse_canonical_json(read_unverified(bytes(true.bundle))[0])["predicate"]
        return liar.signed(bytes(true.bundle), aggregated=change(said["aggregated"]), **more)

    return made


RESULTS: dict[str, tuple[dict[str, Callable[[Liar], Lie]], str]] = {
    "left out": (
        lie("GetResult", bundle=aggregated(lambda all: all[1:], absent=["north"])),
        "left it out of the global one; your receipt proves it",
    ),
    "swapped": (
        lie("GetResult", bundle=aggregated(lambda all: [{**all[0], "sealed_sha256": "0" * 64}, all[1]])),
        "names another artifact in this node's place",
    ),
    "named twice": (
        lie("GetResult", bundle=aggregated(lambda all: [{**all[0], "sealed_sha256": "0" * 64}, *all])),
        "does not fit its type",
    ),
    "a stranger more": (
        lie("GetResult", bundle=aggregated(lambda all: [*all, {**all[0], "node_id": "west"}])),
        "does not account for every node",
    ),
    "another seed": (lie("GetResult", bundle=forged(seed=4)), "another seed than the study's"),
    "another round": (lie("GetResult", bundle=forged(round_id="round-0")), "of another study or round"),
    "another study": (lie("GetResult", bundle=forged(study_digest="0" * 64)), "of another study or round"),
    "signed after it was entered": (
        lie("GetResult", bundle=forged(software={"epgfn": "9"})),
        "the ledger records another global model",
    ),
    "an upload's entry": (
        lie(
            "GetResult", entry=lambda liar, _: liar.others.entry, receipt=lambda liar, _: liar.others.receipt
        ),
        "the ledger records another global model",
    ),
    "a receipt for another entry": (lie("GetResult", receipt=lambda liar, _: liar.others.receipt), "proof"),
    "an exclusion that is none": (
        lie(
            "GetResult",
            exclusion=lambda liar, _: liar.others.entry,
            exclusion_receipt=lambda liar, _: liar.others.receipt,
        ),
        "does not exclude what this node sent",
    ),
    "a terabyte": (lie("GetResult", model_size=1 << 40), "larger than the study's policy can be"),
    "nothing": (lie("GetResult", model_size=0), "not the one the coordinator has signed"),
    "out of order": (pieces((7, b"x")), "out of order"),
    "a piece of megabytes": (pieces((0, b"x" * 3 * MIB)), "out of order"),
    "nothing without end": (without_end(b""), "out of order"),
    "bytes without end": (without_end(b"x" * 1000), "out of order"),
    "cut off": (pieces((0, b"x")), "not the one the coordinator has signed"),
}


@pytest.mark.parametrize("what", RESULTS)
def test_a_result_that_was_not_agreed_on_is_not_kept(liar: Liar, published: Node, what: str) -> None:
    lies, why = RESULTS[what]
    assert why in told(liar, published, lies, "fetch")
    assert not (published.home / "global/model.safetensors").exists()
    kept = [path.stat().st_size for path in published.home.rglob("*.part")]
    assert sum(kept) < MIB


def test_after_all_that_the_truth_is_taken(liar: Liar, published: Node) -> None:
    published.ok("fetch")
    assert (published.home / "global/model.safetensors").exists()
    assert not list(published.home.rglob("*.part"))


def listing(change: Callable[[list[Any]], list[Any]]) -> dict[str, Callable[[Liar], Lie]]:
    """Another list of the files of the run."""
    return lie("ListFiles", files=lambda _, true: change(list(true.files)))


def more(name: str, size: int = 1) -> dict[str, Callable[[Liar], Lie]]:
    return listing(lambda files: [*files, result_pb2.RunFile(name=name, size=size, sha256=bytes(32))])


def without(name: str) -> dict[str, Callable[[Liar], Lie]]:
    return listing(lambda files: [each for each in files if each.name != name])


def other(name: str, raw: bytes) -> dict[str, Callable[[Liar], Lie]]:
    """The file `name` as other bytes, which are listed as they are sent."""

    def sent(request: Any, truth: Callable[[], Any], _: grpc.ServicerContext) -> Iterator[Any]:
        for piece in truth():
            changed = request.names[piece.file] == name
            yield replaced(piece, data=raw) if changed else piece

    listed = lie(
        "ListFiles",
        files=lambda _, true: [
            replaced(each, size=len(raw), sha256=bytes.fromhex(sha256_hex(raw)))
            if each.name == name
            else each
            for each in true.files
        ],
    )
    return {**listed, "DownloadFiles": lambda _: sent}


def sent_files(*given: tuple[int, int, bytes]) -> dict[str, Callable[[Liar], Lie]]:
    made = [result_pb2.DownloadFilesResponse(file=file, offset=at, data=data) for file, at, data in given]
    return {"DownloadFiles": lambda _: lambda *_: iter(made)}


def files_without_end(*_: Any) -> Iterator[Any]:
    offset = 0
    while True:
        yield result_pb2.DownloadFilesResponse(file=0, offset=offset, data=b"x" * 1000)
        offset += 1000


NOT_OURS = "is not a file of this run that a node gets, or too large"
FILES: dict[str, tuple[dict[str, Callable[[Liar], Lie]], str]] = {
    "a file outside": (more("../../evil"), NOT_OURS),
    "an absolute path": (more("/tmp/evil"), NOT_OURS),
    "a path through a folder": (more("global/../../evil"), NOT_OURS),
    "a private key": (more("keys/signing.key"), NOT_OURS),
    "what another node sent": (more("uploads/south/model.sealed"), NOT_OURS),
    "a page": (more("global/report.html"), NOT_OURS),
    "a ledger outside": (more("ledger/tile/../../evil"), "is no file of a ledger"),
    "a terabyte": (
        listing(lambda files: [replaced(f, size=1 << 40) if f.name == "global/summary.json" else f for f in files]),
        NOT_OURS,
    ),
    "a ledger without end": (
        listing(lambda files: [replaced(f, size=1 << 40) if f.name.startswith("ledger/tile") else f for f in files]),
        "is no file of a ledger, or larger",
    ),
    "a file twice": (listing(lambda files: [*files, files[-1]]), "names a file twice"),
    "nothing": (listing(lambda _: []), "its ledger does not verify"),
    "no receipt of another": (without("uploads/south/receipt.tlog-proof"), "upload south"),
    "no statement on the model": (without("global/model.sigstore.json"), "another one than the node has verified"),
    "no samples": (without("global/samples.parquet"), "global/samples.parquet"),
    "another summary": (other("global/summary.json", b"{}"), "global/summary.json is not the file that the coordinator signed"),
    "another statement": (other("uploads/south/upload.sigstore.json", b"{}"), "is not the statement that the ledger accepted"),
    "another checkpoint": (other("ledger/checkpoint", b"\n\n"), "its ledger does not verify"),
    "out of order": (sent_files((1, 0, b"x")), "out of order"),
    "from the middle": (sent_files((0, 7, b"x")), "out of order"),
    "a piece of megabytes": (sent_files((0, 0, b"x" * 3 * MIB)), "out of order"),
    "empty pieces": (sent_files((0, 0, b"")), "out of order"),
    "bytes without end": ({"DownloadFiles": lambda _: files_without_end}, "out of order"),
    "no bytes": (sent_files(), "does not send"),
}  # fmt: skip


@pytest.mark.parametrize("what", FILES)
def test_a_run_that_is_not_this_one_is_not_kept(liar: Liar, published: Node, what: str) -> None:
    """Whatever it lists and sends: the home is as it was, and nothing lies outside of it."""
    lies, why = FILES[what]
    shutil.rmtree(published.home / ".results", ignore_errors=True)
    before, around = published.files(), sorted(published.home.parent.iterdir())
    assert why in told(liar, published, lies, "fetch")
    after = {
        name: raw for name, raw in published.files().items() if not name.startswith(".results/building/")
    }
    assert after.keys() == before.keys() and sorted(published.home.parent.iterdir()) == around
    assert sum(len(raw) for name, raw in published.files().items() if name not in after) < MIB


def test_a_coordinator_of_before_gives_the_model_alone_and_that_is_said(liar: Liar, published: Node) -> None:
    def unknown(_: Any, __: Callable[[], Any], context: grpc.ServicerContext) -> Any:
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")

    shutil.rmtree(published.home / ".results", ignore_errors=True)
    with liar.telling(ListFiles=unknown):
        assert "hands out the global model alone" in published.ok("fetch")
    assert not (published.home / "result").exists()
    assert "the whole result is in" in published.ok("fetch")
