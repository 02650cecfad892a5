"""Promise: of a masked sum with N nodes and a quorum of t, a coordinator that lies as it likes, with k nodes on its side, gets one total at
most, of t nodes or more, and of no other node both secrets, as long as 2 t > N + k.

It shows each node lists of its own, again and again, in any order, across restarts; it has what its k nodes know, and they sign whatever it
likes. What it can then compute is worked out from what was said: a node's own mask is known by t shares of its seed, the masks of a pair by
t shares of either's masking key, and what is left is the sum over nodes that are joined by masks that are not known.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from itertools import combinations

import numpy as np
import pytest

from epgfn.base.errors import RefusedError
from epgfn.masking.masks import Terms, Vector, open_from, pair_mask, self_mask
from epgfn.masking.messages import Keys, Shares, Unmasking
from epgfn.masking.party import Party
from epgfn.masking.shamir import SHARE_BYTES, join

LENGTH = 2
Listed = frozenset[str]


class Attack:
    """N nodes, of which the last k side with the coordinator."""

    def __init__(self, n: int, threshold: int, k: int, seed: int) -> None:
        self.chance = np.random.default_rng(seed)
        roster = tuple(f"n{i}" for i in range(n))
        self.terms = Terms("5" * 64, "round-1", roster, threshold, LENGTH)
        self.parties = {node: Party.begin(self.terms, node, self.chance.bytes) for node in roster}
        self.honest, self.siding = roster[: n - k], roster[n - k :]
        self.keys = {node: party.public for node, party in self.parties.items()}
        self.dealt: dict[str, Shares] = {}
        self.seen: dict[str, Vector] = {}
        self.said: dict[str, Unmasking] = {}

    def numbers(self, node: str) -> Vector:
        return np.full(LENGTH, 1 << self.terms.place(node), np.uint64)

    # What it asks for -------------------------------------------------------------------------------------------

    def deal(self, node: str, keyed: Listed) -> None:
        party = self.parties[node].with_keys({one: self.keys[one] for one in keyed}, self.chance.bytes)
        assert party.keys is not None and party.shares is not None
        self.parties[node], self.dealt[node] = party, Shares.parse(party.shares, node, party.keys)

    def mask(self, node: str, sharing: Listed) -> None:
        shares = {one: self.dealt[one].to[node] for one in sharing if node in self.dealt[one].to}
        self.parties[node], self.seen[node] = (
            self.parties[node].with_shares(shares).masked(self.numbers(node))
        )

    def sign(self, node: str, listed: Listed) -> None:
        self.parties[node] = self.parties[node].signing(listed)

    def unmask(self, node: str, listed: Listed, signers: Collection[str] = ()) -> None:
        """`signers`: those that it can show to have signed this list, beside its own nodes."""
        true = [one for one in self.honest if self.parties[one].signed == tuple(sorted(listed))]
        party = self.parties[node].unmasking(listed, {*true, *self.siding, *signers})
        assert party.said is not None and party.held is not None
        self.parties[node] = party
        self.said[node] = Unmasking.parse(party.said, listed, set(party.held) - listed)

    def restart(self, node: str) -> None:
        self.parties[node] = Party.parse(self.parties[node].encode())

    def try_everything(self, lists: Iterable[Listed]) -> None:
        """Ask each honest node for each thing with each list, twice over, in an order of its own."""
        for ask in (self.deal, self.mask, self.sign, self.unmask, self.sign, self.unmask):
            for node in self.chance.permutation([*self.honest, *self.siding]):
                for listed in self.chance.permutation(np.array([*lists, None], object)[:-1]):
                    try:
                        ask(str(node), listed)
                    except (RefusedError, KeyError):
                        continue
                    if self.chance.random() < 0.3:
                        self.restart(str(node))

    # What it knows then -----------------------------------------------------------------------------------------

    def _shares(self, owner: str, kind: str) -> dict[int, bytes]:
        """Of one of an honest node's secrets, by place."""
        found = {}
        for node in self.siding if owner in self.dealt else ():
            if node in (to := self.dealt[owner].to):
                secret, public = self.parties[node].sharing_secret, self.keys[owner].sharing
                both = open_from(self.terms, secret, public, node, owner, to[node].sealed)
                found[self.terms.place(node)] = both[:SHARE_BYTES] if kind == "keys" else both[SHARE_BYTES:]
        for node in self.honest:
            said: Mapping[str, bytes] = getattr(self.said[node], kind) if node in self.said else {}
            if owner in said:
                found[self.terms.place(node)] = said[owner]
        return found

    def knows(self, owner: str, kind: str) -> bool:
        """Whether it has a node's secret: its seed, or its masking key ("keys")."""
        if owner in self.siding:
            return True
        shares = self._shares(owner, kind)
        if len(shares) < self.terms.threshold:
            return False
        secret = join(dict(list(shares.items())[: self.terms.threshold]))
        party = self.parties[owner]
        assert secret == (party.seed if kind == "seeds" else party.masking_secret)
        return True

    def learns(self) -> list[Listed]:
        """The sets of honest nodes of which it knows the sum."""
        known = {node: self.knows(node, "keys") for node in self.honest}
        joined: dict[str, set[str]] = {}
        for node in self.seen:
            if node in self.honest:
                held = self.parties[node].held or {}
                others = [one for one in held if one in self.honest and one != node]
                joined[node] = set() if known[node] else {one for one in others if not known[one]}
        found = []
        left = set(joined)
        while left:
            group, more = set[str](), {left.pop()}
            while more:
                group |= more
                more = {one for node in more for one in joined.get(node, ())} - group
            left -= group
            closed = all(node in joined and joined[node] <= group for node in group)
            both = closed and all(node in joined[one] for node in group for one in joined[node])
            if both and all(self.knows(node, "seeds") for node in group):
                self._require_sum(group)
                found.append(frozenset(group))
        return found

    def _require_sum(self, group: set[str]) -> None:
        """That it does come out."""
        total = np.zeros(LENGTH, np.uint64)
        for node in group:
            seed = join(dict(list(self._shares(node, "seeds").items())[: self.terms.threshold]))
            total += self.seen[node] - self_mask(self.terms, seed, node)
            for other in self.parties[node].held or {}:
                if other in self.siding:
                    secret = self.parties[other].masking_secret
                elif other != node and other not in group:
                    secret = join(dict(list(self._shares(other, "keys").items())[: self.terms.threshold]))
                else:
                    continue
                total += pair_mask(self.terms, secret, self.keys[node].masking, other, node)
        assert np.array_equal(total, sum((self.numbers(node) for node in group), np.zeros(LENGTH, np.uint64)))


