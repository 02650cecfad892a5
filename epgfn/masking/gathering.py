"""How far a masked sum has come, as the coordinator sees it: what each node has said, and which lists are closed.

    sum_ = Gathering(terms)
    sum_ = sum_.with_keys("north", keys)           ... of each node;  then sum_.close()
    sum_ = sum_.with_shares("north", message)      ... of each node of the list of keys;  then sum_.close()
    sum_ = sum_.with_masked("north", vector)       ... of each node of the list of shares;  then sum_.close()
    sum_ = sum_.with_signature("north", nodes)     ... of those in the sum, until as many as the threshold have signed
    sum_ = sum_.with_unmasking("north", message)   ... of as many of these
    sum_.total()

A value that is made again from what was said, in that order. Each node says each thing once: the same again changes nothing, anything
else is refused, and so is whatever comes after its list was closed. Keys that nobody could use are refused when they come, and shares that
take masks off are held against what their dealer has committed to, so that neither stops the other nodes; shares that do not open for whom
they are sealed to do, since only that node can see it. Who has sent what is for the caller to verify.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeVar

import numpy as np

from epgfn.base.errors import RefusedError
from epgfn.masking import collector
from epgfn.masking.masks import KEY_BYTES, Terms, Vector, agree
from epgfn.masking.messages import Keys, Shares, Unmasking

Stage = Literal["keys", "shares", "masked", "signing", "unmasking"]
"""What nodes are to say next."""
ANY_SECRET: Final = bytes(range(1, KEY_BYTES + 1))
"""A private key to try public ones with; it keeps nothing."""

Said = TypeVar("Said")


@dataclass(frozen=True, eq=False)
class Gathering:
    """`keys`, `shares`, `masked`, `signed`, `said`: by node, of those that have said it. `keyed`, `sharing`, `summed`: the lists
    of nodes whose keys, shares and masked numbers count, sorted; None while more may come."""

    terms: Terms
    keys: Mapping[str, Keys] = field(default_factory=dict)
    keyed: tuple[str, ...] | None = None
    shares: Mapping[str, Shares] = field(default_factory=dict)
    sharing: tuple[str, ...] | None = None
    masked: Mapping[str, Vector] = field(default_factory=dict)
    summed: tuple[str, ...] | None = None
    signed: frozenset[str] = frozenset()
    said: Mapping[str, Unmasking] = field(default_factory=dict)

    @property
    def stage(self) -> Stage:
        """The first that is not over."""
        if self.keyed is None:
            return "keys"
        if self.sharing is None:
            return "shares"
        if self.summed is None:
            return "masked"
        return "signing" if len(self.signed) < self.terms.threshold else "unmasking"

    @property
    def complete(self) -> bool:
        """Whether the total can be had."""
        return self.stage == "unmasking" and len(self.said) >= self.terms.threshold

    @property
    def missing(self) -> tuple[str, ...]:
        """Nodes that may still say what this stage is about, sorted."""
        among: Mapping[Stage, tuple[Collection[str], Collection[str]]] = {
            "keys": (self.terms.roster, self.keys),
            "shares": (self.keyed or (), self.shares),
            "masked": (self.sharing or (), self.masked),
            "signing": (self.summed or (), self.signed),
            "unmasking": (self.signed, self.said),
        }
        may, have = among[self.stage]
        return tuple(sorted(set(may) - set(have)))

    def with_keys(self, node: str, keys: Keys) -> Gathering:
        """Raises:
        RefusedError: "sum-list", "sum-closed", "said-before", as all of these; "bad-key": one is no usable X25519 key, or somebody
            has it already.
        """
        if self._repeats("keys", node, self.terms.roster, self.keys, self.keyed, lambda old: old == keys):
            return self
        theirs = {each for one in self.keys.values() for each in (one.masking, one.sharing)}
        if keys.masking == keys.sharing or theirs & {keys.masking, keys.sharing}:
            raise RefusedError(
                "bad-key", f"a key that {node} sends for the masked sum is one that there is already; tell it"
            )
        for public in (keys.masking, keys.sharing):
            agree(ANY_SECRET, public)
        return dataclasses.replace(self, keys={**self.keys, node: keys})

    def with_shares(self, node: str, message: bytes) -> Gathering:
        """Raises:
        RefusedError: "malformed" too.
        """
        keyed = self._after(self.keyed)
        said = Shares.parse(message, node, keyed)
        if self._repeats("shares", node, keyed, self.shares, self.sharing, lambda old: old == said):
            return self
        return dataclasses.replace(self, shares={**self.shares, node: said})

    def with_masked(self, node: str, vector: Vector) -> Gathering:
        """Raises:
        RefusedError: "malformed" too: it has another length.
        """
        sharing = self._after(self.sharing)
        if vector.shape != (self.terms.length,) or vector.dtype != np.uint64:
            raise RefusedError(
                "malformed", f"the masked numbers of {node} are not as many as the study asks for"
            )
        if self._repeats(
            "masked numbers", node, sharing, self.masked, self.summed, lambda old: np.array_equal(old, vector)
        ):
            return self
        return dataclasses.replace(self, masked={**self.masked, node: vector})

    def close(self) -> Gathering:
        """The list of this stage as it is, for good: no more keys, shares or masked numbers.

        Raises:
            RefusedError: "sum-too-small": it has fewer nodes than the threshold. "sum-order": all three lists are closed.
        """
        lists: Mapping[Stage, tuple[str, Collection[str]]] = {
            "keys": ("keyed", self.keys),
            "shares": ("sharing", self.shares),
            "masked": ("summed", self.masked),
        }
        if self.stage not in lists:
            raise _too_early()
        name, nodes = lists[self.stage]
        if len(nodes) < self.terms.threshold:
            raise RefusedError(
                "sum-too-small",
                f"{len(nodes)} nodes have sent their part of the masked sum, and it needs {self.terms.threshold}; wait for more",
            )
        closed = {name: tuple(sorted(nodes))}
        return dataclasses.replace(self, **closed)  # type: ignore[arg-type]

    def with_signature(self, node: str, nodes: Collection[str]) -> Gathering:
        """Raises:
        RefusedError: "other-list" too: it has signed another list than that of the sum.
        """
        summed = self._after(self.summed)
        _require_listed(node, summed)
        if tuple(sorted(set(nodes))) != summed:
            raise RefusedError(
                "other-list", f"{node} has signed another list of nodes than that of the masked sum"
            )
        return dataclasses.replace(self, signed=self.signed | {node})

    def with_unmasking(self, node: str, message: bytes) -> Gathering:
        """Raises:
        RefusedError: "sum-order" too: too few have signed; "malformed", "share-wrong".
        """
        summed = self._after(self.summed)
        if self.stage != "unmasking":
            raise _too_early()
        said = Unmasking.parse(message, summed, collector.dropped(self._after(self.sharing), summed))
        if self._repeats("shares of masks", node, self.signed, self.said, None, lambda old: old == said):
            return self
        collector.check_unmasking(self.terms, node, said, self.shares)
        return dataclasses.replace(self, said={**self.said, node: said})

    def total(self) -> Vector:
        """(L,) of exactly the nodes in `summed`. Raises as `collector.total`."""
        self._after(self.summed)
        return collector.total(self.terms, self.keys, self.shares, self.masked, self.said)

    def _after(self, closed: tuple[str, ...] | None) -> tuple[str, ...]:
        if closed is None:
            raise _too_early()
        return closed

    def _repeats(
        self,
        what: str,
        node: str,
        may: Collection[str],
        have: Mapping[str, Said],
        closed: tuple[str, ...] | None,
        same: Callable[[Said], bool],
    ) -> bool:
        """Whether the node has said this before; refused if it may not say it at all, or not any more, or said something else."""
        _require_listed(node, may)
        if node in have:
            if not same(have[node]):
                raise RefusedError(
                    "said-before",
                    f"{node} has sent other {what} for this masked sum before, and only the first count; was it restored from a backup, "
                    "or is there another with its key?",
                )
            return True
        if closed is not None:
            raise RefusedError(
                "sum-closed",
                f"the {what} of {node} come after their list was closed; it sits this round out, and nothing of it is in the total",
            )
        return False


def _require_listed(node: str, may: Collection[str]) -> None:
    if node not in may:
        raise RefusedError(
            "sum-list", f"{node} has no part in this step of the masked sum; it sits this round out"
        )


def _too_early() -> RefusedError:
    return RefusedError("sum-order", "this step of the masked sum is not due; run the command again later")
