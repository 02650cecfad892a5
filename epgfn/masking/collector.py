"""The coordinator's part in a masked sum: what it checks, and the total.

It sees public keys, shares that it cannot open, one masked vector of each node, and then for each node either shares of its seed or
shares of its masking key. From that it computes the total of exactly the nodes that have been agreed on, and nothing else of any of them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from epgfn.base.errors import RefusedError
from epgfn.masking.masks import Terms, Vector, commitment, pair_mask, public_of, self_mask
from epgfn.masking.messages import Keys, Shares, Unmasking
from epgfn.masking.shamir import join


def check_unmasking(terms: Terms, sender: str, said: Unmasking, shares: Mapping[str, Shares]) -> None:
    """Refuse shares that are not those which their owners have committed to, in their `shares` by node, for `sender`.

    Raises:
        RefusedError: "share-wrong".
    """
    for kind, given in (("masking key", said.keys), ("seed", said.seeds)):
        for owner, share in given.items():
            one = shares[owner].to[sender]
            committed = one.key if kind == "masking key" else one.seed
            if commitment(terms, f"share of a {kind}", share, owner, sender) != committed:
                raise RefusedError(
                    "share-wrong",
                    f"the share of the {kind} of {owner} that {sender} sends is not the one it was given; run the command again, and if "
                    "that does not help tell the coordinator's operator",
                )


def total(
    terms: Terms,
    keys: Mapping[str, Keys],
    shares: Mapping[str, Shares],
    masked: Mapping[str, Vector],
    said: Mapping[str, Unmasking],
) -> Vector:
    """(L,) the sum of what the nodes in `masked` have masked, modulo 2^64. `shares`: of every node that has sent some, those in `masked`
    and those that have dropped out since; `said`: of at least as many nodes as the threshold.

    Raises:
        RefusedError: "sum-too-small": they are fewer. "share-wrong": shares give another key or seed than their owner has published or
            committed to.
    """
    if min(len(said), len(masked)) < terms.threshold:
        raise RefusedError("sum-too-small", f"the total needs {terms.threshold} nodes")
    result = np.zeros(terms.length, np.uint64)
    for node in sorted(masked):
        seed = _joined(terms, {who: one.seeds[node] for who, one in said.items()})
        if commitment(terms, "seed", seed, node) != shares[node].seed:
            raise _broken(node, "seed")
        result += masked[node] - self_mask(terms, seed, node)
    for node in sorted(set(shares) - set(masked)):
        secret = _joined(terms, {who: one.keys[node] for who, one in said.items()})
        if public_of(secret) != keys[node].masking:
            raise _broken(node, "masking key")
        # What the dropped one would have added because of each of the others takes off what that one has added because of it.
        for other in sorted(masked):
            result += pair_mask(terms, secret, keys[other].masking, node, other)
    return result


def dropped(shares: Collection[str], masked: Collection[str]) -> set[str]:
    """Nodes that have sent shares and are not in the sum."""
    return set(shares) - set(masked)


def _joined(terms: Terms, shares: Mapping[str, bytes]) -> bytes:
    some = sorted(shares)[: terms.threshold]
    return join({terms.place(node): shares[node] for node in some})


def _broken(node: str, what: str) -> RefusedError:
    return RefusedError(
        "share-wrong",
        f"the shares of the {what} of {node} do not give it: {node} has dealt shares that do not fit each other; there is no result, ask "
        "that node, and run another round",
    )
