"""Every reader of what parties, operators and strangers hand over: what it is given here, and true examples. One line each.

Tests alter the examples at random and read the kept corpus, tests/attacks/corpus/<name>/; `make fuzz` looks for what no example leads to.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from epgfn.base.archive import Member, read_archive, write_archive
from epgfn.base.canonical import canonical_json, parse_canonical_json
from epgfn.base.errors import EpgfnError
from epgfn.ledger.checkpoint import Checkpoint
from epgfn.ledger.cosignature import Cosigner, CosignerKey
from epgfn.ledger.entries import parse
from epgfn.ledger.note import NoteVerifier, split_note, verify
from epgfn.ledger.policy import parse_policy
from epgfn.ledger.proof import verify_proof
from epgfn.ledger.tiles import parse_bundle
from epgfn.privacy.of_study.agreement import require_claim
from epgfn.run.comparison.file import read_comparison
from epgfn.run.cosigning import make_cosignature, parse_cosignature
from epgfn.run.inspection import inspect_file
from epgfn.run.samples import counted
from epgfn.sealing.binding import MODEL_PAYLOAD, Binding
from epgfn.sealing.bundle import read_unverified, verify_bundle
from epgfn.sealing.envelope import open_sealed
from epgfn.sealing.keys import SigningKey, VerifyKey
from epgfn.sealing.letter import read_letter, write_letter
from epgfn.sealing.model_file import read_model
from epgfn.sealing.pki import CertificateAuthority, make_csr, node_id_from_cert
from epgfn.sealing.rotation import read_rotation, sign_rotation
from epgfn.sealing.round_key import RoundPrivateKey
from epgfn.sealing.statement import parse_statement
from epgfn.study import Study
from epgfn.study.check import check_study
from epgfn.study.knowledge_files import read_edges
from epgfn.study.records.tables import load_records
from epgfn_node.settings import NodeSettings
from epgfn_node.trust import Invitation
from made_claims import honest
from run_directory import ROUND_ID, RunDirectory
from small import PRIVATE_STUDY

BACKUP: Final = "epgfn-coordinator-backup/v1"
CORPUS: Final = Path(__file__).parents[1] / "attacks/corpus"


@dataclass(frozen=True)
class Parser:
    """One reader. `allowed`: what it may raise besides the project's own errors, because its callers expect that."""

    read: Callable[[bytes], Any]
    examples: list[bytes]
    allowed: tuple[type[Exception], ...] = ()

    def holds(self, raw: bytes) -> None:
        """Whatever it is given, it takes or refuses it in a sentence."""
        try:
            self.read(raw)
        except (EpgfnError, *self.allowed) as error:
            assert str(error)


STUDY: Final = b"""name = "x"
roster = ["n"]
[space]
kind = "dag-by-sinks"
[aggregation]
deadline = 2030-01-01T00:00:00Z
[privacy]
mode = "none"
[[variables]]
name = "a"
categories = ["x", "y"]
[[variables]]
name = "b"
centre = 1e3
scale = 0.5
transform = "log"
"""


@cache
def _file() -> Path:
    """One file of this process, for readers of files."""
    handle, name = tempfile.mkstemp(prefix="epgfn-parsers-")
    os.close(handle)
    return Path(name)


def _at(read: Callable[[Path], Any]) -> Callable[[bytes], Any]:
    def of(raw: bytes) -> Any:
        _file().write_bytes(raw)
        return read(_file())

    return of


def _text(read: Callable[[str], Any]) -> Callable[[bytes], Any]:
    return lambda raw: read(raw.decode("utf-8", "replace"))


def _claimed(raw: bytes) -> None:
    stated = parse_canonical_json(raw)
    require_claim(Study.from_bytes(PRIVATE_STUDY.encode()), stated if isinstance(stated, dict) else {})


def _restored(path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="epgfn-parsers-") as into:
        read_archive(path, BACKUP, Path(into))


def _backup() -> bytes:
    with tempfile.TemporaryDirectory(prefix="epgfn-parsers-") as folder:
        path = Path(folder) / "backup"
        members = [
            Member("coordinator.toml", b"address = 1"),
            Member("keys/a.pem", b"key"),
            Member("state.sqlite", bytes(600)),
        ]
        write_archive(path, BACKUP, members, {"made": "now"})
        return path.read_bytes()


def _inspected(path: Path) -> None:
    assert all(line.isprintable() for line in inspect_file(path).lines)


