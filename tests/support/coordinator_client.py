"""A coordinator that really serves, in this process or its own, and a node small enough to misbehave at will."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc
import torch

import ready
from epgfn import rpc
from epgfn.base.canonical import canonical_json
from epgfn.base.errors import RefusedError, WaitingError
from epgfn.base.files import sha256_hex
from epgfn.learn.policy import initial_policy
from epgfn.sealing.binding import MODEL_PAYLOAD, Binding
from epgfn.sealing.bundle import sign_statement, verify_bundle
from epgfn.sealing.envelope import seal
from epgfn.sealing.keys import SigningKey, VerifyKey
from epgfn.sealing.model_file import FORMAT, write_model
from epgfn.sealing.pki import make_csr
from epgfn.sealing.predicates import WITHDRAWAL
from epgfn.sealing.statement import UPLOAD, RoundPredicate, make_statement, parse_statement, predicate_of
from epgfn.study import Study
from epgfn.study.objects import space_of
from epgfn.v1 import (
    artifact_pb2,
    artifact_pb2_grpc,
    enrollment_pb2,
    enrollment_pb2_grpc,
    ledger_pb2,
    ledger_pb2_grpc,
    result_pb2,
    result_pb2_grpc,
    study_pb2,
    study_pb2_grpc,
)
from epgfn_coordinator.home import Config, Home
from epgfn_coordinator.initialise import initialise
from epgfn_coordinator.invitation import invite
from epgfn_coordinator.journal import Journal
from epgfn_coordinator.main_loop import serve
from epgfn_coordinator.store import Store

STUDY = """
name = "tiny"
roster = {roster}
seed = 3
[space]
kind = "dag-by-sinks"
max_parents = 2
[policy]
kind = "order-potential"
hidden = {hidden}
[training]
steps = 2
batch = 8
[aggregation]
steps = {steps}
batch = 8
samples = 20
quorum = {quorum}
close_when = "{close_when}"
late = "{late}"
leave_one_out = {leave_one_out}
{deadline}
[transport]
suite = "{suite}"
max_upload_bytes = {limit}
keep_round_key = {keep}
[[variables]]
name = "x"
centre = 0.0
scale = 1.0
[[variables]]
name = "y"
centre = 0.0
scale = 1.0
[[variables]]
name = "z"
centre = 0.0
scale = 1.0
"""


def tiny_study(**changes: Any) -> Study:
    """Three variables, two nodes, two steps."""
    values = {
        "roster": '["a", "b"]',
        "late": "refuse",
        "leave_one_out": "false",
        "steps": 2,
        "quorum": 2,
        "close_when": "all",
        "deadline": "",
        "suite": "X25519",
        "hidden": 8,
        "limit": 1 << 20,
        "keep": "false",
    }
    return Study.from_bytes(STUDY.format(**{**values, **changes}).encode())


def make_home(path: Path, study: Study) -> Home:
    """An initialised coordinator on free ports of loopback."""
    home = Home(path)
    initialise(home, study, Config("127.0.0.1:0", "127.0.0.1:0"))
    return home


# What a node is told, in one of several words, when the coordinator dies under a call.
GONE = r"no coordinator answers|broke off|hangs up|stopped in the middle|failed \((unknown|cancelled)\)"
DYING = """
import importlib, os, signal, sys
module, _, path = sys.argv.pop(1).partition(":")
owner = importlib.import_module(module)
*outer, name = path.split(".")
for part in outer:
    owner = getattr(owner, part)
