"""What the invitation says once and the node believes ever after: whose certificate, whose signature, whose log.

The invitation comes by a channel the operators trust (in person, by their own mail). Its keys are pinned on the first
use; a coordinator that shows others later is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from epgfn.base.canonical import parse_json
from epgfn.base.errors import RefusedError, UsageError
from epgfn.base.files import read_bytes, read_secret, sha256_hex, write_atomic
from epgfn.ledger.note import NoteVerifier
from epgfn.sealing.bundle import read_unverified
from epgfn.sealing.keys import VerifyKey
from epgfn.sealing.pki import ends_at, same_authority
from epgfn.sealing.predicates import COORDINATOR
from epgfn.sealing.rotation import MAX_BYTES as MAX_ROTATION_BYTES
from epgfn.sealing.rotation import Chain, ForkError, Rotation, follow
from epgfn_node.home import NodeHome

FORMAT = "epgfn-invitation/v1"
CA = "ca.pem"
MAX_BYTES = 1 << 18
FINGERPRINT_DIGITS: Final = 64


class Invitation(BaseModel):
    """The file that `epgfn-coordinator token` writes. Holds a secret: never print it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)

    format: Literal["epgfn-invitation/v1"]
    node_id: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
    token: Annotated[str, Field(min_length=1, max_length=512, repr=False)]
    enroll_address: Annotated[
        str, Field(pattern=r"^[!-~]{3,512}$")
    ]  # shown while waiting, so nothing but letters
    address: Annotated[str, Field(pattern=r"^[!-~]{0,512}$")] = ""
    ca_pem: str
    coordinator_key_pem: str
    ledger_vkey: str
    study_digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    round_id: Annotated[str, Field(pattern=r"^[0-9a-f]{0,64}$")] = ""

    @classmethod
    def load(cls, path: Path) -> Invitation:
        """Read an invitation file, which only its owner may be able to read.

        Raises:
            EpgfnError: missing, or others may read it.
            UsageError: it is no invitation.
        """
        raw = read_secret(path, MAX_BYTES)
        try:
            if len(raw) > MAX_BYTES:
                raise ValueError
            parse_json(raw)  # which takes no key twice
            return cls.model_validate_json(raw)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False, include_context=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "the file"
        except ValueError:
            where = "the file"
        raise UsageError(
            f"{path} is not an invitation of format {FORMAT} ({where} does not fit); ask the coordinator's operator for a new one"
        )


class Trust:
    """The pinned keys of one coordinator, read from a node's home. `coordinator` is the key that signs the round in `home`: the pinned one,
    or one that came in its place by the statements in `chain`."""

    def __init__(self, home: NodeHome) -> None:
        folder = home.trust
        self.ca_pem = read_bytes(folder / CA, "pinned certificate")
        self.chain = known_chain(home)
        self.coordinator = self.chain.start
        if home.is_joined and home.round_coordinator_key.exists():
            own = VerifyKey.from_pem(read_bytes(home.round_coordinator_key, "coordinator's key"))
            if self.chain.find(own.fingerprint) is None:
                raise RefusedError(
                    "wrong-key",
                    f"{home.round_coordinator_key} is not a successor of the pinned key by the statements in {home.rotations}; restore "
                    "both from one backup",
                )
            self.coordinator = own
        vkey = read_bytes(home.ledger_key, "pinned key").decode("utf-8", "replace").strip()
        self.ledger_vkey = vkey
        self.ledger = NoteVerifier.from_vkey(vkey)


def known_chain(home: NodeHome) -> Chain:
    """From the pinned key of the coordinator over the successors that this node has followed.

    Raises:
        RefusedError: a file was changed.
        EpgfnError: the pinned key is missing.
    """
    pinned = VerifyKey.from_pem(read_bytes(home.coordinator_key, "pinned key"))
    files = sorted(home.rotations.glob("*.sigstore.json"), key=lambda path: (len(path.name), path.name))
    return follow(
        pinned, (read_bytes(path, "change of keys", MAX_ROTATION_BYTES) for path in files), COORDINATOR
    )