def parsers(run: RunDirectory) -> dict[str, Parser]:
    """All of them, with examples out of a true run."""
    root, verifier = run.root, run.ledger.verifier
    bundles = [
        (root / name).read_bytes()
        for name in ("study.sigstore.json", "round.sigstore.json", "global/model.sigstore.json", "uploads/north/upload.sigstore.json")
    ]  # fmt: skip
    statements = [read_unverified(bundle)[0] for bundle in bundles]
    key, authority = SigningKey.generate(), CertificateAuthority.create("test")
    request = make_csr(key, "north")
    witness = CosignerKey("witness", bytes(32)).public.vkey.encode()
    log = verifier.vkey.encode()
    round_key = RoundPrivateKey.generate("X25519")
    binding = Binding(
        run.study.digest, ROUND_ID, "north", key.public.fingerprint, round_key.key_id, MODEL_PAYLOAD
    )
    sealed = (root / "uploads/north/model.sealed").read_bytes()
    write_letter(_file(), bundles[3], {"message": b"{}", "model.sealed": sealed[:64]})
    letter = _file().read_bytes()
    invitation = (
        b'{"format":"epgfn-invitation/v1","node_id":"north","token":"t","enroll_address":"h:1","address":"","ca_pem":"a",'
        b'"coordinator_key_pem":"b","ledger_vkey":"c","study_digest":"%s","round_id":""}' % (b"0" * 64)
    )
    samples = (root / "global/samples.parquet").read_bytes()
    double = SigningKey.generate(double=True)
    rotations = [
        sign_rotation("node/north", old, double, "2030-01-31T12:00:00Z", "x")
        for old in (key, SigningKey.generate(double=True))
    ]
    return {
        "study": Parser(Study.from_bytes, [run.study.raw, STUDY]),
        "study-check": Parser(check_study, [run.study.raw, STUDY]),
        "json": Parser(parse_canonical_json, [*statements, *run.entries]),
        "statement": Parser(parse_statement, statements),
        "bundle": Parser(lambda raw: verify_bundle(raw, run.coordinator.public), bundles),
        "rotation": Parser(read_rotation, rotations),
        "public-key": Parser(VerifyKey.from_pem, [run.coordinator.public.pem, double.public.pem]),
        "certificate": Parser(node_id_from_cert, [authority.issue_node(request, "north")]),
        "request": Parser(lambda raw: authority.issue_node(raw, "north"), [request]),
        "entry": Parser(parse, run.entries),
        "tile": Parser(
            lambda raw: parse_bundle(raw, 12), [(root / "ledger/tile/entries/000.p/12").read_bytes()]
        ),
        "checkpoint": Parser(_text(Checkpoint.parse), [split_note(run.tiles.note)[0].encode()]),
        "note": Parser(lambda raw: verify(raw, verifier), [run.tiles.note]),
        "receipt": Parser(lambda raw: verify_proof(raw, run.entries[6], verifier), [run.tiles.receipt(6)]),
        "ledger-key": Parser(_text(NoteVerifier.from_vkey), [log]),
        "witness-key": Parser(_text(Cosigner.from_vkey), [witness]),
        "cosignature": Parser(
            parse_cosignature,
            [make_cosignature("north", b"\xe2\x80\x94 witness AAAAAAAAAA==\n", b"bundle").to_bytes()],
        ),
        "policy": Parser(
            parse_policy,
            [
                b"log %b u\nwitness W %b\ngroup G any W\nquorum G\n" % (log, witness[:60]),
                b"log %b\nquorum none\n" % log,
            ],
        ),
        "sealed": Parser(lambda raw: open_sealed(raw, round_key, binding), [sealed]),
        "model": Parser(read_model, [(root / "global/model.safetensors").read_bytes()]),
        "samples": Parser(lambda raw: counted(raw, "edges"), [samples], (ValueError,)),
        "comparison": Parser(lambda raw: read_comparison(raw, run.study), [b'{"edges":[[0.0]]}']),
        "letter": Parser(_at(read_letter), [letter]),
        "invitation": Parser(_at(Invitation.load), [invitation]),
        "settings": Parser(_at(NodeSettings.load), [b'data = "north.csv"\naddress = "h:1"\n']),
        "records": Parser(
            _at(lambda path: load_records(path, run.study)), [b"a,b,c\n1,2,3\n2,3,4\n0,1,-1e3\n-1,.5,2\n"]
        ),
        "edges": Parser(_at(read_edges), [b"from,to\na,b\nb,c\n"]),
        "claim": Parser(_claimed, [canonical_json(honest()), canonical_json(honest(epsilon=1.0))]),
        "backup": Parser(_at(_restored), [_backup()]),
        "inspect": Parser(
            _at(_inspected),
            [sealed[:4096], bundles[0], run.tiles.note, run.tiles.receipt(6), log, letter, invitation, run.study.raw,
             run.coordinator.public.pem, (root / "global/summary.json").read_bytes(),
             (root / "global/model.safetensors").read_bytes(), rotations[0], double.public.pem],
        ),
    }  # fmt: skip


NAMES: Final = (
    "study", "study-check", "json", "statement", "bundle", "rotation", "public-key", "certificate", "request", "entry", "tile",
    "checkpoint", "note", "receipt", "ledger-key", "witness-key", "cosignature", "policy", "sealed", "model", "samples", "comparison",
    "letter", "invitation", "settings", "records", "edges", "claim", "backup", "inspect",
)  # fmt: skip
"""The same names, for those who have no run yet."""


def corpus(name: str) -> list[bytes]:
    """What is kept of a parser: bytes that once got past it, or led somewhere new."""
    folder = CORPUS / name
    return [path.read_bytes() for path in sorted(folder.iterdir())] if folder.is_dir() else []
