"""A node's cosignature of a ledger as a file, and putting such files into a run directory.

    epgfn-node cosign RUN_DIR        north.cosignature.json: the signature line, and the statement that names the key
    epgfn ledger add RUN_DIR north.cosignature.json south.cosignature.json

Whoever holds the run directory may add them: they are checked against it, and change no other byte.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from epgfn.base.canonical import canonical_json, parse_canonical_json
from epgfn.base.errors import RefusedError
from epgfn.base.files import read_bytes, write_atomic
from epgfn.base.identifiers import NODE_ID
from epgfn.ledger.encoding import from_base64, to_base64
from epgfn.ledger.note import split_note
from epgfn.ledger.tiles import CHECKPOINT_NAME
from epgfn.run.audit.audit import audit_run
from epgfn.run.audit.enrolments import named
from epgfn.run.audit.witnesses import Witness, check_witnesses, read_witness
from epgfn.run.layout import RunLayout
from epgfn.sealing.bundle import read_unverified
from epgfn.sealing.keys import VerifyKey

FORMAT: Final = "epgfn-cosignature/v1"
MAX_BYTES: Final = 1 << 16


class Cosignature(BaseModel):
    """What a node hands out: the line below the checkpoint, and (base64) the bundle of the statement that names its witness key."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: Literal["epgfn-cosignature/v1"]
    node_id: Annotated[str, Field(pattern=f"^(?:{NODE_ID.pattern})$")]
    line: Annotated[str, Field(min_length=1, max_length=8192)]
    statement: Annotated[str, Field(min_length=1, max_length=MAX_BYTES)]

    @property
    def bundle(self) -> bytes:
        """RefusedError: it is not base64."""
        return from_base64(self.statement, "statement of the cosignature")

    def to_bytes(self) -> bytes:
        """The file."""
        return canonical_json(self.model_dump())


def make_cosignature(node: str, line: bytes, bundle: bytes) -> Cosignature:
    """The file's contents."""
    return Cosignature(format=FORMAT, node_id=node, line=line.decode(), statement=to_base64(bundle))


def parse_cosignature(raw: bytes) -> Cosignature:
    """What a file of this form says; nothing is verified.

    Raises:
        RefusedError: "malformed": another form.
    """
    try:
        if len(raw) > MAX_BYTES:
            raise ValueError
        return Cosignature.model_validate(parse_canonical_json(raw))
    except (ValidationError, ValueError):
        raise RefusedError(
            "malformed", f"the file is not a cosignature of format {FORMAT}; ask its node for it again"
        ) from None


def add_cosignatures(run_dir: Path, files: list[Path]) -> list[str]:
    """Put the cosignatures in `files` into a run directory, once each is known to be of this ledger and of the node that it names; returns
    the names of the nodes. One that is there already is replaced.

    Raises:
        RefusedError, EpgfnError: the run directory does not verify as far as its ledger, or a file does not fit it; nothing is changed.
        UsageError: a file cannot be read.
    """
    audited = audit_run(run_dir)
    about, folder = audited.about, RunLayout(run_dir)
    wrong = next((f for f in audited.findings if not f.ok and f.check in GROUNDWORK), None)
    if about is None or wrong is not None:
        raise RefusedError(
            "not-verified",
            f"this run does not verify, so nobody can cosign it: {wrong.message if wrong else 'no ledger'}",
        )
    note = about.head
    bundles: dict[str, bytes] = {}
    for path in files:
        said = parse_cosignature(read_bytes(path, "cosignature", MAX_BYTES))
        enrolled = named(about.entries, said.node_id, read_unverified(said.bundle)[1])
        if enrolled is None:
            raise RefusedError("other-node", f"{path} is of {said.node_id}, which this ledger does not enrol")
        key = VerifyKey.from_pem(enrolled.pem)
        witness = read_witness(said.bundle, said.node_id, key, about.study, about.manifest)
        note = _with_line(note, witness, said.line)
        check_witnesses(note, [witness], about.study, has_result=False)
        bundles[said.node_id] = said.bundle
    for node, bundle in bundles.items():
        write_atomic(folder.witness(node), bundle)
    write_atomic(folder.ledger / CHECKPOINT_NAME, note)
    return sorted(bundles)


GROUNDWORK: Final = (
    "coordinator-key",
    "study",
    "round",
    "ledger",
    "ledger-entries",
    "node-keys",
    "rotations",
)
"""What has to be known before anybody can cosign."""


def _with_line(note: bytes, witness: Witness, line: str) -> bytes:
    """`note` with one more signature line, in place of an older one of the same key."""
    text, blank, tail = note.decode().rpartition("\n\n")
    mine = f"\N{EM DASH} {witness.cosigner.name} "
    kept = [each for each in tail[:-1].split("\n") if not each.startswith(mine)]
    signatures = "".join(f"{each}\n" for each in kept)
    whole = f"{text}{blank}{signatures}{line}".encode()
    before, after = split_note(note)[0], split_note(whole)[0]
    if before != after:
        raise RefusedError("malformed", "the cosignature is not one signature line")
    return whole
