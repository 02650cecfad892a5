"""Who takes part in `epgfn bench transport`: the real coordinator as a process, nodes that only enrol and send, and a bare server."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc

from epgfn import rpc
from epgfn.base.addresses import parse_address
from epgfn.base.errors import EpgfnError, RefusedError
from epgfn.base.files import sha256_hex, write_atomic
from epgfn.sealing.binding import MODEL_PAYLOAD, Binding
from epgfn.sealing.bundle import sign_statement, verify_bundle
from epgfn.sealing.envelope import seal, sealed_size
from epgfn.sealing.keys import SigningKey, VerifyKey
from epgfn.sealing.pki import make_csr
from epgfn.sealing.statement import UPLOAD, RoundPredicate, make_statement, parse_statement, predicate_of
from epgfn.study import Study
from epgfn.v1 import (
    artifact_pb2,
    artifact_pb2_grpc,
    enrollment_pb2,
    enrollment_pb2_grpc,
    ledger_pb2,
    ledger_pb2_grpc,
    study_pb2,
    study_pb2_grpc,
)

DEADLINE: Final = 600.0  # seconds for one call
START_WITHIN: Final = 120.0
_INVITE: Final = """
import json, sys
from pathlib import Path
from epgfn_coordinator.home import Home
from epgfn_coordinator.invitation import invite
from epgfn_coordinator.store import Store
home = Home(Path(sys.argv[1]))
store = Store(home.state)
print(json.dumps([json.loads(invite(home, store, node)) for node in sys.argv[2:]]))
"""
"""One process for all: a thousand times `epgfn-coordinator token` would only measure how long Python takes to start."""
_AT_ONCE: Final = 200  # names on one command line


class CoordinatorProcess:
    """`epgfn-coordinator serve` on ports of loopback that stay the same over restarts. Use as a context manager."""

    def __init__(self, folder: Path, study: Study) -> None:
        """Make its home in `folder`, which has to be there.

        Raises:
            EpgfnError: it cannot be made.
        """
        self.home, self._log = folder / "home", folder / "log"
        write_atomic(folder / "study.toml", study.raw)
        listening = ["--address", "127.0.0.1:0", "--enroll-address", "127.0.0.1:0"]
        _done(
            "epgfn_coordinator",
            "init",
            "--study",
            str(folder / "study.toml"),
            "--home",
            str(self.home),
            *listening,
        )

    def __enter__(self) -> CoordinatorProcess:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def start(self) -> None:
        """Until it says that it serves.

        Raises:
            EpgfnError: it does not.
        """
        said = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "epgfn_coordinator", "serve", "--home", str(self.home)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_environment(),
            )
        until = time.monotonic() + START_WITHIN
        while b"serving: " not in self._log.read_bytes()[said:]:
            if self.process.poll() is not None or time.monotonic() > until:
                raise EpgfnError(
                    "the coordinator of the benchmark does not start; run epgfn demo to see whether it does there"
                )
            time.sleep(0.01)

    def kill(self) -> None:
        """SIGKILL, and nothing more of it is there."""
        self.process.kill()
        self.process.wait()

    def invite(self, nodes: list[str]) -> list[Node]:
        """A node for each name, not yet enrolled."""
        found: list[Node] = []
        for first in range(0, len(nodes), _AT_ONCE):
            done = subprocess.run(
                [sys.executable, "-c", _INVITE, str(self.home), *nodes[first : first + _AT_ONCE]],
                capture_output=True,
                check=False,
                env=_environment(),
            )
            if done.returncode:
                raise EpgfnError("the coordinator of the benchmark makes no invitations")
            found += [Node(invitation["node_id"], invitation) for invitation in json.loads(done.stdout)]
        return found


def resident(pid: int, what: str = "VmRSS") -> float | None:
    """MiB of a process in memory, or at most so far ("VmHWM"); None where the system does not say."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(f"{what}:"):
                return int(line.split()[1]) / 1024
    return None


