"""Another signing key in the place of this node's, by a statement that both sign.

The new key takes the old one's place here first, in one step, together with the statement and a note that the coordinator is still to be
told. Whatever connects to the coordinator afterwards tells it before anything else, as often as it takes. So at every moment this node
signs with one key, and by the time that somebody looks at what it signed, the coordinator knows that key.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import grpc

from epgfn.base.errors import EpgfnError, RefusedError, UsageError
from epgfn.base.files import remove, sync_directory
from epgfn.base.passphrase import key_passphrase
from epgfn.base.replacing import replace_together
from epgfn.rpc import UNARY_DEADLINE
from epgfn.sealing.keys import SigningKey
from epgfn.sealing.predicates import node_party
from epgfn.sealing.rotation import MOST, Rotation, read_rotation, sign_rotation
from epgfn.v1 import certificate_pb2
from epgfn_node.home import NodeHome
from epgfn_node.keys import load_keys, rotation_file, rotation_statements

if TYPE_CHECKING:
    from epgfn_node.client import Coordinator

UNTOLD: Final = "rotation-untold"


def rotate_key(
    home: NodeHome, rounds: list[NodeHome], node_id: str, reason: str, *, double: bool = False
) -> None:
    """Make another signing key, under the passphrase of the present one, in the place of it. Hold the locks of `rounds`, which are all
    of the node's. The coordinator is told by whatever connects to it next. `double`: from now on with ML-DSA-65 beside
    P-256, which stays so.

    Raises:
        UsageError: the reason is none, or the key was changed too often.
        RefusedError: "not-sent": something is on its way that is signed with the present key.
        EpgfnError: the key does not open, or a file cannot be written; then nothing is changed.
    """
    for each in rounds:
        _require_nothing_under_way(each)
    old = load_keys(home).signing
    new = SigningKey.generate(double=double or old.public.is_double)
    number = len(rotation_statements(home)) + 1
    if number > MOST:
        raise UsageError(f"this node has changed its key {MOST} times, which is the most; enrol a new home")
    try:
        bundle = sign_rotation(
            node_party(node_id), old, new, datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), reason
        )
    except RefusedError:
        raise UsageError("a reason is one line of 1 to 200 printable characters") from None
    base = NodeHome(home.base)
    replace_together(
        base.root,
        {
            base.signing_key: new.private_pem(key_passphrase(base.signing_key)),
            base.signing_public: new.public.pem,
            rotation_file(base, number): bundle,
            base.signing_key.with_name(UNTOLD): b"\n",
        },
    )


def last_change(home: NodeHome) -> Rotation | None:
    """The statement by which the present key took its place."""
    statements = rotation_statements(home)
    return read_rotation(statements[-1]) if statements else None


def said_of(made: Rotation) -> str:
    """For people, once the coordinator knows."""
    return f"this node signs with {made.in_words}, and the coordinator knows; tell auditors, who compare it"


def is_untold(home: NodeHome) -> bool:
    """Whether the coordinator may not know yet which key this node signs with."""
    return (NodeHome(home.base).signing_key.with_name(UNTOLD)).exists()


def tell(home: NodeHome, coordinator: Coordinator) -> None:
    """Have the coordinator put this node's key in the place of those before it; what it knows it does not do again.

    Raises:
        RefusedError: it says no: somebody else has changed this node's key, or its keys were revoked.
        EpgfnError: nobody answers, or it is of a version that takes no such change.
    """
    statements = rotation_statements(NodeHome(home.base))
    request = certificate_pb2.RotateKeyRequest(statements=statements)
    try:
        coordinator.persist(lambda: _call(coordinator, request))
    except RefusedError as error:
        raise type(error)(
            error.reason, f"the coordinator does not take this node's signing key: {error}"
        ) from None
    note = NodeHome(home.base).signing_key.with_name(UNTOLD)
    remove(note)
    sync_directory(note.parent)


def require_taken(coordinator: Coordinator) -> None:
    """Refuse to change anything where the coordinator would not take it.

    Raises:
        RefusedError, EpgfnError: as `tell`.
    """
    coordinator.persist(lambda: _call(coordinator, certificate_pb2.RotateKeyRequest()))


def _call(coordinator: Coordinator, request: Any) -> Any:
    try:
        return coordinator.certificate.RotateKey(request, timeout=UNARY_DEADLINE)
    except grpc.RpcError as error:
        call: Any = error
        if call.code() != grpc.StatusCode.UNIMPLEMENTED:
            raise
        raise EpgfnError(
            "this coordinator is of a version that takes no other signing key; ask its operator to revoke this node's keys, and enrol a "
            "new home"
        ) from None


def _require_nothing_under_way(home: NodeHome) -> None:
    """
    Raises:
        RefusedError: "not-sent".
    """
    for under_way, command in ((home.sending, "submit"), (home.withdrawal, "withdraw")):
        if under_way.exists():
            raise RefusedError(
                "not-sent",
                f"what the present key has signed is under way to the coordinator; end that first: epgfn-node {command} --home {home.root}",
            )