setattr(owner, name, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
from epgfn_coordinator.cli import main
main()
"""


class Events:
    """A reporter that keeps what it is told."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self._new = threading.Condition()

    def event(self, phase: str, message: str = "", **fields: Any) -> None:
        with self._new:
            self.seen.append({"phase": phase, "message": message, **fields})
            self._new.notify_all()

    def close(self) -> None:
        return

    def wait_for(self, *phases: str, timeout: float = 300.0, nth: int = 1) -> dict[str, Any]:
        """The first event, or the `nth`, of one of these phases, now or later."""

        def found() -> list[dict[str, Any]]:
            return [event for event in self.seen if event["phase"] in phases]

        with self._new:
            assert self._new.wait_for(lambda: len(found()) >= nth, timeout), self.seen
            return found()[nth - 1]


class InProcess:
    """`serve` in a thread of this process."""

    def __init__(self, home: Home) -> None:
        self.home, self.events, self.error = home, Events(), None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            serve(self.home, Journal(self.events, events=True), self._stop)
        except Exception as error:
            self.error: Exception | None = error
            self.events.event("ended", str(error))

    def __enter__(self) -> InProcess:
        self._thread.start()
        if self.events.wait_for("serving", "ended")["phase"] == "ended":
            self._thread.join()
            assert self.error is not None
            raise self.error
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


class OwnProcess:
    """`epgfn-coordinator serve` as a process that can be killed, or kills itself at a step named "module:attribute"."""

    def __init__(
        self,
        home: Home,
        die_before: str = "",
        program: str = "",
        options: Sequence[str] = (),
        **environment: str,
    ) -> None:
        """`program`: what runs instead of the command, with its arguments; `options` and `environment` are added."""
        self.home, self._die_before, self._program = home, die_before, program
        self._options, self._environment = options, environment

    def __enter__(self) -> OwnProcess:
        start = ["-c", DYING, self._die_before] if self._die_before else ["-m", "epgfn_coordinator"]
        made: Any = ready.Popen
        if self._program:  # which may be about what is not loaded yet
            start, made = ["-c", self._program], subprocess.Popen
        self.process = made(
            [sys.executable, *start, "serve", "--home", str(self.home.root), "--events", *self._options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", **self._environment},
        )
        self.serving = self.wait_for("serving")
        return self

    def wait_for_death(self) -> None:
        """Until it has killed itself."""
        _, said = self.process.communicate()
        assert self.process.returncode == -signal.SIGKILL, said

    def wait_for(self, *phases: str) -> dict[str, Any]:
        """The next event of one of these phases."""
        assert self.process.stdout is not None and self.process.stderr is not None
        for line in self.process.stdout:
            event: dict[str, Any] = json.loads(line)
            if event["phase"] in phases:
                return event
        raise AssertionError(self.process.stderr.read())

    def kill(self) -> None:
        """SIGKILL: no chance to tidy up."""
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.communicate()


@dataclass
class Upload:
    """A sealed model and its signed statement."""

    sealed: bytes
    bundle: bytes


@dataclass
class FakeNode:
    """A node made of stubs and keys."""

    node_id: str
    invitation: dict[str, str]
    tls: SigningKey = field(default_factory=SigningKey.generate)
    signing: SigningKey = field(default_factory=SigningKey.generate)
    certificate: bytes = b""
    round_id: str = ""

    @classmethod
    def invited(cls, home: Home, node_id: str) -> FakeNode:
        store = Store(home.state)
        try:
            node = cls(node_id, json.loads(invite(home, store, node_id)))
            node.round_id = node.invitation.get("round_id", "")
            return node
        finally:
            store.close()

    @classmethod
    def enrolled(cls, home: Home, node_id: str) -> FakeNode:
        node = cls.invited(home, node_id)
        node.enroll()
        return node

    def in_round(self, home: Home) -> FakeNode:
        """The same node in another round."""
        store = Store(home.state)
        try:
            return replace(self, round_id=store.text("round_id"))
        finally:
            store.close()

    def enroll(self, token: str | None = None) -> bytes:
        csr = make_csr(self.tls, self.node_id)
        request = enrollment_pb2.EnrollRequest(
            token=self.invitation["token"] if token is None else token,
            csr_pem=csr,
            signing_key_pem=self.signing.public.pem,
            signing_key_proof=self.signing.sign(rpc.ENROLLMENT_LABEL + csr),
        )
        address = self.invitation["enroll_address"]
        credentials = rpc.channel_credentials(self.invitation["ca_pem"].encode())
        with grpc.secure_channel(address, credentials) as channel:
            stub = enrollment_pb2_grpc.EnrollmentServiceStub(channel)
            answer = refused_as_error(lambda: stub.Enroll(request, timeout=60), address)
        self.certificate = answer.certificate_pem
        return self.certificate

    def _call(self, stub: Any, method: str, request: Any) -> Any:
        if hasattr(request, "DESCRIPTOR") and "round_id" in request.DESCRIPTOR.fields_by_name:
            request.round_id = self.round_id
        address = self.invitation["address"]
        credentials = rpc.channel_credentials(
            self.invitation["ca_pem"].encode(), self.tls.private_pem(), self.certificate
        )
        with grpc.secure_channel(address, credentials) as channel:
            return refused_as_error(lambda: getattr(stub(channel), method)(request, timeout=60), address)

    def study(self) -> Any:
        return self._call(study_pb2_grpc.StudyServiceStub, "GetStudy", study_pb2.GetStudyRequest())

    def rounds(self) -> list[Any]:
        answer = self._call(study_pb2_grpc.StudyServiceStub, "ListRounds", study_pb2.ListRoundsRequest())
        return list(answer.rounds)

    def round(self) -> Any:
        return self._call(study_pb2_grpc.StudyServiceStub, "GetRound", study_pb2.GetRoundRequest())

    def checkpoint(self, known_size: int = 0, newest_known: bytes = b"") -> Any:
        request = ledger_pb2.GetCheckpointRequest(known_size=known_size, newest_known=newest_known)
        return self._call(ledger_pb2_grpc.LedgerServiceStub, "GetCheckpoint", request)

    def begin(self, bundle: bytes) -> Any:
        return self._call(
            artifact_pb2_grpc.ArtifactServiceStub, "Begin", artifact_pb2.BeginRequest(bundle=bundle)
        )

    def status(self, upload_id: str) -> Any:
        request = artifact_pb2.StatusRequest(upload_id=upload_id)
        return self._call(artifact_pb2_grpc.ArtifactServiceStub, "Status", request)

    def upload(
        self, upload_id: str, data: bytes, offset: int = 0, *, size: int = 1000, crc_error: int = 0
    ) -> Any:
        pieces = self._pieces(upload_id, data, offset, size, crc_error)
        return self._call(artifact_pb2_grpc.ArtifactServiceStub, "Upload", pieces)

    def _pieces(self, upload_id: str, data: bytes, offset: int, size: int, crc_error: int) -> Iterator[Any]:
        for start in range(0, len(data), size):
            piece = data[start : start + size]
            yield artifact_pb2.UploadRequest(
                upload_id=upload_id,
                offset=offset + start,
                data=piece,
                crc32=zlib.crc32(piece) ^ crc_error,
                round_id=self.round_id,
            )

    def commit(self, upload_id: str) -> Any:
        request = artifact_pb2.CommitRequest(upload_id=upload_id)
        return self._call(artifact_pb2_grpc.ArtifactServiceStub, "Commit", request)

    def send(self, upload: Upload) -> Any:
        """The whole way; the receipt."""
        return self.committed(self.put(upload))

    def put(self, upload: Upload) -> str:
        """All but the last call; its upload's id."""
        begun = self.begin(upload.bundle)
        if begun.offset < len(upload.sealed):
            self.upload(begun.upload_id, upload.sealed[begun.offset :], begun.offset)
        return str(begun.upload_id)

    def committed(self, upload_id: str) -> Any:
        """The answer to Commit, however long the check takes."""
        while True:
            try:
                return self.commit(upload_id)
            except WaitingError as error:
                if error.reason != "checking":
                    raise

    def accepted(self) -> Any:
        request = artifact_pb2.GetAcceptedRequest()
        return self._call(artifact_pb2_grpc.ArtifactServiceStub, "GetAccepted", request)

    def withdraw(self, bundle: bytes) -> Any:
        request = artifact_pb2.WithdrawRequest(bundle=bundle)
        return self._call(artifact_pb2_grpc.ArtifactServiceStub, "Withdraw", request)

    def make_withdrawal(self, study: Study, sealed: bytes, **changes: Any) -> bytes:
        """What an honest node signs to take back what it sent, but for `changes` to its predicate."""
        origin, size, root = self.checkpoint().checkpoint.decode().split("\n")[:3]
        predicate = {
            "study_digest": study.digest,
            "round_id": self.manifest().round_id,
            "node_id": self.node_id,
            "sender_fingerprint": self.signing.public.fingerprint,
            "checkpoint": {"origin": origin, "size": int(size), "root": root},
            **changes,
        }
        statement = make_statement({"model.sealed": sha256_hex(sealed)}, WITHDRAWAL, predicate)
        return sign_statement(statement, self.signing)

    def result(self, aggregate: int = 0) -> Any:
        request = result_pb2.GetResultRequest(aggregate=aggregate)
        return self._call(result_pb2_grpc.ResultServiceStub, "GetResult", request)

    def download(self, offset: int = 0, aggregate: int = 0) -> bytes:
        request = result_pb2.DownloadRequest(offset=offset, aggregate=aggregate, round_id=self.round_id)
        address = self.invitation["address"]
        credentials = rpc.channel_credentials(
            self.invitation["ca_pem"].encode(), self.tls.private_pem(), self.certificate
        )
        with grpc.secure_channel(address, credentials) as channel:
            stub = result_pb2_grpc.ResultServiceStub(channel)
            return refused_as_error(
                lambda: b"".join(piece.data for piece in stub.Download(request, timeout=60)), address
            )

    def manifest(self) -> RoundPredicate:
        key = VerifyKey.from_pem(self.invitation["coordinator_key_pem"].encode())
        return predicate_of(parse_statement(verify_bundle(self.round().bundle, key)), RoundPredicate)

    def make_upload(
        self,
        study: Study,
        *,
        seed: int = 0,
        tensors: dict[str, torch.Tensor] | None = None,
        plaintext: bytes | None = None,
        **changes: Any,
    ) -> Upload:
        """An artifact as an honest node makes it, but for `changes` to its predicate."""
        manifest = self.manifest()
        if plaintext is None:
            metadata = {"format": FORMAT, "study_digest": study.digest, "role": "local"}
            plaintext = write_model(tensors or random_tensors(study, seed), metadata)
        fingerprint = self.signing.public.fingerprint
        payload_type = changes.get("payload_type", MODEL_PAYLOAD)
        binding = Binding(
            study.digest, manifest.round_id, self.node_id, fingerprint, manifest.round_key_id, payload_type
        )
        sealed = seal(plaintext, manifest.public_key, binding)
        origin, size, root = self.checkpoint().checkpoint.decode().split("\n")[:3]
        predicate = {
            "study_digest": study.digest,
            "round_id": manifest.round_id,
            "node_id": self.node_id,
            "sender_fingerprint": fingerprint,
            "round_key_id": manifest.round_key_id,
            "suite": manifest.suite,
            "payload_type": MODEL_PAYLOAD,
            "sealed_size": len(sealed),
            "model_size": len(plaintext),
            "privacy": {"mode": "none"},
            "software": {"epgfn": "0"},
            "checkpoint": {"origin": origin, "size": int(size), "root": root},
            **changes,
        }
        statement = make_statement({"model.sealed": sha256_hex(sealed)}, UPLOAD, predicate)
        return Upload(sealed, sign_statement(statement, self.signing))


def random_tensors(study: Study, seed: int = 0) -> dict[str, torch.Tensor]:
    """A policy of the study that nobody trained."""
    generator = torch.Generator().manual_seed(seed)
    space = space_of(study)
    shape = (space.n_variables, space.n_sets)
    return initial_policy(study, torch.randn(shape, generator=generator, dtype=torch.float64), generator)


def refused_as_error(call: Any, address: str) -> Any:
    """What `call` returns; a gRPC failure as the error a user would see."""
    try:
        return call()
    except grpc.RpcError as error:
        raise rpc.as_error(error, address) from None


def reason_of(call: Any) -> str:
    """The reason slug with which the coordinator refuses `call`."""
    try:
        call()
    except RefusedError as error:
        return error.reason
    raise AssertionError("it was not refused")


def ledger_kinds(home: Home) -> list[str]:
    """The kinds of all ledger entries, in order."""
    store = Store(home.state)
    try:
        return [json.loads(entry)["kind"] for entry in store.entries()]
    finally:
        store.close()


def root_of(nothing: str = "") -> str:
    """The root hash of some other ledger."""
    return base64.b64encode(bytes.fromhex(sha256_hex(canonical_json(nothing)))).decode()
