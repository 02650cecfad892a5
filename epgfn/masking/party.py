"""One node's part in a masked sum, as a value that is kept before anything it implies is sent.

    party = Party.begin(terms, "north", secrets.token_bytes)     keys
    party = party.with_keys(everybody's, secrets.token_bytes)    shares to send: party.shares
    party = party.with_shares(those for this node)               from here on it can mask
    party, masked = party.masked(numbers)                        once, for one vector
    party = party.signing(nodes)                                 once, for one list of nodes
    party = party.unmasking(nodes, signers)                      once: what takes the masks off

Each step may be repeated with what it was taken with, and gives the same; with anything else it is refused, for good. So whoever asks
twice, two coordinators with the same keys, and a node that was restarted get no more out of it than one coordinator that asks once: of each
other node either the share of its seed or that of its masking key, and of its own numbers one masked vector.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from epgfn.base.canonical import canonical_json, parse_canonical_json
from epgfn.base.encoding import from_base64, to_base64
from epgfn.base.errors import EpgfnError, RefusedError
from epgfn.masking.masks import (
    NONCE_BYTES,
    Terms,
    Vector,
    agree,
    commitment,
    open_from,
    pair_mask,
    public_of,
    seal_to,
    self_mask,
)
from epgfn.masking.messages import Keys, Share, Shares, Unmasking
from epgfn.masking.shamir import SECRET_BYTES, SHARE_BYTES, RandomBytes, split

FORMAT: Final = "epgfn-masked-sum/v1"

Pair = tuple[bytes, bytes]
"""A node's shares of another's masking key and of its seed."""


@dataclass(frozen=True, repr=False)
class Party:
    """What one node keeps of a sum, its secrets among it. `keys`: everybody's, once their list is known. `shares`: what it sends to
    the others. `held`: its shares of each node that goes on. `input_sha256`: of the numbers that it has masked. `signed`: the nodes whose
    total it has agreed to. `said`: what it has said to take the masks off."""

    terms: Terms
    node: str
    masking_secret: bytes
    sharing_secret: bytes
    seed: bytes
    keys: Mapping[str, Keys] | None = None
    shares: bytes | None = None
    own: Pair | None = None
    held: Mapping[str, Pair] | None = None
    input_sha256: str | None = None
    signed: tuple[str, ...] | None = None
    said: bytes | None = None

    def __repr__(self) -> str:
        """Without secrets, which would otherwise stand in any trace or log that shows it."""
        return f"Party({self.node!r} of round {self.terms.round_id!r})"

    @classmethod
    def begin(cls, terms: Terms, node: str, random: RandomBytes) -> Party:
        """With fresh secrets, good for this sum alone."""
        return cls(terms, node, random(SECRET_BYTES), random(SECRET_BYTES), random(SECRET_BYTES))

    @property
    def public(self) -> Keys:
        """What everybody may know.

        Raises:
            RefusedError: "sum-order": the sum is over, and the keys are anybody's.
        """
        if self.is_over:
            raise _too_early()
        return Keys(public_of(self.masking_secret), public_of(self.sharing_secret))

    def with_keys(self, keys: Mapping[str, Keys], random: RandomBytes) -> Party:
        """Once the list of nodes and their keys is known: shares for each of them.

        Raises:
            RefusedError: "other-list": it was another before. "own-key": this node's own keys are missing or others. "sum-too-small": they
                are fewer than the threshold. "sum-list": a node that is not in the roster, or two with one key. "bad-key": one is no
                usable key.
        """
        if self.keys is not None:
            if dict(self.keys) != dict(keys):
                raise _other("keys")
            return self
        terms = self.terms
        if keys.get(self.node) != self.public:
            raise RefusedError(
                "own-key",
                "the keys of the masked sum that the coordinator shows for this node are not its own; nothing is sent; tell the "
                "other nodes",
            )
        self._require_enough(keys, terms.roster)
        if len({each for one in keys.values() for each in (one.masking, one.sharing)}) != 2 * len(keys):
            raise RefusedError(
                "sum-list", "two nodes of the masked sum have the same key; tell the other nodes"
            )
        nodes = sorted(keys)
        places = [terms.place(node) for node in nodes]
        of_key = split(self.masking_secret, terms.threshold, places, random)
        of_seed = split(self.seed, terms.threshold, places, random)
        to = {}
        for node in nodes:
            one, other = of_key[terms.place(node)], of_seed[terms.place(node)]
            sealed = b""
            if node != self.node:
                agree(self.masking_secret, keys[node].masking)  # refused now, not when the numbers are masked
                nonce = random(NONCE_BYTES)
                sealed = seal_to(
                    terms, self.sharing_secret, keys[node].sharing, self.node, node, one + other, nonce
                )
            to[node] = Share(sealed, *_commitments(terms, self.node, node, one, other))
        own = terms.place(self.node)
        message = Shares(commitment(terms, "seed", self.seed, self.node), to)
        return dataclasses.replace(
            self, keys=dict(keys), shares=message.encode(), own=(of_key[own], of_seed[own])
        )

    def with_shares(self, shares: Mapping[str, Share]) -> Party:
        """Once it is known which nodes have sent shares: those for this node, by sender, of every other node that has.

        Raises:
            RefusedError: "other-list", "sum-too-small", "sum-list", as `with_keys`; "share-wrong": one does not open, or is not what its
                sender has committed to.
        """
        if self.keys is None or self.own is None:
            raise _too_early()
        nodes = {*shares, self.node}
        if self.held is not None:
            if set(self.held) != nodes:
                raise _other("shares")
            return self
        self._require_enough(nodes, self.keys)
        held = {self.node: self.own}
        for sender, one in sorted(shares.items()):
            if sender == self.node:
                continue
            peer = self.keys[sender].sharing
            text = open_from(self.terms, self.sharing_secret, peer, self.node, sender, one.sealed)
            pair = text[:SHARE_BYTES], text[SHARE_BYTES:]
            if _commitments(self.terms, sender, self.node, *pair) != (one.key, one.seed):
                raise RefusedError(
                    "share-wrong",
                    f"the shares that {sender} sealed for this node are not those it has signed; nothing is sent, tell {sender}",
                )
            held[sender] = pair
        return dataclasses.replace(self, held=held)

    def masked(self, numbers: Vector) -> tuple[Party, Vector]:
        """(L,) numbers as the coordinator may see them.

        Raises:
            RefusedError: "masked-before": other numbers were, and the difference of two would be bare.
        """
        if self.keys is None or self.held is None:
            raise _too_early()
        if numbers.shape != (self.terms.length,):
            raise ValueError(f"numbers of a masked sum have the shape ({self.terms.length},)")
        digest = hashlib.sha256(numbers.astype("<u8").tobytes()).hexdigest()
        if self.input_sha256 not in (None, digest):
            raise RefusedError(
                "masked-before",
                "this node has masked other numbers in this round, and masks hide only one vector: whoever saw both would know their "
                "difference. Send what was masked first, or sit this round out",
            )
        result = numbers.astype(np.uint64) + self_mask(self.terms, self.seed, self.node)
        for peer in sorted(self.held):
            if peer != self.node:
                result += pair_mask(self.terms, self.masking_secret, self.keys[peer].masking, self.node, peer)
        return dataclasses.replace(self, input_sha256=digest), result

    def signing(self, nodes: Iterable[str]) -> Party:
        """Agree that the total is of exactly these nodes.

        Raises:
            RefusedError: "other-list": it has agreed to others. "left-out": it is not among them although it has masked its numbers.
                "sum-too-small", "sum-list": there are too few, or one has sent no shares.
        """
        if self.held is None or self.input_sha256 is None:
            raise _too_early()
        listed = tuple(sorted(set(nodes)))
        if self.signed is not None:
            if self.signed != listed:
                raise _other("uploads")
            return self
        if self.node not in listed:
            raise RefusedError(
                "left-out", "the masked sum is to be without this node, which helps to take no masks off then"
            )
        self._require_enough(listed, self.held)
        return dataclasses.replace(self, signed=listed)

    def unmasking(self, nodes: Iterable[str], signers: Collection[str]) -> Party:
        """Say what takes the masks off the total of `nodes`, which each of `signers` has signed too: `said` then.

        Raises:
            RefusedError: "not-signed": this is not what this node has signed, or fewer than the threshold have.
        """
        listed = tuple(sorted(set(nodes)))
        if self.held is None or self.signed is None or self.signed != listed:
            raise RefusedError(
                "not-signed",
                "the coordinator asks to take the masks off another total than this node has signed; nothing is sent, tell the other nodes",
            )
        if len(set(signers) & set(listed)) < self.terms.threshold:
            raise RefusedError(
                "not-signed",
                f"fewer than {self.terms.threshold} nodes have signed who is in the masked sum, so nothing is said that takes masks off",
            )
        if self.said is not None:
            return self
        seeds = {node: self.held[node][1] for node in listed}
        keys = {node: pair[0] for node, pair in self.held.items() if node not in seeds}
        return dataclasses.replace(self, said=Unmasking(seeds, keys).encode())

    @property
    def is_over(self) -> bool:
        """Whether its secrets are gone."""
        return not any(self.seed)

    def without_secrets(self) -> Party:
        """What is kept once the sum is over: what was agreed to, and nothing that opens anything."""
        none = bytes(SECRET_BYTES)
        return dataclasses.replace(
            self,
            masking_secret=none,
            sharing_secret=none,
            seed=none,
            own=None,
            held=None,
            shares=None,
            said=None,
        )

    def _require_enough(self, nodes: Collection[str], among: Collection[str]) -> None:
        if not set(nodes) <= set(among) or self.node not in nodes:
            raise RefusedError(
                "sum-list",
                "the list of the masked sum names a node that cannot be in it, or not this one; nothing is sent, tell the other nodes",
            )
        if len(nodes) < self.terms.threshold:
            raise RefusedError(
                "sum-too-small",
                f"the masked sum is to be of {len(nodes)} nodes, fewer than the study's quorum of {self.terms.threshold}; nothing is sent",
            )

    # On disk ----------------------------------------------------------------------------------------------------

    def encode(self) -> bytes:
        """Canonical JSON; secret."""
        terms = dataclasses.asdict(self.terms) | {"roster": list(self.terms.roster)}
        pairs = (
            None
            if self.held is None
            else {n: [to_base64(a), to_base64(b)] for n, (a, b) in self.held.items()}
        )
        keys = None
        if self.keys is not None:
            keys = {n: [to_base64(k.masking), to_base64(k.sharing)] for n, k in self.keys.items()}
        return canonical_json(
            {
                "format": FORMAT,
                "terms": terms,
                "node": self.node,
                "masking_secret": to_base64(self.masking_secret),
                "sharing_secret": to_base64(self.sharing_secret),
                "seed": to_base64(self.seed),
                "keys": keys,
                "shares": None if self.shares is None else to_base64(self.shares),
                "own": None if self.own is None else [to_base64(one) for one in self.own],
                "held": pairs,
                "input_sha256": self.input_sha256,
                "signed": None if self.signed is None else list(self.signed),
                "said": None if self.said is None else to_base64(self.said),
            }
        )

    @classmethod
    def parse(cls, raw: bytes) -> Party:
        """What `encode` wrote.

        Raises:
            EpgfnError: it is not that.
        """
        try:
            said: Any = parse_canonical_json(raw)
            if said["format"] != FORMAT:
                raise ValueError
            terms = said["terms"]
            return cls(
                Terms(
                    terms["study_digest"],
                    terms["round_id"],
                    tuple(terms["roster"]),
                    terms["threshold"],
                    terms["length"],
                ),
                said["node"],
                _read(said["masking_secret"]),
                _read(said["sharing_secret"]),
                _read(said["seed"]),
                None
                if said["keys"] is None
                else {n: Keys(*map(_read, pair)) for n, pair in said["keys"].items()},
                None if said["shares"] is None else _read(said["shares"]),
                None if said["own"] is None else _pair(said["own"]),
                None if said["held"] is None else {n: _pair(pair) for n, pair in said["held"].items()},
                said["input_sha256"],
                None if said["signed"] is None else tuple(said["signed"]),
                None if said["said"] is None else _read(said["said"]),
            )
        except (RefusedError, KeyError, TypeError, ValueError, AttributeError):
            raise EpgfnError("the state of the masked sum is damaged; this node sits the round out") from None


def _read(text: object) -> bytes:
    raw = from_base64(text)
    if raw is None:
        raise ValueError("no base64")
    return raw


def _pair(said: list[str]) -> Pair:
    one, other = map(_read, said)
    return one, other


def _commitments(terms: Terms, sender: str, receiver: str, key: bytes, seed: bytes) -> tuple[str, str]:
    return (
        commitment(terms, "share of a masking key", key, sender, receiver),
        commitment(terms, "share of a seed", seed, sender, receiver),
    )


def _too_early() -> RefusedError:
    return RefusedError(
        "sum-order", "a step of the masked sum comes before those that it needs; run the command again"
    )


def _other(what: str) -> RefusedError:
    return RefusedError(
        "other-list",
        f"the coordinator shows another list of {what} of the masked sum than before, which would let it ask for more than one total; "
        "nothing is sent, tell the other nodes and your auditor",
    )