def cpu_seconds(pid: int) -> float | None:
    """What a process has computed so far; None where the system does not say."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return None


@dataclass
class Node:
    """A node that has keys and an invitation, and neither records nor a model of its own."""

    node_id: str
    invitation: dict[str, str]
    tls: SigningKey = field(default_factory=SigningKey.generate)
    signing: SigningKey = field(default_factory=SigningKey.generate)
    certificate: bytes = b""

    def enroll(self) -> None:
        """Spend the invitation."""
        csr = make_csr(self.tls, self.node_id)
        request = enrollment_pb2.EnrollRequest(
            token=self.invitation["token"],
            csr_pem=csr,
            signing_key_pem=self.signing.public.pem,
            signing_key_proof=self.signing.sign(rpc.ENROLLMENT_LABEL + csr),
        )
        address = parse_address(self.invitation["enroll_address"])
        credentials = rpc.channel_credentials(self.invitation["ca_pem"].encode())
        with rpc.open_channel(address, credentials, direct=True) as channel:
            stub = _stub(enrollment_pb2_grpc.EnrollmentServiceStub, channel)
            self.certificate = bytes(stub.Enroll(request, timeout=DEADLINE).certificate_pem)

    def channel(self, address: str = "") -> grpc.Channel:
        """A connection of its own to the coordinator, or to whoever listens at `address` with the same certificates."""
        credentials = rpc.channel_credentials(
            self.invitation["ca_pem"].encode(), self.tls.private_pem(), self.certificate
        )
        where = parse_address(address or self.invitation["address"])
        own = [("grpc.use_local_subchannel_pool", 1)]
        return rpc.open_channel(where, credentials, own, direct=True)

    def manifest(self, channel: grpc.Channel) -> RoundPredicate:
        """What the round is."""
        bundle = (
            _stub(study_pb2_grpc.StudyServiceStub, channel)
            .GetRound(study_pb2.GetRoundRequest(), timeout=DEADLINE)
            .bundle
        )
        key = VerifyKey.from_pem(self.invitation["coordinator_key_pem"].encode())
        return predicate_of(parse_statement(verify_bundle(bundle, key)), RoundPredicate)

    def sealed(self, study: Study, manifest: RoundPredicate, plaintext: bytes) -> bytes:
        """A model as this node sends it."""
        binding = Binding(
            study.digest,
            manifest.round_id,
            self.node_id,
            self.signing.public.fingerprint,
            manifest.round_key_id,
            MODEL_PAYLOAD,
        )
        return seal(plaintext, manifest.public_key, binding)

    def statement(
        self, channel: grpc.Channel, study: Study, manifest: RoundPredicate, digest: str, model_size: int
    ) -> bytes:
        """What this node signs about sealed bytes of SHA-256 `digest`."""
        checkpoint = (
            _stub(ledger_pb2_grpc.LedgerServiceStub, channel)
            .GetCheckpoint(ledger_pb2.GetCheckpointRequest(known_size=0), timeout=DEADLINE)
            .checkpoint
        )
        origin, size, root = checkpoint.decode().split("\n")[:3]
        predicate = {
            "study_digest": study.digest,
            "round_id": manifest.round_id,
            "node_id": self.node_id,
            "sender_fingerprint": self.signing.public.fingerprint,
            "round_key_id": manifest.round_key_id,
            "suite": manifest.suite,
            "payload_type": MODEL_PAYLOAD,
            "sealed_size": sealed_size(manifest.suite, model_size),
            "model_size": model_size,
            "privacy": {"mode": "none"},
            "software": {"epgfn": "bench"},
            "checkpoint": {"origin": origin, "size": int(size), "root": root},
        }
        return sign_statement(make_statement({"model.sealed": digest}, UPLOAD, predicate), self.signing)

    def submit(self, study: Study, plaintext: bytes) -> tuple[str, bytes]:
        """The whole way of a model, over one connection; the name of the upload and the receipt."""
        with self.channel() as channel:
            manifest = self.manifest(channel)
            sealed = self.sealed(study, manifest, plaintext)
            bundle = self.statement(channel, study, manifest, sha256_hex(sealed), len(plaintext))
            upload_id = begin(channel, bundle)
            if upload(channel, upload_id, sealed, len(sealed)) != len(sealed):
                raise EpgfnError("the coordinator keeps another number of bytes than it was sent")
            return upload_id, commit(channel, upload_id)

    def receipt(self, upload_id: str) -> bytes:
        """The receipt of an accepted upload, again."""
        with self.channel() as channel:
            return commit(channel, upload_id)


def begin(channel: grpc.Channel, bundle: bytes) -> str:
    """The name of an upload."""
    request = artifact_pb2.BeginRequest(bundle=bundle)
    return str(_artifact(channel).Begin(request, timeout=DEADLINE).upload_id)


def pieces(block: bytes, size: int) -> Iterator[bytes]:
    """`size` bytes in pieces as nodes send them: `block`, again and again."""
    view = memoryview(block)
    while size > 0:
        for start in range(0, min(size, len(block)), rpc.PIECE):
            yield bytes(view[start : min(start + rpc.PIECE, len(block), start + size)])
            size -= min(rpc.PIECE, len(block) - start, size)


def upload(channel: grpc.Channel, upload_id: str, block: bytes, size: int) -> int:
    """Stream `pieces`; the bytes that are said to be kept."""

    def requests() -> Iterator[Any]:
        offset = 0
        for piece in pieces(block, size):
            yield artifact_pb2.UploadRequest(
                upload_id=upload_id, offset=offset, data=piece, crc32=zlib.crc32(piece)
            )
            offset += len(piece)

    return int(_artifact(channel).Upload(requests(), timeout=DEADLINE).offset)


def commit(channel: grpc.Channel, upload_id: str) -> bytes:
    """The receipt, however long the coordinator checks.

    Raises:
        RefusedError: it refuses.
    """
    request = artifact_pb2.CommitRequest(upload_id=upload_id)
    while True:
        try:
            return bytes(_artifact(channel).Commit(request, timeout=DEADLINE).receipt)
        except grpc.RpcError as error:
            failure = rpc.as_error(error, "coordinator of the benchmark")
            if not isinstance(failure, RefusedError) or failure.reason != "checking":
                raise failure from None


class BareServer:
    """`transport_bare.py` as a process, with the coordinator's certificates. Use as a context manager."""

    def __init__(self, coordinator: CoordinatorProcess) -> None:
        keys = coordinator.home / "keys"
        self._command = [sys.executable, "-m", "epgfn.bench.transport_bare"]
        self._command += [str(keys / name) for name in ("tls.key", "tls.pem", "ca.pem")]

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> BareServer:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=_environment()
        )
        assert self._process.stdout is not None
        self.address = self._process.stdout.readline().strip()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()


def _artifact(channel: grpc.Channel) -> Any:
    return _stub(artifact_pb2_grpc.ArtifactServiceStub, channel)


def _stub(kind: Any, channel: grpc.Channel) -> Any:
    """A generated stub; generated code has no types."""
    return kind(channel)


def _environment() -> dict[str, str]:
    """No passphrase: the keys are of no use to anybody, and the bare server reads one."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("EPGFN_KEY_PASSPHRASE")}
    return {**kept, "OMP_NUM_THREADS": "1"}


def _done(*command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True, check=False, env=_environment()
    )
    if done.returncode:
        raise EpgfnError((done.stderr.strip().splitlines() or ["no message"])[-1])
