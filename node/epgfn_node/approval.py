"""Who says yes: the names that a model's signed statement gives, and the second person where the node's settings ask for one.

A name is the word of whoever works in the node's home. It is signed with the node's key, and by no person.
"""

from __future__ import annotations

from pydantic import ValidationError

from epgfn.base.canonical import canonical_json, parse_canonical_json
from epgfn.base.errors import EpgfnError, UsageError, WaitingError
from epgfn.base.files import read_secret, write_secret
from epgfn.sealing.predicates import Approval, UploadPredicate, person_of
from epgfn_node.home import NodeHome

FORMAT = "epgfn-approvals/v1"


def named(approver: str) -> str:
    """The "NAME, ROLE" that somebody gave.

    Raises:
        UsageError: it is none.
    """
    try:
        return Approval(by=(approver,)).by[0]
    except ValidationError:
        raise UsageError(
            'approve --as takes a name and a role, as in: --as "Ada Lovelace, data manager" (at most 160 printable characters)'
        ) from None


def begun(home: NodeHome, model_sha256: str) -> tuple[str, ...]:
    """Who has approved this very model so far, where more have to."""
    try:
        note = parse_canonical_json(read_secret(home.approvals))
        if (note["format"], note["model_sha256"]) != (FORMAT, model_sha256):
            return ()
        return Approval.model_validate_json(canonical_json({"by": note["by"]})).by
    except (EpgfnError, KeyError, TypeError, ValidationError):
        return ()


def collect(home: NodeHome, model_sha256: str, approver: str | None, needed: int) -> Approval | None:
    """What the statement will say, now that `approver` approves; None where one person is enough, and gives no name.

    Raises:
        UsageError: `approver` is no name and role.
        WaitingError: "second-approval": another person has to approve, too, which is kept; or nobody was named.
    """
    if approver is not None:
        approver = named(approver)
    if needed == 1:
        return None if approver is None else Approval(by=(approver,))
    if approver is None:
        raise WaitingError(
            "second-approval",
            f"this node's settings ask for {needed} persons (approvals = {needed}), each of whom runs: epgfn-node approve "
            f'--home {home.root} --as "NAME, ROLE"',
        )
    so_far = tuple(other for other in begun(home, model_sha256) if person_of(other) != person_of(approver))
    by = (*so_far, approver)
    if len(by) < needed:
        note = {"format": FORMAT, "model_sha256": model_sha256, "by": list(by)}
        write_secret(home.approvals, canonical_json(note))
        raise WaitingError(
            "second-approval",
            f"approved by {approver}; nothing leaves before another person has approved, too: epgfn-node approve --home {home.root} "
            f'--model {model_sha256} --as "NAME, ROLE"',
        )
    return Approval(by=by)


def suffices(predicate: UploadPredicate, needed: int) -> bool:
    """Whether as many persons as the node's settings ask for stand in a signed statement."""
    return needed == 1 or (predicate.approval is not None and len(predicate.approval.by) >= needed)
