"""Training the local model on the node's own records. Everything here stays on this machine."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from epgfn.canonical import canonical_json
from epgfn.console import Reporter
from epgfn.errors import RefusedError
from epgfn.files import read_secret, sha256_file, sha256_hex, write_secret
from epgfn.sealing.model_file import write_model
from epgfn.study import Study
from epgfn_node.home import NodeHome


def default_seed(study: Study, node_id: str) -> int:
    """The study's seed plus one plus the node's place in the roster: reproducible, and no two nodes alike."""
    return (study.seed + 1 + study.roster.index(node_id)) % (1 << 31)


def train(home: NodeHome, study: Study, data: Path, seed: int, report: Reporter) -> str:
    """Train on `data`, write local/model.safetensors and local/history.json, and return the model's SHA-256.

    A model that was approved before is no longer approved.

    Raises:
        UsageError: the records do not fit the study.
        RefusedError: "already-sent", "being-sent": the coordinator has accepted a model from this node, or may have.
        EpgfnError: a file cannot be written.
    """
    # Loaded here, because no other command needs them and all others start faster without.
    from epgfn.data import load_records
    from epgfn.training import train_local

    if home.receipt.exists():
        raise RefusedError(
            "already-sent",
            f"this node's model was accepted already (receipt: {home.receipt}); a round takes one model a node, so there "
            "is nothing to train for",
        )
    if home.sending.exists():
        raise RefusedError(
            "being-sent",
            f"the model in {home.root} may have arrived already, only the receipt is missing; run epgfn-node submit to get it",
        )
    records = load_records(data, study)
    report.event("training", f"training on {data.name}")

    def progress(state: Any) -> None:
        report.event(
            "training", f"loss {state.loss:.3f}", step=state.step, steps=state.steps, loss=state.loss
        )

    result = train_local(study, records, seed=seed, progress=progress)
    raw = write_model(result.tensors, {"study_digest": study.digest, "role": "local"})
    # Approval goes first: at no moment may it stand beside a model it was not given for.
    withdraw_approval(home)
    write_secret(home.records_digest, sha256_file(data).encode("ascii"))
    write_secret(home.history, canonical_json(result.history) + b"\n")
    write_secret(home.model, raw)
    report.event("trained", f"trained; the model is in {home.model} and stays there until you approve it")
    return sha256_hex(raw)


def require_same_records(home: NodeHome, data: Path) -> None:
    """Check that the model at hand was trained on `data`: a `run` that is given another file must not send the old model.

    Raises:
        RefusedError: "other-records".
        EpgfnError: a file cannot be read.
    """
    known = read_secret(home.records_digest) if home.records_digest.exists() else b""
    if sha256_file(data).encode("ascii") != known:
        raise RefusedError(
            "other-records",
            f"the model in {home.model} was not trained on {data} as it is now; run epgfn-node train --home {home.root} "
            "--data FILE to train anew, or name the file it was trained on",
        )


def withdraw_approval(home: NodeHome) -> None:
    """Forget an approval and what was sealed under it."""
    for path in (home.approved, home.upload_bundle, home.sealed):
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
