"""A small, complete and valid run directory, made with the real sealing and ledger modules, without processes or network."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path

import torch

from epgfn.base.errors import RefusedError
from epgfn.base.files import sha256_hex, write_atomic
from epgfn.gflownet.measure.equivalence import compelled_given_edge
from epgfn.learn.exact import exact_of_table
from epgfn.learn.model import Model
from epgfn.learn.policy import family_of, policy_spec
from epgfn.learn.trust import edge_matrix
from epgfn.ledger.checkpoint import Checkpoint
from epgfn.ledger.entries import (
    AcceptedEntry,
    CoordinatorRotatedEntry,
    EnrolledEntry,
    Entry,
    GlobalEntry,
    KeyDestroyedEntry,
    LeaveOneOutEntry,
    RotatedEntry,
    RoundEntry,
    StateEntry,
    StudyEntry,
    WithdrawnByNodeEntry,
    encode,
)
from epgfn.ledger.log import TileLog, export_log
from epgfn.ledger.merkle import MerkleTree, leaf_hash
from epgfn.ledger.note import NoteSigner
from epgfn.run.lacking import summarised
from epgfn.sealing.binding import MODEL_PAYLOAD, Binding
from epgfn.sealing.bundle import sign_statement
from epgfn.sealing.envelope import seal
from epgfn.sealing.keys import SigningKey
from epgfn.sealing.model_file import read_model, write_model
from epgfn.sealing.model_signing import sign_model
from epgfn.sealing.predicates import LEAVE_ONE_OUT, WITHDRAWAL
from epgfn.sealing.rotation import read_rotation, sign_rotation
from epgfn.sealing.round_key import RoundPrivateKey
from epgfn.sealing.statement import GLOBAL, ROUND, STUDY, UPLOAD, make_statement
from epgfn.study import Study
from small import SMALL_STUDY

ROUND_ID = "round-1"
TIME = "2030-01-31T12:00:00Z"


@cache
def contents(study_raw: bytes, model: bytes) -> tuple[dict[str, object], bytes]:
    """What a coordinator works out of a model file: the probabilities for its summary, and the bytes of its samples."""
    study = Study.from_bytes(study_raw)
    try:
        tensors, _ = read_model(model)
        made = Model(study, tensors)
    except RefusedError:  # a file that only looks like a model: what lies beside it does not matter
        return {}, b"no samples"
    name = family_of(study).scores
    exact = None if name is None or not study.kind.has_edges else exact_of_table(study, tensors[name])
    found = made.marginals(seed=study.seed, weighted=False) if exact is None else dict(exact.probabilities)
    named: dict[str, object] = {"marginals": found}
    if study.kind.has_edges:
        edges = edge_matrix(study, found)
        named = {"edge_probabilities": edges}
        if exact is not None and exact.drawn is not None:
            told = compelled_given_edge(exact.drawn(10_000, 3), torch.ones(10_000))
            named["compelled_probabilities"] = (torch.tensor(edges, dtype=torch.float64) * told).tolist()
    table = io.BytesIO()
    made.sample(study.aggregation.samples, seed=study.seed).rows().to_parquet(table, index=False)
    return {**named, "probabilities_from": "samples" if exact is None else "exact"}, table.getvalue()


# Fewer numbers than a usual policy, so that tests can go over all bytes.
STUDY_TEXT = SMALL_STUDY.replace('["north", "south"]', '["north", "south", "west"]').replace(
    "[aggregation]\n", "[aggregation]\nquorum = 2\n"
)


@dataclass
class RunDirectory:
    """The parties' keys and what they do in a round; `finish` writes what an auditor gets to `root`."""

    root: Path
    study: Study = field(default_factory=lambda: Study.from_bytes(STUDY_TEXT.encode()))
    coordinator: SigningKey = field(default_factory=SigningKey.generate)
    ledger: NoteSigner = field(default_factory=lambda: NoteSigner.generate("test/ledger"))
    keys: dict[str, SigningKey] = field(default_factory=dict)
    entries: list[bytes] = field(default_factory=list)
    uploads: dict[str, tuple[bytes, bytes]] = field(default_factory=dict)
    always_destroy: bool = False  # whatever the study says
    summary: dict[str, object] = field(
        default_factory=dict
    )  # what summaries say beside or instead of the truth
    samples: bytes = b""  # in place of true ones
    outside_signature: bytes = b""  # in place of a true one by Model Signing
    made: bytes = b""  # the model that the next `aggregate` publishes
    before: tuple[SigningKey, ...] = ()  # whose place the coordinator's key took, the oldest first
    signed: tuple[str, ...] = ("model.safetensors", "samples.parquet", "summary.json")

    @property
    def files(self) -> list[str]:
        """Relative paths of all files."""
        return sorted(p.relative_to(self.root).as_posix() for p in self.root.rglob("*") if p.is_file())

    def log(self, entry: Entry) -> int:
        """Append one entry to the ledger; its index."""
        self.entries.append(encode(entry))
        return len(self.entries) - 1

    def checkpoint(self) -> dict[str, object]:
        """The ledger as it stands, as statements quote it."""
        tree = MerkleTree(map(leaf_hash, self.entries))
        return Checkpoint(self.ledger.name, tree.size, tree.root()).as_dict()

    def open_round(self) -> None:
        """Sign and log study and round, and enrol every node of the roster."""
        study, digest = self.study, self.study.digest
        self.round_key = RoundPrivateKey.generate(study.transport.suite)
        manifest = {
            "study_digest": digest,
            "round_id": ROUND_ID,
            "suite": study.transport.suite,
            "round_key": base64.b64encode(self.round_key.public.raw).decode(),
            "round_key_id": self.round_key.key_id,
            "ledger_vkey": self.ledger.verifier.vkey,
            "coordinator_fingerprint": self.coordinator.public.fingerprint,
            "keep_round_key": study.transport.keep_round_key,
        }
        subject = {"study.toml": digest}
        self.study_bundle = self.sign(
            make_statement(subject, STUDY, {"study_digest": digest, "name": study.name})
        )
        self.round_bundle = self.sign(make_statement(subject, ROUND, manifest))
        self.log(StudyEntry(study_digest=digest, bundle_sha256=sha256_hex(self.study_bundle)))
        self.log(RoundEntry(round_id=ROUND_ID, bundle_sha256=sha256_hex(self.round_bundle)))
        for old, new in pairwise((*self.before, self.coordinator)):
            self.succeed(sign_rotation("coordinator", old, new, TIME, "a test"))
        self.log(StateEntry(round_id=ROUND_ID, state="open"))
        for node in study.roster:
            key = self.keys[node] = SigningKey.generate()
            pem = key.public.pem.decode()
            self.log(EnrolledEntry(node_id=node, signing_key=pem, fingerprint=key.public.fingerprint))

    def succeed(self, bundle: bytes) -> None:
        """Log and keep a change of the coordinator's key."""
        said = read_rotation(bundle).said
        index = self.log(
            CoordinatorRotatedEntry(
                old_fingerprint=said.old_fingerprint,
                new_fingerprint=said.new_fingerprint,
                bundle_sha256=sha256_hex(bundle),
            )
        )
        write_atomic(self.root / f"rotations/{index}.sigstore.json", bundle)

    def rotate(self, node: str, new: SigningKey, bundle: bytes = b"") -> None:
        """Log and keep a change of a node's key; `bundle` in place of a true statement."""
        old, self.keys[node] = self.keys[node], new
        bundle = bundle or sign_rotation(f"node/{node}", old, new, TIME, "a test")
        index = self.log(
            RotatedEntry(
                round_id=ROUND_ID,
                node_id=node,
                old_fingerprint=old.public.fingerprint,
                signing_key=new.public.pem.decode(),
                fingerprint=new.public.fingerprint,
                bundle_sha256=sha256_hex(bundle),
            )
        )
        write_atomic(self.root / f"rotations/{index}.sigstore.json", bundle)

    def sign(self, payload: bytes) -> bytes:
        """The coordinator's bundle."""
        return sign_statement(payload, self.coordinator)

    def send(self, node: str, **changes: object) -> None:
        """Seal, sign, log and acknowledge a node's model; `changes` replace fields of what the node signs."""
        study, key = self.study, self.keys[node]
        model = self.model("local", float(len(self.uploads)))
        binding = Binding(
            study.digest, ROUND_ID, node, key.public.fingerprint, self.round_key.key_id, MODEL_PAYLOAD
        )
        sealed = seal(model, self.round_key.public, binding)
        predicate = {
            "study_digest": study.digest,
            "round_id": ROUND_ID,
            "node_id": node,
            "sender_fingerprint": key.public.fingerprint,
            "round_key_id": self.round_key.key_id,
            "suite": study.transport.suite,
            "payload_type": MODEL_PAYLOAD,
            "sealed_size": len(sealed),
            "model_size": len(model),
            "privacy": {"mode": study.privacy.mode},
            "software": {"epgfn": "0.1.0"},
            "checkpoint": self.checkpoint(),
        }
        payload = make_statement({"model.sealed": sha256_hex(sealed)}, UPLOAD, {**predicate, **changes})
        bundle = sign_statement(payload, key)
        self.accept(node, sealed, bundle)

    def accept(self, node: str, sealed: bytes, bundle: bytes) -> None:
        """Log an upload and give its receipt."""
        entry = AcceptedEntry(
            round_id=ROUND_ID,
            node_id=node,
            sealed_sha256=sha256_hex(sealed),
            bundle_sha256=sha256_hex(bundle),
            size=len(sealed),
        )
        index = self.log(entry)
        self.uploads[node] = (sealed, bundle)
        self.publish()
        folder = self.root / "uploads" / node
        write_atomic(folder / "model.sealed", sealed)
        write_atomic(folder / "upload.sigstore.json", bundle)
        write_atomic(folder / "receipt.tlog-proof", self.tiles.receipt(index))

    def withdraw(self, node: str, signer: SigningKey, digest: str = "", **changes: object) -> None:
        """Sign, log and keep a node's withdrawal of what it sent; `digest` instead of that, `changes` to what is signed."""
        sealed, _ = self.uploads.pop(node, (b"", b""))
        predicate = {
            "study_digest": self.study.digest,
            "round_id": ROUND_ID,
            "node_id": node,
            "sender_fingerprint": signer.public.fingerprint,
            "checkpoint": self.checkpoint(),
        }
        subject = {"model.sealed": digest or sha256_hex(sealed)}
        bundle = sign_statement(make_statement(subject, WITHDRAWAL, {**predicate, **changes}), signer)
        index = self.log(
            WithdrawnByNodeEntry(
                round_id=ROUND_ID,
                node_id=node,
                sealed_sha256=sha256_hex(sealed),
                bundle_sha256=sha256_hex(bundle),
            )
        )
        write_atomic(self.root / f"withdrawals/{index}.sigstore.json", bundle)

    def publish(self) -> None:
        """Bring the live ledger, beside the run directory, up to date."""
        if not hasattr(self, "tiles"):
            self.tiles = TileLog(self.root.with_name(self.root.name + "-ledger"), self.ledger)
        self.tiles.publish(self.entries)

    def model(self, role: str, value: float) -> bytes:
        """A model file of the study's form."""
        spec = policy_spec(self.study)
        tensors = {
            name: torch.full(tuple(s.shape), value, dtype=getattr(torch, s.dtype)) for name, s in spec.items()
        }
        return write_model(tensors, {"study_digest": self.study.digest, "role": role})

    def close(self, **changes: object) -> None:
        """Publish the global model; `changes` replace fields of what the coordinator signs."""
        self.log(StateEntry(round_id=ROUND_ID, state="aggregating"))
        self.aggregate("global", **changes)
        self.end()

    def end(self) -> None:
        """Destroy the round key, unless the study keeps it, and publish."""
        if not self.study.transport.keep_round_key or self.always_destroy:
            self.log(KeyDestroyedEntry(round_id=ROUND_ID, round_key_id=self.round_key.key_id))
        self.log(StateEntry(round_id=ROUND_ID, state="published", detail={"why": "all is well"}))

    def aggregate(
        self,
        place: str,
        left_out: str | None = None,
        kind: str = "",
        more: dict[str, object] | None = None,
        **changes: object,
    ) -> None:
        """Write, sign and log one model of what has been sent; `changes` and `more` replace fields, `kind` the predicate's type."""
        model = self.made or self.model("global", 0.0)
        used = [node for node in sorted(self.uploads) if node != left_out]
        predicate: dict[str, object] = {
            "study_digest": self.study.digest,
            "round_id": ROUND_ID,
            "aggregated": [self.aggregated(node) for node in used],
            "absent": [node for node in self.study.roster if node not in used],
            "seed": self.study.seed,
            "software": {"epgfn": "0.1.0"},
            "checkpoint": self.checkpoint(),
        }
        found, samples = contents(self.study.raw, model)
        said = {**self.said(place, used, model), **found, **self.summary}
        if "edge_probabilities" in self.summary and "compelled_probabilities" not in self.summary:
            said.pop("compelled_probabilities", None)  # those of other edges
        if left_out is not None:
            said["left_out"] = left_out
            predicate["left_out"] = left_out
        files = {"model.safetensors": model, "samples.parquet": self.samples or samples}
        files["summary.json"] = json.dumps(said, indent=2).encode()
        if "model.sig" in self.signed:
            files["model.sig"] = self.outside_signature or sign_model(
                "model.safetensors", sha256_hex(model), self.coordinator
            )
        if left_out is not None:
            del files["samples.parquet"]
        subjects = {name: sha256_hex(raw) for name, raw in files.items() if name in self.signed}
        kind = kind or (GLOBAL if left_out is None else LEAVE_ONE_OUT)
        bundle = self.sign(make_statement(subjects, kind, {**predicate, **changes, **(more or {})}))
        digests = {"bundle_sha256": sha256_hex(bundle), "model_sha256": sha256_hex(model)}
        if left_out is None:
            self.log(GlobalEntry(round_id=ROUND_ID, **digests))
        else:
            self.log(LeaveOneOutEntry(round_id=ROUND_ID, node_id=left_out, **digests))
        for name, raw in {**files, "model.sigstore.json": bundle}.items():
            write_atomic(self.root / place / name, raw)

    def said(self, place: str, used: list[str], model: bytes) -> dict[str, object]:
        """A summary without what is worked out of the model."""
        study = self.study
        return {
            "study": study.name,
            "study_digest": study.digest,
            "round_id": ROUND_ID,
            "model_sha256": sha256_hex(model),
            "aggregated": used,
            "absent": sorted(set(study.roster) - set(used)),
            "seed": study.seed,
            "samples": study.aggregation.samples,
            "variables": study.variable_names,
            "noun": study.kind.noun,
            **summarised(study, used),
            "software": {"epgfn": "0.1.0"},
            **({"number": int(place.removeprefix("aggregates/"))} if place.startswith("aggregates/") else {}),
        }

    def aggregated(self, node: str) -> dict[str, str]:
        """How the global statement names a node's upload."""
        sealed, bundle = self.uploads[node]
        return {"node_id": node, "sealed_sha256": sha256_hex(sealed), "bundle_sha256": sha256_hex(bundle)}

    def finish(self) -> Path:
        """Write study, keys and ledger; the run directory."""
        write_atomic(self.root / "study.toml", self.study.raw)
        write_atomic(self.root / "study.sigstore.json", self.study_bundle)
        write_atomic(self.root / "round.sigstore.json", self.round_bundle)
        write_atomic(self.root / "keys/coordinator.pem", self.coordinator.public.pem)
        write_atomic(self.root / "keys/ledger.vkey", f"{self.ledger.verifier.vkey}\n".encode())
        for node, key in self.keys.items():
            write_atomic(self.root / f"keys/nodes/{node}.pem", key.public.pem)
        self.publish()
        export_log(self.tiles.directory, self.root / "ledger", self.ledger.verifier)
        return self.root


def opened(root: Path, study: Study | None = None) -> RunDirectory:
    """A round that waits for uploads."""
    run = RunDirectory(root, study) if study is not None else RunDirectory(root)
    run.open_round()
    return run


def make_run(root: Path) -> RunDirectory:
    """A finished round: north and south sent their models, west never did."""
    run = opened(root)
    run.send("north")
    run.send("south")
    run.close()
    run.finish()
    return run
