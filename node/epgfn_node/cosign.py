"""This node as a witness: it signs the head of a ledger once it has seen that it extends all that it saw before."""

from __future__ import annotations

from pathlib import Path

from epgfn.base.errors import RefusedError
from epgfn.base.files import sha256_hex, write_atomic
from epgfn.base.passphrase import key_passphrase
from epgfn.ledger.checkpoint import Checkpoint
from epgfn.ledger.cosignature import CosignerKey
from epgfn.ledger.note import NoteVerifier, split_note
from epgfn.run.audit.audit import About
from epgfn.run.audit.witnesses import witness_name
from epgfn.run.cosigning import Cosignature, make_cosignature
from epgfn.run.layout import WITNESS_KEY
from epgfn.sealing.bundle import sign_statement
from epgfn.sealing.predicates import WITNESS, WitnessPredicate
from epgfn.sealing.statement import make_statement
from epgfn_node.audit import audit
from epgfn_node.home import NodeHome
from epgfn_node.keys import load_keys


def cosign(home: NodeHome, run_dir: Path) -> Cosignature:
    """Audit `run_dir` with all that this node has kept, and sign the head of its ledger. Hold the home's lock.

    What was signed is kept before it is handed out: this node never signs a ledger that does not extend it.

    Raises:
        RefusedError: "not-verified": a check failed, but for one that asks for more cosignatures.
        EpgfnError: this node is not enrolled, or its keys do not open.
    """
    report = audit(home, run_dir)
    failed = [finding for finding in report.findings if not finding.ok and finding.check != "witnesses"]
    if failed or report.about is None or report.about.own is None:
        why = f"{failed[0].check}: {failed[0].message}" if failed else "there is no ledger"
        raise RefusedError("not-verified", f"this node does not cosign a run that does not verify: {why}")
    about, node = report.about, report.about.own
    checkpoint = Checkpoint.parse(split_note(about.head)[0])
    key = _key(home, about, node)
    statement = _statement(home, about, node, key)
    head = _alone(about)
    write_atomic(home.cosigned, head)
    write_atomic(home.checkpoint, head)  # it extends the last one, as the audit has found
    return make_cosignature(node, key.cosign(checkpoint), statement)


def _alone(about: About) -> bytes:
    """The checkpoint with the ledger's own signature, without those of other witnesses."""
    text, _, lines = about.head.decode().rpartition("\n\n")
    own = f"\N{EM DASH} {NoteVerifier.from_vkey(about.manifest.ledger_vkey).name} "
    return "".join(
        [text, "\n\n", *(f"{line}\n" for line in lines.splitlines() if line.startswith(own))]
    ).encode()


def _key(home: NodeHome, about: About, node: str) -> CosignerKey:
    """This round's witness key, made when it is first needed."""
    name = witness_name(about.manifest, node)
    if not home.witness_key.exists():
        CosignerKey.generate(name).save(home.witness_key, key_passphrase(home.signing_key))
    key = CosignerKey.load(home.witness_key, key_passphrase(home.witness_key))
    if key.public.name != name:
        raise RefusedError(
            "other-round",
            f"{home.witness_key} is the witness key of another round, {key.public.name}; move it away, and run this again",
        )
    return key


def _statement(home: NodeHome, about: About, node: str, key: CosignerKey) -> bytes:
    signing, vkey = load_keys(home).signing, key.public.vkey
    said = WitnessPredicate(
        study_digest=about.study.digest,
        round_id=about.manifest.round_id,
        node_id=node,
        sender_fingerprint=signing.public.fingerprint,
        vkey=vkey,
    )
    subject = {WITNESS_KEY: sha256_hex(f"{vkey}\n".encode())}
    return sign_statement(make_statement(subject, WITNESS, said), signing)
