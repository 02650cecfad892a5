"""What a single file is: for whom, by whom, and what is inside, as far as the file itself tells. Known by its content, not by its name.

    for line in inspect_file(Path("uploads/north/model.sealed")).lines: ...

Nothing here is verified unless a key is given; secrets are named and never shown.
"""

from __future__ import annotations

import json
import math
import stat
from pathlib import Path
from typing import Any, Final, NamedTuple

from epgfn.base.canonical import parse_canonical_json, parse_json
from epgfn.base.errors import EpgfnError, RefusedError, UsageError, one_line
from epgfn.base.files import read_bytes, sha256_file, sha256_hex, write_atomic
from epgfn.ledger.checkpoint import Checkpoint, open_checkpoint
from epgfn.ledger.cosignature import ML_DSA_44, Cosigner
from epgfn.ledger.encoding import to_base64
from epgfn.ledger.entries import parse as parse_entry
from epgfn.ledger.note import NoteVerifier, signers
from epgfn.ledger.proof import HEADER, proof_index
from epgfn.run.audit.kept import is_note
from epgfn.run.audit.timeline import entry_in_words
from epgfn.run.cosigning import FORMAT as COSIGNATURE
from epgfn.run.cosigning import parse_cosignature
from epgfn.sealing import predicates
from epgfn.sealing.bundle import MAX_BYTES as MAX_BUNDLE_BYTES
from epgfn.sealing.bundle import one_signature_each, read_unverified, verify_bundle
from epgfn.sealing.envelope import MAGIC, MAX_HEADER_BYTES, sealed_size
from epgfn.sealing.keys import VerifyKey
from epgfn.sealing.letter import MAGIC as LETTER
from epgfn.sealing.letter import read_letter
from epgfn.sealing.model_header import DTYPES, parse_header
from epgfn.sealing.model_header import MAX_HEADER_BYTES as MAX_MODEL_HEADER_BYTES
from epgfn.sealing.model_signing import is_model_signature
from epgfn.sealing.pki import certificate_fingerprint, ends_at, node_id_from_cert
from epgfn.sealing.rotation import read_rotation
from epgfn.sealing.statement import Statement, parse_statement
from epgfn.study import Study
from epgfn.study.study import MAX_STUDY_BYTES

MAX_TEXT_BYTES: Final = 4 << 20
SHOWN: Final = 120
"""Characters of a value that are shown on a line."""
NOT_CHECKED: Final = "NOT checked: give the key with --key"
OTHER_KEY: Final = "NOT checked: what was given is a key of another kind"

Fact = tuple[str, str]
INVITATION: Final = "epgfn-invitation/v1"


class Inspected(NamedTuple):
    """What it is, in a clause, and facts in the order to be read."""

    what: str
    facts: list[Fact]

    @property
    def lines(self) -> list[str]:
        """For people; whatever the file holds is on one line of printable characters."""
        width = max((len(name) for name, _ in self.facts), default=0)
        return [
            one_line(self.what),
            *(f"  {one_line(name):<{width}}  {one_line(value)}" for name, value in self.facts),
        ]


