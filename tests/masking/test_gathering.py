"""What the coordinator keeps of a masked sum: each node says each thing once, lists close once, and one node cannot stop the others."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epgfn.base.errors import RefusedError
from epgfn.masking.gathering import Gathering
from epgfn.masking.masks import Terms, Vector
from epgfn.masking.messages import Keys, Unmasking
from epgfn.masking.party import Party

NODES = ("east", "north", "south", "west")
TERMS = Terms("5" * 64, "round-1", NODES, 3, 6)
STEPS = ("keys", "shares", "masked", "signing", "unmasking")


class Sum:
    """Nodes and a coordinator that talk to each other, one step at a time."""

    def __init__(self, seed: int = 1, terms: Terms = TERMS) -> None:
        self.random = np.random.default_rng(seed).bytes
        self.parties = {node: Party.begin(terms, node, self.random) for node in NODES}
        self.numbers = {
            node: np.arange(6, dtype=np.uint64) + np.uint64(10 * i) for i, node in enumerate(NODES)
        }
        self.sum = Gathering(terms)

    def say(self, step: str, nodes: tuple[str, ...] = NODES) -> None:
        for node in nodes:
            self.sum = self.saying(step, node)(self.sum)

    def saying(self, step: str, node: str) -> Callable[[Gathering], Gathering]:
        """What a node says at this step, to be said as often as one likes."""
        now, party = self.sum, self.parties[node]
        if step == "keys":
            return lambda to: to.with_keys(node, party.public)
        if step == "shares":
            party = party.with_keys({one: now.keys[one] for one in now.keyed or ()}, self.random)
            message = party.shares or b""
            self.parties[node] = party
            return lambda to: to.with_shares(node, message)
        if step == "masked":
            sent = {one: now.shares[one].to[node] for one in now.sharing or () if one != node}
            self.parties[node], vector = party.with_shares(sent).masked(self.numbers[node])
            return lambda to: to.with_masked(node, vector)
        summed = now.summed or ()
        if step == "signing":
            self.parties[node] = party.signing(summed)
            return lambda to: to.with_signature(node, summed)
        self.parties[node] = party.unmasking(summed, now.signed)
        said = self.parties[node].said or b""
        return lambda to: to.with_unmasking(node, said)

    def upto(self, step: str) -> Sum:
        """Everything before it."""
        for one in STEPS[: STEPS.index(step)]:
            self.say(one)
            if one in STEPS[:3]:
                self.sum = self.sum.close()
        return self

    def wanted(self, nodes: tuple[str, ...]) -> Vector:
        result: Vector = np.sum([self.numbers[node] for node in nodes], 0, dtype=np.uint64)
        return result


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("gone", NODES[:2])
def test_one_that_is_gone_from_any_step_on_is_survived(step: str, gone: str) -> None:
    one = Sum()
    there = NODES
    for now in STEPS:
        if now == step:
            there = tuple(node for node in NODES if node != gone)
        assert one.sum.stage == now
        one.say(now, there)
        if now in STEPS[:3]:
            one.sum = one.sum.close()
    assert one.sum.complete
    in_it = NODES if step in ("signing", "unmasking") else there
    assert one.sum.summed == in_it
    assert np.array_equal(one.sum.total(), one.wanted(in_it))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 999), st.data())
def test_order_and_repetition_change_nothing(seed: int, data: st.DataObject) -> None:
    one = Sum(seed)
    for step in STEPS:
        order = tuple(data.draw(st.permutations(NODES)))
        for node in order:
            say = one.saying(step, node)
            one.sum = say(one.sum)
            again = say(one.sum)
            assert again.stage == one.sum.stage and again.missing == one.sum.missing
        if step in STEPS[:3]:
            one.sum = one.sum.close()
    assert np.array_equal(one.sum.total(), one.wanted(NODES))


@pytest.mark.parametrize("step", STEPS[:4])
def test_the_same_node_with_something_else_is_refused(step: str) -> None:
    """A home restored from a backup, or two with one key."""
    one, random = Sum().upto(step), np.random.default_rng(9).bytes
    one.say(step)
    other = Party.begin(TERMS, "north", random)
    says: dict[str, Callable[[], Gathering]] = {
        "keys": lambda: one.sum.with_keys("north", other.public),
        "shares": lambda: one.sum.with_shares(
            "north",
            dataclasses.replace(one.parties["north"], keys=None).with_keys(one.sum.keys, random).shares
            or b"",
        ),
        "masked": lambda: one.sum.with_masked("north", one.sum.masked["north"] + np.uint64(1)),
        "signing": lambda: one.sum.with_signature("north", NODES[:3]),
    }
    with pytest.raises(RefusedError) as error:
        says[step]()
    assert error.value.reason == ("other-list" if step == "signing" else "said-before")


@pytest.mark.parametrize("step", STEPS[:3])
def test_a_closed_list_takes_nobody_more_and_one_that_is_too_short_does_not_close(step: str) -> None:
    one = Sum().upto(step)
    one.say(step, NODES[:2])
    with pytest.raises(RefusedError, match="needs 3"):
        one.sum.close()
    late = one.saying(step, "west")
    one.say(step, NODES[2:3])
    one.sum = one.sum.close()
    with pytest.raises(RefusedError) as error:
        late(one.sum)
    assert error.value.reason == "sum-closed"
    if step == "keys":  # who is in the list may repeat what it said
        assert one.sum.with_keys("north", one.parties["north"].public) is one.sum


def test_steps_are_taken_in_their_order() -> None:
    start, whole = Sum().sum, Sum().upto("unmasking")
    for early in (
        lambda: start.with_shares("north", b"{}"),
        lambda: start.with_masked("north", np.zeros(6, np.uint64)),
        lambda: start.with_signature("north", NODES),
        lambda: start.with_unmasking("north", b"{}"),
        start.total,
        whole.sum.close,
    ):
        with pytest.raises(RefusedError) as error:
            early()
        assert error.value.reason == "sum-order"
    with pytest.raises(RefusedError) as error:
        whole.sum.total()
    assert error.value.reason == "sum-too-small"
    signed_by_two = Sum().upto("signing")
    signed_by_two.say("signing", NODES[:2])
    assert signed_by_two.sum.stage == "signing"
    said = signed_by_two.parties["north"].unmasking(NODES, NODES).said or b""  # as if more had signed
    with pytest.raises(RefusedError) as error:
        signed_by_two.sum.with_unmasking("north", said)
    assert error.value.reason == "sum-order"


def test_who_is_not_in_a_list_has_no_say_in_what_follows() -> None:
    with pytest.raises(RefusedError) as error:
        Sum().sum.with_keys("nobody", Sum().parties["north"].public)
    assert error.value.reason == "sum-list"
    one = Sum().upto("masked")
    one.say("masked", NODES[:3])
    one.sum = one.sum.close()
    with pytest.raises(RefusedError) as error:
        one.sum.with_signature("west", NODES[:3])
    assert error.value.reason == "sum-list"
    one.say("signing", NODES[:3])
    one.say("unmasking", NODES[:3])
    assert np.array_equal(one.sum.total(), one.wanted(NODES[:3]))


def test_keys_that_would_stop_everybody_are_refused_when_they_come() -> None:
    sum_ = Sum().sum.with_keys("east", Sum().parties["east"].public)
    good = Sum().parties["north"].public
    everybodys = bytes(32), (1).to_bytes(32, "little")  # points of small order
    for bad in (
        *(Keys(point, good.sharing) for point in everybodys),
        *(Keys(good.masking, point) for point in everybodys),
        Keys(good.masking, good.masking),
        Keys(sum_.keys["east"].sharing, good.sharing),
        Keys(good.masking[:31], good.sharing),
    ):
        with pytest.raises(RefusedError) as error:
            sum_.with_keys("north", bad)
        assert error.value.reason == "bad-key"
    assert sum_.with_keys("north", good).missing == ("south", "west")


def test_what_takes_masks_off_in_another_round_or_was_altered_is_refused() -> None:
    one = Sum().upto("unmasking")
    other = Sum(2, dataclasses.replace(TERMS, round_id="round-2")).upto("unmasking")
    other.say("unmasking")
    replayed = other.parties["north"].said or b""
    own = one.parties["north"].unmasking(NODES, NODES).said or b""
    said = Unmasking.parse(own, NODES, ())
    share = bytearray(said.seeds["south"])
    share[-1] ^= 1
    altered = Unmasking({**said.seeds, "south": bytes(share)}, {}).encode()
    both = Unmasking(said.seeds, {"south": said.seeds["south"]}).encode()
    for message, reason in ((replayed, "share-wrong"), (altered, "share-wrong"), (both, "malformed")):
        with pytest.raises(RefusedError) as error:
            one.sum.with_unmasking("north", message)
        assert error.value.reason == reason
    one.say("unmasking", NODES[1:])
    assert np.array_equal(one.sum.total(), one.wanted(NODES))


def test_a_vector_of_another_length_is_refused() -> None:
    one = Sum().upto("masked")
    for wrong in (np.zeros(5, np.uint64), np.zeros(6, np.int64)):
        with pytest.raises(RefusedError) as error:
            one.sum.with_masked("north", wrong)
        assert error.value.reason == "malformed"
