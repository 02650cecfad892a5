"""What would leave this machine, in plain words, before anything does."""

from __future__ import annotations

from typing import Any

from epgfn.errors import EpgfnError
from epgfn.files import sha256_hex
from epgfn_node.enroll import Connection
from epgfn_node.outbox import load_package, planned_predicate, read_local_model
from epgfn_node.study import Agreement

PRIVACY = {
    "none": "none: whoever can read the policy can read the subposterior it was trained on. The encryption keeps it from "
    "everyone but the coordinator, who can read it.",
}
NEVER = (
    "the records, any single value or the number of rows",
    "training losses and history (local/history.json), and what an unfinished training keeps (local/training.state)",
    "the private keys in keys/",
)


def inspect(connection: Connection, agreement: Agreement) -> dict[str, Any]:
    """Everything there is to know about what would leave, as JSON values. `status` is trained, approved or accepted.

    Raises:
        EpgfnError: nothing is trained yet.
        RefusedError: a file was changed.
    """
    home, study = connection.home, agreement.study
    raw, tensors = read_local_model(home, agreement)
    predicate = planned_predicate(connection, agreement, len(raw))
    status, sealed_sha256 = "trained", None
    try:
        package = load_package(connection, agreement)
        predicate, sealed_sha256 = package.predicate, package.sealed_sha256
        status = "accepted" if home.receipt.exists() else "approved"
    except EpgfnError:
        pass  # not approved, or no longer: `status` says so
    return {
        "status": status,
        "study": study.name,
        "study_digest": study.digest,
        "node": connection.node_id,
        "coordinator": connection.address,
        "model_file": str(home.model),
        "model_sha256": sha256_hex(raw),
        "sealed_sha256": sealed_sha256,
        "tensors": [
            {"name": name, "shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch."), "numbers": tensor.numel()}
            for name, tensor in tensors.items()
        ],
        "privacy": PRIVACY[study.privacy.mode],
        "disclosure": study.disclosure,
        "statement": predicate.model_dump(mode="json"),
        "never_leaves": list(NEVER),
    }  # fmt: skip


def in_words(facts: dict[str, Any]) -> str:
    """The facts of `inspect` as text for people."""
    statement = facts["statement"]
    status = {
        "trained": "Nothing has left this machine, and nothing will until you approve.",
        "approved": "Approved: `epgfn-node submit` sends it.",
        "accepted": "Sent and accepted by the coordinator.",
    }[facts["status"]]
    lines = [
        f"Study        {facts['study']}",
        f"  digest     {facts['study_digest']}",
        f"Node         {facts['node']}",
        f"Coordinator  {facts['coordinator']}",
        "",
        status,
        "",
        "What leaves, once, in two files",
        f"  1. the trained model, {statement['model_size']} bytes, encrypted to {statement['sealed_size']} bytes",
        f"     SHA-256 before encryption {facts['model_sha256']}",
    ]
    if facts["sealed_sha256"]:
        lines.append(f"     SHA-256 as sent           {facts['sealed_sha256']}")
    for tensor in facts["tensors"]:
        shape = " x ".join(str(n) for n in tensor["shape"]) or "scalar"
        lines.append(f"     - {tensor['name']}: {shape} {tensor['dtype']} ({tensor['numbers']} numbers)")
    lines.append("  2. a signed statement, readable by everyone who audits the study, which says")
    lines += [f"     - {name}: {_short(value)}" for name, value in statement.items()]
    lines += ["", f"Privacy mode  {facts['privacy']}"]
    if facts["disclosure"]:
        lines += ["", f"Note: {facts['disclosure']}."]
    lines += ["", "What never leaves"]
    lines += [f"  - {item}" for item in facts["never_leaves"]]
    if facts["status"] == "trained":
        lines += ["", f"To approve this very model: epgfn-node approve --model {facts['model_sha256']}"]
    return "\n".join(lines)


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    return str(value)