def inspect_file(path: Path, key: Path | None = None) -> Inspected:
    """What the file at `path` is. `key`: a public key (PEM) or ledger key (vkey) by which its signature is checked.

    Raises:
        UsageError: it cannot be read, or is nothing that this software writes.
        EpgfnError: it is malformed, or `key` did not sign it.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}; check the path") from None
    if stat.S_ISDIR(mode):
        raise UsageError(f"{path} is a folder; a run directory is checked with epgfn audit {path}")
    if not stat.S_ISREG(mode):
        raise UsageError(f"{path} is not a plain file")
    size = path.stat().st_size
    head = read_bytes(path, "file", MAX_MODEL_HEADER_BYTES + 8)
    secret = _secret(head)
    if secret is not None:
        return secret  # not even its digest is shown
    found = _of_head(head, size, path, _Key.load(key))
    if found is None:
        if size > MAX_TEXT_BYTES:
            raise _unknown(path)
        found = _of_text(read_bytes(path, "file", MAX_TEXT_BYTES), _Key.load(key), path)
    return found._replace(facts=[*found.facts, ("file", f"{size} bytes, SHA-256 {sha256_file(path)}")])


def write_for_sigstore(path: Path, folder: Path) -> list[tuple[Path, str]]:
    """Write the signed statement in the file at `path`, or in that letter, into `folder`: once for each P-256 signature on it, with that
    signature alone, as Sigstore's libraries take it. Each file written, and the fingerprint of the P-256 key that its signature is to be
    checked with.

    Raises:
        UsageError: the file cannot be read, or there is no statement in it that is signed as ours are.
        EpgfnError: a file cannot be written.
    """
    head = read_bytes(path, "file", MAX_BUNDLE_BYTES)
    bundle = read_letter(path).bundle if head.startswith(LETTER) else head
    try:
        singles = one_signature_each(bundle)
    except RefusedError:
        raise UsageError(
            f"{path} holds no signed statement, so nothing was written for Sigstore; name one, such as uploads/north/upload.sigstore.json "
            "(a model.sig has one signature, and is taken as it is)"
        ) from None
    stem = path.name.removesuffix(".sigstore.json")
    written = []
    for keyid, single in singles.items():
        target = folder / f"{stem}-{keyid[:16]}.sigstore.json"
        write_atomic(target, single)
        written.append((target, keyid))
    return written


class _Key(NamedTuple):
    """What a signature is held against, if anything."""

    public: VerifyKey | None = None
    ledger: NoteVerifier | None = None

    @classmethod
    def load(cls, path: Path | None) -> _Key:
        if path is None:
            return cls()
        raw = read_bytes(path, "key", MAX_TEXT_BYTES)
        if raw.startswith(b"-----BEGIN"):
            return cls(public=VerifyKey.from_pem(raw))
        return cls(ledger=NoteVerifier.from_vkey(raw.decode("utf-8", "replace").strip()))


def _of_head(head: bytes, size: int, path: Path, key: _Key) -> Inspected | None:
    """Large files: known and told by how they begin."""
    if head.startswith(MAGIC):
        return _sealed(head, size)
    if head.startswith(LETTER):
        return _letter(path, key)
    if head.startswith(b"PAR1"):
        inside = "objects that were drawn from a model, if it lies beside one; epgfn audit says whether they are its"
        return Inspected("A Parquet table", [("inside", inside)])
    length = int.from_bytes(head[:8], "little")
    if 0 < length <= MAX_MODEL_HEADER_BYTES and head[8:9] == b"{" and b'"__metadata__"' in head[: 8 + length]:
        return _model(head, length)
    return None


def _of_text(raw: bytes, key: _Key, path: Path) -> Inspected:
    if raw.startswith(HEADER.encode()):
        return _receipt(raw, key)
    if is_note(raw):
        return Inspected("A checkpoint: a ledger at one moment, signed", _head_facts(raw, key))
    if raw.startswith(b"-----BEGIN"):
        return _pem(raw)
    for reader in (_json, _study, _ledger_key):
        found = reader(raw, key)
        if found is not None:
            return found
    raise _unknown(path)


def _sealed(head: bytes, size: int) -> Inspected:
    end = head.find(b"\n", len(MAGIC), len(MAGIC) + MAX_HEADER_BYTES)
    fields: Any = parse_canonical_json(head[len(MAGIC) : max(end, len(MAGIC))])
    suite = fields.get("suite") if isinstance(fields, dict) else None
    inside = "unknown"
    if isinstance(suite, str):
        inside = f"{_plain_size(suite, size)} bytes, once opened: a model file, if its sender is right"
    return Inspected(
        "A sealed model: encrypted to a round's key",
        [
            ("suite", str(suite)),
            ("for", "whoever holds the round's private key, the coordinator until it is destroyed; of which round, the file does not tell"),
            ("by", "it does not tell either: the statement beside it, upload.sigstore.json, names this file's SHA-256 and is signed"),
            ("inside", inside),
        ],
    )  # fmt: skip


def _letter(path: Path, key: _Key) -> Inspected:
    letter = read_letter(path)
    found = _bundle(letter.bundle, key)
    held = ", ".join(f"{part.size} bytes" for part in letter.parts)
    return Inspected(
        "A letter between a node and its coordinator, to be carried where there is no network",
        [("statement", found.what), *found.facts, ("parts", held)],
    )


def _plain_size(suite: str, size: int) -> str:
    """The size of what was sealed, found by halving: larger plaintexts are never shorter sealed."""
    try:
        low, high = 0, size
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if sealed_size(suite, middle) < size else (low, middle)
        return str(low) if sealed_size(suite, low) == size else "no possible number of"
    except (EpgfnError, KeyError):
        return "an unknown number of"


MASKED = "sum.numbers"
"""The one tensor of a file of a masked sum (`epgfn.learn.masked`, which loads torch)."""


def _model(head: bytes, length: int) -> Inspected:
    forms, metadata = parse_header(head[: 8 + length])
    told = ", ".join(
        f"{name} {'x'.join(map(str, shape)) or 'scalar'} {DTYPES[dtype]}"
        for name, (dtype, shape) in sorted(forms.items())
    )
    numbers = sum(math.prod(shape) for _, shape in forms.values())
    if set(forms) == {MASKED}:
        said = (
            "The total of a masked sum: sums over the records of all nodes in it, signed by model.sigstore.json beside it"
            if metadata["role"] == "total"
            else "A node's numbers for a masked sum: those in its home are sums over its own records, those that it sends are under masks"
        )
        return Inspected(
            said, [("of the study", metadata["study_digest"]), ("tensors", f"{numbers} numbers: {told}")]
        )
    whose = (
        "a node's own: whoever reads it has that node's subposterior"
        if metadata["role"] == "local"
        else "a global one, signed by model.sigstore.json beside it"
    )
    return Inspected(
        f"A model, {whose}",
        [("of the study", metadata["study_digest"]), ("tensors", f"{numbers} numbers: {told}")],
    )


def _secret(raw: bytes) -> Inspected | None:
    """Whatever nobody else may see: named, and nothing of it shown."""
    for mark, what in (
        (
            b"PRIVATE+KEY+",
            "A ledger's private key, protected by no passphrase: whoever has it can sign another history",
        ),
        (b"ledger key ", "A ledger's private key, under a passphrase"),
        (b"-----BEGIN ENCRYPTED PRIVATE KEY-----", "A private key, under a passphrase"),
        (b"-----BEGIN PRIVATE KEY-----", "A private key, protected by no passphrase"),
        (b"ML-KEM-768+X25519\n", "A round's private key: it opens every upload of that round"),
        (b"X25519\n", "A round's private key: it opens every upload of that round"),
    ):
        if raw.startswith(mark):
            advice = "never hand it to anybody, and leave it out of backups that others can read"
            return Inspected(what, [("advice", advice)])
    return None


def _receipt(raw: bytes, key: _Key) -> Inspected:
    note = raw.partition(b"\n\n")[2]
    hashes = raw.partition(b"\n\n")[0].count(b"\n") - 1
    return Inspected(
        "A receipt: a proof that a ledger holds an entry",
        [
            (
                "of",
                f"ledger entry {proof_index(raw)}, by {hashes} hashes; what that says only the ledger, or entry.json beside it, tells",
            ),
            *_head_facts(note, key),
        ],
    )


def _head_facts(note: bytes, key: _Key) -> list[Fact]:
    text, found = signers(note)
    seen = Checkpoint.parse(text)
    checked = NOT_CHECKED if key.public is None else OTHER_KEY
    if key.ledger is not None:
        open_checkpoint(note, key.ledger)
        checked = f"checked: signed by {key.ledger.vkey}"
    return [
        ("ledger", seen.origin),
        ("entries", str(seen.size)),
        ("root", to_base64(seen.root)),
        *(("signed as", f"{name}, key id {key_id}") for name, key_id in found),
        ("signature", checked),
    ]


def _pem(raw: bytes) -> Inspected:
    if b"-----BEGIN CERTIFICATE-----" in raw:
        facts = [
            ("fingerprint", certificate_fingerprint(raw)),
            ("good until", f"{ends_at(raw):%Y-%m-%d %H:%M} UTC"),
        ]
        try:
            return Inspected(f"The certificate of the node {node_id_from_cert(raw)}", facts)
        except EpgfnError:
            return Inspected("A certificate of a coordinator or its authority", facts)
    if b"-----BEGIN CERTIFICATE REQUEST-----" in raw:
        return Inspected("A request for a certificate", [])
    key = VerifyKey.from_pem(raw)
    return Inspected(
        f"A public key that verifies signatures ({key.algorithms})",
        [
            ("fingerprint", key.fingerprint),
            ("advice", "compare the fingerprint with what its owner tells you"),
        ],
    )


def _json(raw: bytes, key: _Key) -> Inspected | None:
    if not raw.lstrip().startswith(b"{"):
        return None
    try:
        value = parse_json(raw)
    except ValueError:
        raise UsageError("the file begins as JSON and is none, or says a key twice") from None
    if "dsseEnvelope" in value:
        return _bundle(raw, key)
    if value.get("_type"):
        return Inspected("A statement that nobody has signed yet", _said(parse_statement(raw)))
    if value.get("format") == INVITATION:
        return _invitation(value)
    if value.get("format") == COSIGNATURE:
        return _cosignature(raw, key)
    if "kind" in value:
        return Inspected("A ledger entry", [("says", entry_in_words(parse_entry(raw))), *_plain(value)])
    if {"study_digest", "model_sha256", "variables"} <= set(value):
        names = (
            "study",
            "study_digest",
            "round_id",
            "model_sha256",
            "aggregated",
            "absent",
            "probabilities_from",
        )
        told = {name: value[name] for name in names if name in value}
        return Inspected(
            "A summary of a model, signed not by itself but by model.sigstore.json beside it", _plain(told)
        )
    return None


def _bundle(raw: bytes, key: _Key) -> Inspected:
    if is_model_signature(raw):
        return Inspected(
            "A model's signature as OpenSSF Model Signing v1.0 has it: model_signing verify key checks it against the model beside it",
            [
                (
                    "signature",
                    NOT_CHECKED
                    if key.public is None
                    else "NOT checked here: epgfn audit does, of a run directory",
                )
            ],
        )
    payload, hint = read_unverified(raw)
    if parse_statement(payload).predicate_type == predicates.ROTATION:
        return _rotation(raw, key)
    checked = NOT_CHECKED if key.ledger is None else OTHER_KEY
    if key.public is not None:
        payload = verify_bundle(raw, key.public)
        checked = f"checked: signed by {key.public.fingerprint}"
    statement = parse_statement(payload)
    return Inspected(
        f"A signed statement: {_KINDS.get(statement.predicate_type, 'of a kind that is not known here')}",
        [("by", f"the key {hint}, as it says"), ("signature", checked), *_said(statement)],
    )


def _rotation(raw: bytes, key: _Key) -> Inspected:
    """Both signatures are checked under the keys that it names; whether it is the successor of a key that one trusts, by that key."""
    found = read_rotation(raw)
    said = found.said
    checked = "both checked, under the keys that it names; NOT checked whether the old one is its party's: give that with --key"
    if key.public is not None:
        if key.public != found.old:
            raise UsageError(
                f"the key given is not the one that is replaced, {said.old_fingerprint}, so it did not sign this"
            )
        checked = "both checked, the old one's under the key that you gave"
    elif key.ledger is not None:
        checked = f"both checked, under the keys that it names; {OTHER_KEY}"
    return Inspected(
        f"A signed statement: {_KINDS[predicates.ROTATION]}",
        [
            ("of", found.whose),
            ("old key", said.old_fingerprint),
            ("new key", said.new_fingerprint),
            ("on", f"{said.time}, as it says"),
            ("because", said.reason),
            ("signatures", checked),
        ],
    )


_KINDS: Final = {
    predicates.STUDY: "the coordinator offers a study",
    predicates.ROUND: "the coordinator opens a round, with its keys",
    predicates.UPLOAD: "a node sends a sealed model",
    predicates.WITHDRAWAL: "a node takes its model back",
    predicates.GLOBAL: "the coordinator publishes a global model",
    predicates.LEAVE_ONE_OUT: "the coordinator publishes a model without one node",
    predicates.WITNESS: "a node names the key with which it cosigns the ledger",
    predicates.LETTER: "a node writes a letter to its coordinator",
    predicates.REPLY: "the coordinator answers a letter",
    predicates.ROTATION: "a party puts another signing key in the place of the one it has",
    predicates.COMPARISON: "a simulation compares its model with the exact posterior",
}


def _said(statement: Statement) -> list[Fact]:
    about = [("about", f"{name}, SHA-256 {digest}") for name, digest in statement.subjects.items()]
    return [("type", statement.predicate_type), *about, *_plain(statement.predicate)]


def _invitation(value: dict[str, Any]) -> Inspected:
    coordinator = VerifyKey.from_pem(str(value.get("coordinator_key_pem")).encode())
    return Inspected(
        "An invitation: whoever has it can enrol in that node's name until it is spent; keep it to yourself",
        [
            ("for", str(value.get("node_id"))),
            ("by", f"the coordinator {coordinator.fingerprint}"),
            ("ledger", str(value.get("ledger_vkey"))),
            ("study", str(value.get("study_digest"))),
            *(
                (name, str(value[name]))
                for name in ("round_id", "enroll_address", "address")
                if value.get(name)
            ),
            ("token", "here, and not shown"),
        ],
    )


def _cosignature(raw: bytes, key: _Key) -> Inspected:
    said = parse_cosignature(raw)
    facts = _bundle(said.bundle, key).facts
    return Inspected(
        f"A cosignature of {said.node_id}, to be added to a run directory with epgfn ledger add", facts
    )


def _study(raw: bytes, _: _Key) -> Inspected | None:
    if len(raw) > MAX_STUDY_BYTES or b"roster" not in raw:
        return None
    study = Study.from_bytes(raw, source="the file")
    return Inspected(
        f"A study: {study.name}",
        [
            ("digest", study.digest),
            ("nodes", ", ".join(study.roster)),
            (
                "about",
                f"{study.kind.noun} over {len(study.variables)} variables: {', '.join(study.variable_names)}",
            ),
            ("privacy", study.privacy.mode),
            ("quorum", str(study.aggregation.quorum)),
        ],
    )


def _ledger_key(raw: bytes, _: _Key) -> Inspected | None:
    text = raw.decode("utf-8", "replace")
    try:
        verifier = NoteVerifier.from_vkey(text.removesuffix("\n"))
    except EpgfnError:
        return _witness_key(text.removesuffix("\n"))
    return Inspected(
        "A ledger's public key",
        [
            ("ledger", verifier.name),
            ("key id", verifier.key_id.hex()),
            ("SHA-256", sha256_hex(verifier.public_key)),
        ],
    )


def _witness_key(text: str) -> Inspected | None:
    try:
        cosigner = Cosigner.from_vkey(text)
    except EpgfnError:
        return None
    kind = "ML-DSA-44" if cosigner.kind == ML_DSA_44 else "Ed25519"
    facts = [
        ("witness", cosigner.name),
        ("key id", cosigner.key_id.hex()),
        ("SHA-256", sha256_hex(cosigner.public_key)),
    ]
    return Inspected(f"A witness's public key ({kind})", facts)


def _plain(value: dict[str, Any]) -> list[Fact]:
    return [(name, _short(item)) for name, item in value.items() if name not in ("kind", "_type")]


def _short(value: Any) -> str:
    text = _text(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}… ({len(text)} characters)"


def _text(value: Any) -> str:
    """JSON as people read it: of an upload that is named in a list, the node."""
    if isinstance(value, dict):
        named = value.get("node_id")
        return str(named) if named else ", ".join(f"{name} {_text(item)}" for name, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(_text, value)) or "none"
    return value if isinstance(value, str) else json.dumps(value)


def _unknown(path: Path) -> UsageError:
    return UsageError(f"{path} is nothing that this software writes, or too long for it")
