"""Promise: no bytes that a stranger sends make a reader fail otherwise than with its own sentence, or end its process.

Files of a true run, altered at random, are given to every parser of what parties exchange. Each must take them or refuse them.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from epgfn.base.errors import EpgfnError
from epgfn.ledger.cosignature import Cosigner, CosignerKey
from epgfn.ledger.entries import parse
from epgfn.ledger.note import NoteVerifier, verify
from epgfn.ledger.policy import parse_policy
from epgfn.ledger.proof import verify_proof
from epgfn.ledger.tiles import parse_bundle
from epgfn.run.cosigning import make_cosignature, parse_cosignature
from epgfn.run.inspection import inspect_file
from epgfn.run.samples import counted
from epgfn.sealing.bundle import read_unverified, verify_bundle
from epgfn.sealing.keys import SigningKey, VerifyKey
from epgfn.sealing.model_file import read_model
from epgfn.sealing.pki import CertificateAuthority, make_csr, node_id_from_cert
from epgfn.sealing.statement import parse_statement
from epgfn.study import Study
from epgfn.study.check import check_study
from run_directory import RunDirectory

ROUNDS = 150
TOKENS = [
    b'"', b"{", b"[", b"}", b"]", b"=", b"\n", b".", b",", b"\0", b"\xff", b"1e999", b"NaN", b"-1", b"true", b"null", b"\\u0000", b"9" * 24,
    b"[[", b"2030-13-01", b"'''", b"0x", b"inf", b"\xe2\x80\xae", b"1979-05-27T07:32:00Z", b"{}", b"[]", b'""', b"1.5", b"+", b"\n\n",
]  # fmt: skip


def altered(raw: bytes, chance: random.Random) -> bytes:
    """`raw` with one to eight changes: a bit, a token more, bytes less, others twice."""
    new = bytearray(raw)
    for _ in range(chance.choice([1, 1, 2, 4, 8])):
        at, what = chance.randrange(len(new) + 1), chance.random()
        if what < 0.25 and new:
            new[at % len(new)] ^= 1 << chance.randrange(8)
        elif what < 0.55:
            new[at:at] = chance.choice(TOKENS)
        elif what < 0.75:
            del new[at : at + chance.choice([1, 2, 8, 64])]
        elif what < 0.85:
            new[at : at + chance.choice([1, 4, 16])] = chance.choice(TOKENS)
        else:
            other = chance.randrange(len(new) + 1)
            new[at:at] = new[other : other + chance.choice([4, 16, 64])]
    return bytes(new)


def holds(read: Callable[[bytes], Any], seeds: list[bytes], *allowed: type[Exception]) -> None:
    """Whatever `read` is given, it takes or refuses it."""
    chance = random.Random(1)
    for _ in range(ROUNDS):
        raw = altered(chance.choice(seeds), chance)
        try:
            read(raw)
        except (EpgfnError, *allowed) as error:
            assert str(error)


STUDY = b"""name = "x"
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


def test_studies(run: RunDirectory) -> None:
    holds(Study.from_bytes, [run.study.raw, STUDY])
    holds(check_study, [run.study.raw, STUDY])


def test_statements_and_their_signatures(run: RunDirectory) -> None:
    names = ("study.sigstore.json", "global/model.sigstore.json", "uploads/north/upload.sigstore.json")
    bundles = [(run.root / name).read_bytes() for name in names]
    holds(lambda raw: verify_bundle(raw, run.coordinator.public), bundles)
    holds(parse_statement, [read_unverified(bundle)[0] for bundle in bundles])
    holds(VerifyKey.from_pem, [run.coordinator.public.pem])


def test_the_ledger_and_its_proofs(run: RunDirectory) -> None:
    verifier = run.ledger.verifier
    holds(parse, run.entries)
    holds(lambda raw: parse_bundle(raw, 12), [(run.root / "ledger/tile/entries/000.p/12").read_bytes()])
    holds(lambda raw: verify(raw, verifier), [run.tiles.note])
    holds(lambda raw: verify_proof(raw, run.entries[6], verifier), [run.tiles.receipt(6)])
    holds(lambda raw: NoteVerifier.from_vkey(raw.decode("utf-8", "replace")), [verifier.vkey.encode()])


def test_witnesses_and_policies(run: RunDirectory) -> None:
    key = CosignerKey("witness", bytes(32))
    vkey = key.public.vkey.encode()
    holds(lambda raw: Cosigner.from_vkey(raw.decode("utf-8", "replace")), [vkey])
    line = b"\xe2\x80\x94 witness AAAAAAAAAA==\n"
    holds(parse_cosignature, [make_cosignature("north", line, b"bundle").to_bytes()])
    log = run.ledger.verifier.vkey.encode()
    holds(
        parse_policy,
        [
            b"log %b u\nwitness W %b\ngroup G any W\nquorum G\n" % (log, vkey[:60]),
            b"log %b\nquorum none\n" % log,
        ],
    )


def test_models_and_samples(run: RunDirectory) -> None:
    holds(read_model, [(run.root / "global/model.safetensors").read_bytes()])
    holds(lambda raw: counted(raw, "edges"), [(run.root / "global/samples.parquet").read_bytes()], ValueError)


def test_certificates() -> None:
    authority, key = CertificateAuthority.create("test"), SigningKey.generate()
    certificate = authority.issue_node(make_csr(key, "north"), "north")
    holds(node_id_from_cert, [certificate])
    holds(lambda raw: authority.issue_node(raw, "north"), [make_csr(key, "north")])


@pytest.mark.parametrize(
    "name",
    ["study.toml", "keys/coordinator.pem", "keys/ledger.vkey", "ledger/checkpoint", "uploads/north/model.sealed",
     "uploads/north/upload.sigstore.json", "uploads/north/receipt.tlog-proof", "global/summary.json", "global/model.safetensors"],
)  # fmt: skip
def test_inspection_of_any_file(run: RunDirectory, tmp_path: Path, name: str) -> None:
    path = tmp_path / "file"

    def read(raw: bytes) -> None:
        path.write_bytes(raw)
        assert all(line.isprintable() for line in inspect_file(path).lines)

    holds(read, [(run.root / name).read_bytes()])