SIZES = [(n, t) for n in range(3, 7) for t in range(max(3, n // 2 + 1), n + 1)]


@pytest.mark.parametrize(("n", "threshold"), SIZES)
def test_it_gets_one_total_at_most(n: int, threshold: int) -> None:
    successes = 0
    for seed in range(12):
        k = int(np.random.default_rng(seed).integers(0, min(2 * threshold - n, threshold)))
        attack = Attack(n, threshold, k, seed)
        roster = attack.terms.roster
        lists = [
            frozenset(str(one) for one in attack.chance.permutation(roster)[: attack.chance.integers(threshold, n + 1)])
            for _ in range(2)
        ]  # fmt: skip
        attack.try_everything(lists if seed % 2 else [frozenset(roster), *lists])
        for node in attack.honest:
            assert not (attack.knows(node, "seeds") and attack.knows(node, "keys"))
        found = attack.learns()
        successes += bool(found)
        assert len(found) <= 1
        assert all(len(group) >= threshold - k for group in found)
    assert successes or n == threshold


def all_masked(n: int, threshold: int, k: int) -> Attack:
    """Up to what each has under masks, honestly."""
    attack = Attack(n, threshold, k, 1)
    everybody = frozenset(attack.terms.roster)
    for node in everybody:
        attack.deal(node, everybody)
    for node in everybody:
        attack.mask(node, everybody)
    return attack


def test_with_one_more_on_its_side_it_gets_what_the_bound_says_that_it_may() -> None:
    # 2 * 3 = 4 + 2: each of two honest nodes is told that the other has dropped out.
    attack = all_masked(4, 3, 2)
    for node in attack.honest:
        listed = frozenset({node, *attack.siding})
        attack.sign(node, listed)
        attack.unmask(node, listed)
    assert all(attack.knows(node, kind) for node in attack.honest for kind in ("seeds", "keys"))
    assert set(attack.learns()) == {frozenset({"n0"}), frozenset({"n1"})}


def test_signatures_are_why_a_total_of_fewer_than_the_quorum_cannot_be_voted_for() -> None:
    # Each of seven is shown another list of four; n0 and n1 are in all of them, and each other one in three. Could the coordinator make up
    # signatures, it would have the sum of two nodes although four are needed. So keys that sign have to be the ones that began.
    others = [f"n{i}" for i in range(2, 7)]
    lists = {
        "n0": frozenset({"n0", "n1", *others[:2]}),
        "n1": frozenset({"n0", "n1", *others[2:4]}),
        **{node: frozenset({"n0", "n1", node, others[(i + 1) % 5]}) for i, node in enumerate(others)},
    }
    attack = all_masked(7, 4, 0)
    for node, listed in lists.items():
        attack.sign(node, listed)
    for node, listed in lists.items():
        with pytest.raises(RefusedError) as refused:
            attack.unmask(node, listed)
        assert refused.value.reason == "not-signed"
    assert not attack.learns()
    for node, listed in lists.items():
        attack.unmask(node, listed, signers=listed)
    assert attack.learns() == [frozenset({"n0", "n1"})]


def test_a_copied_home_counts_as_a_node_on_its_side() -> None:
    attack = all_masked(4, 3, 1)  # 2 * 3 > 4 + 1, and n2's home is copied before it signs: 2 * 3 = 4 + 2
    copied = attack.parties["n2"]
    first, second = frozenset({"n0", "n2", "n3"}), frozenset({"n1", "n2", "n3"})
    for node, listed in (("n0", first), ("n2", first)):
        attack.sign(node, listed)
    attack.unmask("n0", first)
    attack.unmask("n2", first)
    attack.sign("n1", second)
    with pytest.raises(RefusedError):
        attack.unmask("n1", second)  # two have signed, and three are needed
    with pytest.raises(RefusedError):
        attack.sign("n2", second)
    kept, said = attack.parties["n2"], attack.said["n2"]
    attack.parties["n2"] = copied
    attack.sign("n2", second)
    attack.unmask("n2", second)
    attack.unmask("n1", second)
    # What both copies have said: of n0 and n1 the shares of both secrets.
    assert set(said.keys) == {"n1"} and set(attack.said["n2"].keys) == {"n0"}
    assert "n0" in said.seeds and "n1" in attack.said["n2"].seeds
    # A copy from before the masks masks other numbers, and the difference is bare; one from after that refuses.
    with pytest.raises(RefusedError) as refused:
        kept.masked(attack.numbers("n2") + np.uint64(5))
    assert refused.value.reason == "masked-before"
    before = dataclasses.replace(kept, input_sha256=None, signed=None, said=None)
    _, other = before.masked(attack.numbers("n2") + np.uint64(5))
    assert (other - attack.seen["n2"] == 5).all()


def test_one_that_was_left_out_stays_under_its_own_mask_even_if_its_numbers_came() -> None:
    """What arrives too late, or is not let in, may be in the coordinator's hands while the others tell it that node's masking key."""
    attack = all_masked(5, 3, 0)
    listed = frozenset({"n0", "n1", "n2", "n3"})
    for node in sorted(listed):
        attack.sign(node, listed)
    for node in sorted(listed):
        attack.unmask(node, listed)
    assert attack.knows("n4", "keys") and not attack.knows("n4", "seeds")
    assert attack.learns() == [listed]
    with pytest.raises(RefusedError) as refused:
        attack.sign("n4", listed)
    assert refused.value.reason == "left-out"


@pytest.mark.parametrize(("n", "threshold", "k"), [(5, 3, 2), (5, 4, 3), (4, 3, 2)])
def test_one_that_keeps_to_the_protocol_learns_the_total_with_all_but_a_quorum(
    n: int, threshold: int, k: int
) -> None:
    for dropped in [(), *combinations(range(n), n - threshold)]:
        attack = all_masked(n, threshold, k)
        listed = frozenset(node for i, node in enumerate(attack.terms.roster) if i not in dropped)
        for node in sorted(listed):
            attack.sign(node, listed)
        for node in sorted(listed & set(attack.honest)):
            attack.unmask(node, listed)
        there = listed & set(attack.honest)
        assert attack.learns() == ([there] if there else [])
        for node in attack.honest:
            assert not (attack.knows(node, "seeds") and attack.knows(node, "keys"))


def test_keys_of_others_are_one_thing_for_good() -> None:
    attack = Attack(4, 3, 1, 1)
    everybody = frozenset(attack.terms.roster)
    for node in everybody:
        attack.deal(node, everybody)
    theirs = Party.begin(attack.terms, "n1", attack.chance.bytes).public
    for keys in (
        {**attack.keys, "n1": theirs},
        {**attack.keys, "n1": Keys(theirs.masking, attack.keys["n1"].sharing)},
    ):
        with pytest.raises(RefusedError) as refused:
            attack.parties["n0"].with_keys(keys, attack.chance.bytes)
        assert refused.value.reason == "other-list"
