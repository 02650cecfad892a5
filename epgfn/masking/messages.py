"""What nodes say to the coordinator for a masked sum, as bytes of one form each: shares, and what takes masks off."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from epgfn.base.canonical import canonical_json, parse_canonical_json
from epgfn.base.encoding import from_base64, to_base64
from epgfn.base.errors import RefusedError
from epgfn.masking.masks import KEY_BYTES
from epgfn.masking.shamir import SHARE_BYTES

KEYS: Final = "epgfn-sum-keys/v1"
LIST: Final = "epgfn-sum-list/v1"
SHARES: Final = "epgfn-sum-shares/v1"
UNMASKING: Final = "epgfn-sum-unmasking/v1"
SEALED_BYTES: Final = 12 + 2 * SHARE_BYTES + 16
_HEX: Final = frozenset("0123456789abcdef")


@dataclass(frozen=True)
class Keys:
    """A node's two public X25519 keys, 32 bytes each: of its pairwise masks, and of the shares that others seal to it."""

    masking: bytes
    sharing: bytes

    def encode(self) -> bytes:
        """Canonical JSON."""
        return canonical_json(
            {"format": KEYS, "masking": to_base64(self.masking), "sharing": to_base64(self.sharing)}
        )

    @classmethod
    def parse(cls, raw: bytes) -> Keys:
        """Raises:
        RefusedError: "malformed".
        """
        said = _of_format(raw, KEYS, {"masking", "sharing"})
        keys = [from_base64(said[name]) for name in ("masking", "sharing")]
        masking, sharing = keys
        if masking is None or sharing is None or {len(masking), len(sharing)} != {KEY_BYTES}:
            raise _malformed()
        return cls(masking, sharing)


def encode_list(nodes: Collection[str]) -> bytes:
    """What a node signs to agree that the total is of exactly these; canonical JSON."""
    return canonical_json({"format": LIST, "nodes": sorted(set(nodes))})


def parse_list(raw: bytes) -> tuple[str, ...]:
    """Raises:
    RefusedError: "malformed".
    """
    nodes = _of_format(raw, LIST, {"nodes"})["nodes"]
    if not isinstance(nodes, list) or not all(isinstance(node, str) for node in nodes):
        raise _malformed()
    if encode_list(nodes) != raw:
        raise _malformed()
    return tuple(nodes)


@dataclass(frozen=True)
class Share:
    """What one node seals to another: both shares, and commitments (SHA-256, hexadecimal) to that of the sender's masking key and to that
    of its seed, which do not tell what they are of."""

    sealed: bytes
    key: str
    seed: str


@dataclass(frozen=True)
class Shares:
    """What a node sends once everybody's keys are known: a commitment to its seed, and shares for every node in that list, itself too,
    which keeps its own."""

    seed: str
    to: Mapping[str, Share]

    def encode(self) -> bytes:
        """Canonical JSON."""
        to = {
            node: {"sealed": to_base64(one.sealed), "key": one.key, "seed": one.seed}
            for node, one in self.to.items()
        }
        return canonical_json({"format": SHARES, "seed": self.seed, "to": to})

    @classmethod
    def parse(cls, raw: bytes, sender: str, nodes: Collection[str]) -> Shares:
        """What `sender` sent to exactly `nodes`.

        Raises:
            RefusedError: "malformed".
        """
        said = _of_format(raw, SHARES, {"seed", "to"})
        to = said["to"]
        if not isinstance(to, dict) or set(to) != set(nodes) or not _is_digest(said["seed"]):
            raise _malformed()
        found = {}
        for node, one in to.items():
            if not isinstance(one, dict) or set(one) != {"sealed", "key", "seed"}:
                raise _malformed()
            sealed = from_base64(one["sealed"])
            length = 0 if node == sender else SEALED_BYTES
            if (
                sealed is None
                or len(sealed) != length
                or not _is_digest(one["key"])
                or not _is_digest(one["seed"])
            ):
                raise _malformed()
            found[node] = Share(sealed, one["key"], one["seed"])
        return cls(said["seed"], found)


@dataclass(frozen=True, repr=False)
class Unmasking:
    """What a node says once it is signed who is in the sum: of each node that is, its share of that one's seed; of each that has dropped
    out, its share of that one's masking key. Never both of one node."""

    seeds: Mapping[str, bytes]
    keys: Mapping[str, bytes]

    def __repr__(self) -> str:
        """Whose shares, and not the shares."""
        return f"Unmasking(seeds of {sorted(self.seeds)}, keys of {sorted(self.keys)})"

    def encode(self) -> bytes:
        """Canonical JSON."""
        return canonical_json(
            {
                "format": UNMASKING,
                "seeds": {node: to_base64(share) for node, share in self.seeds.items()},
                "keys": {node: to_base64(share) for node, share in self.keys.items()},
            }
        )

    @classmethod
    def parse(cls, raw: bytes, summed: Collection[str], dropped: Collection[str]) -> Unmasking:
        """Of exactly the nodes `summed` and `dropped`.

        Raises:
            RefusedError: "malformed".
        """
        said = _of_format(raw, UNMASKING, {"seeds", "keys"})
        found = []
        for name, nodes in (("seeds", summed), ("keys", dropped)):
            one = said[name]
            if not isinstance(one, dict) or set(one) != set(nodes):
                raise _malformed()
            shares = {node: from_base64(share) for node, share in one.items()}
            if any(share is None or len(share) != SHARE_BYTES for share in shares.values()):
                raise _malformed()
            found.append({node: share for node, share in shares.items() if share is not None})
        return cls(*found)


def _of_format(raw: bytes, form: str, fields: set[str]) -> dict[str, Any]:
    said = parse_canonical_json(raw)
    if not isinstance(said, dict) or said.get("format") != form or set(said) != {"format", *fields}:
        raise _malformed()
    return said


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and len(value) == 64 and set(value) <= _HEX


def _malformed() -> RefusedError:
    return RefusedError(
        "malformed", "a message of the masked sum is not of the agreed form; update epgfn and run again"
    )