def follow_coordinator(
    home: NodeHome, manifest: bytes, shown: Sequence[bytes]
) -> tuple[VerifyKey, list[Rotation]]:
    """The key that signs a round of the coordinator that this node wants to join: the pinned one, or its successor by the statements
    `shown`; and those that this node has not known, which it keeps from now on.

    Raises:
        RefusedError: "wrong-key": the key is neither; "older-key": it was replaced, by what this node has followed already;
            "rotation-fork": one key has two successors, and both statements are kept as evidence; or a statement does not verify.
        EpgfnError: a file cannot be written.
    """
    known = known_chain(home)
    ours, theirs = known.rotations, follow(known.start, shown, COORDINATOR).rotations
    for one, other in zip(ours, theirs, strict=False):
        if one.said.new_fingerprint != other.said.new_fingerprint:
            raise _kept_fork(home, ForkError(one, other))
    longer = max(ours, theirs, key=len)
    chain = Chain(known.start, (*ours, *longer[len(ours) :]))
    _, signer = read_unverified(manifest)
    key = chain.signer(signer)
    if key is None:
        raise RefusedError(
            "wrong-key",
            f"the round is signed with the key {plain_digits(signer)}, which is neither the pinned one, {known.start.fingerprint}, nor its "
            "successor by anything that the pinned one has signed; ask the coordinator's operator, and join nothing until you know",
        )
    if key != chain.keys[-1]:
        raise RefusedError(
            "older-key",
            f"the round is signed with the key {key.fingerprint}, in whose place another came since, {chain.keys[-1].fingerprint}, which "
            "this node has followed: whoever has the old key could have opened it; ask the operator to open it again under the new one",
        )
    new = list(longer[len(ours) :])
    for number, each in enumerate(new, start=len(ours) + 1):
        write_atomic(home.rotations / f"{number}.sigstore.json", each.bundle)
    return key, new


def plain_digits(text: str) -> str:
    """A fingerprint that somebody else names."""
    return text if len(text) == FINGERPRINT_DIGITS and set(text) <= set("0123456789abcdef") else "unknown"


def _kept_fork(home: NodeHome, fork: ForkError) -> ForkError:
    for statement in fork.statements:
        write_atomic(home.evidence / f"rotation-{sha256_hex(statement)[:16]}.sigstore.json", statement)
    return fork


def pin(home: NodeHome, invitation: Invitation) -> None:
    """Write what `invitation` says into trust/; the same again is fine, and so is the same authority with a certificate that ends later;
    anything else is refused.

    Raises:
        RefusedError: "other-coordinator": this home trusts another coordinator already; "bad-key": a key in the
            invitation is none.
        EpgfnError: a file cannot be written.
    """
    VerifyKey.from_pem(invitation.coordinator_key_pem.encode("utf-8"))
    NoteVerifier.from_vkey(invitation.ledger_vkey)
    pinned = {
        CA: invitation.ca_pem.encode("utf-8"),
        "coordinator.pem": invitation.coordinator_key_pem.encode("utf-8"),
        "ledger.vkey": invitation.ledger_vkey.encode("utf-8") + b"\n",
    }
    for name, value in pinned.items():
        path = home.trust / name
        if name == CA and path.exists() and _is_same_authority(path.read_bytes(), value):
            keep_authority(home, value)
        elif path.exists() and path.read_bytes() != value:
            raise RefusedError(
                "other-coordinator",
                f"the invitation is from another coordinator than the one {home.root} trusts ({name} differs); "
                "use a new --home for it, and tell the coordinator's operator if you expected the same one",
            )
    for name, value in pinned.items():
        if not (home.trust / name).exists():
            write_atomic(home.trust / name, value)


def keep_authority(home: NodeHome, ca_pem: bytes) -> None:
    """Keep the authority's certificate in place of the one that is pinned, if it is of the same name and key and ends later.

    Raises:
        RefusedError: "other-coordinator": it is another authority; "bad-certificate": it does not parse.
        EpgfnError: a file cannot be read or written.
    """
    pinned = read_bytes(home.trust / CA, "pinned certificate")
    if not same_authority(pinned, ca_pem):
        raise RefusedError(
            "other-coordinator",
            f"the coordinator names another authority than the one {home.root} trusts; tell its operator",
        )
    if ends_at(ca_pem) > ends_at(pinned):
        write_atomic(home.trust / CA, ca_pem)


def _is_same_authority(one: bytes, other: bytes) -> bool:
    try:
        return same_authority(one, other)
    except RefusedError:
        return False
