"""A masked sum without files or calls: the total is right whoever drops out, no node says more than it may, and what the coordinator sees
of a node is uniform."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2, kstest

from epgfn.base.encoding import to_base64
from epgfn.base.errors import EpgfnError, RefusedError
from epgfn.masking import shamir
from epgfn.masking.collector import check_unmasking, total
from epgfn.masking.masks import Terms, Vector, agree, derive, pair_mask, public_of, self_mask, stream
from epgfn.masking.messages import Shares, Unmasking
from epgfn.masking.party import Party

NODES = ("east", "north", "south", "west")
TERMS = Terms("5" * 64, "round-1", NODES, 3, 6)


def seeded(seed: int) -> shamir.RandomBytes:
    """Chance that can be had again."""
    return np.random.default_rng(seed).bytes


class Sum:
    """All parties of one, in this process."""

    def __init__(self, terms: Terms = TERMS, seed: int = 1, nodes: tuple[str, ...] = NODES) -> None:
        self.terms, self.random = terms, seeded(seed)
        self.parties = {node: Party.begin(terms, node, self.random) for node in nodes}
        self.keys = {node: party.public for node, party in self.parties.items()}
        self.shares: dict[str, Shares] = {}
        self.masked: dict[str, Vector] = {}
        self.said: dict[str, Unmasking] = {}

    def share(self, *nodes: str) -> None:
        for node in nodes or self.parties:
            self.parties[node] = self.parties[node].with_keys(self.keys, self.random)
            raw = self.parties[node].shares
            assert raw is not None
            self.shares[node] = Shares.parse(raw, node, self.keys)

    def mask(self, numbers: dict[str, Vector]) -> None:
        for node, own in numbers.items():
            others = {sender: one.to[node] for sender, one in self.shares.items() if sender != node}
            party = self.parties[node].with_shares(others)
            self.parties[node], self.masked[node] = party.masked(own)

    def sign(self, *nodes: str) -> None:
        for node in nodes or tuple(self.masked):
            self.parties[node] = self.parties[node].signing(self.masked)

    def unmask(self, *nodes: str, signers: tuple[str, ...] | None = None) -> None:
        for node in nodes or tuple(self.masked):
            party = self.parties[node].unmasking(self.masked, signers or tuple(self.masked))
            self.parties[node] = Party.parse(party.encode())
            raw = self.parties[node].said
            assert raw is not None
            said = Unmasking.parse(raw, self.masked, set(self.shares) - set(self.masked))
            check_unmasking(self.terms, node, said, self.shares)
            self.said[node] = said

    @property
    def total(self) -> Vector:
        return total(self.terms, self.keys, self.shares, self.masked, self.said)


def some(seed: int, nodes: tuple[str, ...] = NODES, length: int = 6) -> dict[str, Vector]:
    rng = np.random.default_rng(seed)
    return {node: rng.integers(0, 1 << 64, length, dtype=np.uint64) for node in nodes}


# Known answers ------------------------------------------------------------------------------------------------------


def test_shares_of_the_example_that_everybody_knows() -> None:
    # Wikipedia, "Shamir's secret sharing": 1234 + 166 x + 94 x^2 modulo 1613.
    points = {place: shamir.evaluate([1234, 166, 94], place, 1613) for place in range(1, 7)}
    assert points == {1: 1494, 2: 329, 3: 965, 4: 176, 5: 1188, 6: 775}
    assert shamir.at_zero({place: points[place] for place in (2, 4, 5)}, 1613) == 1234


def test_the_field_is_that_of_a_prime_and_the_smallest_above_all_secrets() -> None:
    def is_prime(n: int) -> bool:  # Miller and Rabin, to enough bases that it is by chance below 2^-100
        odd, twos = n - 1, 0
        while odd % 2 == 0:
            odd, twos = odd // 2, twos + 1
        for base in range(2, 54):
            x = pow(base, odd, n)
            if x not in (1, n - 1) and all((x := x * x % n) != n - 1 for _ in range(twos - 1)):
                return False
        return True

    assert is_prime(shamir.PRIME)
    assert not any(is_prime(n) for n in range(1 << 256, shamir.PRIME))


def test_the_key_agreement_of_rfc_7748() -> None:
    alice = bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
    bob = bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
    assert public_of(alice).hex() == "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
    shared = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"
    assert agree(alice, public_of(bob)).hex() == agree(bob, public_of(alice)).hex() == shared
    with pytest.raises(RefusedError, match="no usable X25519 key"):
        agree(alice, bytes(32))


def test_the_derivation_of_rfc_5869_and_the_stream_of_rfc_8439() -> None:
    assert (
        derive(b"\x0b" * 22, b"").hex() == "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"
    )
    first = stream(bytes(32), 8).astype("<u8").tobytes().hex()
    assert first == (
        "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7"
        "da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586"
    )


# Properties ---------------------------------------------------------------------------------------------------------


@given(secret=st.binary(min_size=32, max_size=32), seed=st.integers(0, 1 << 30), data=st.data())
@settings(max_examples=30, deadline=None)
def test_any_threshold_of_the_shares_give_the_secret_and_one_fewer_do_not(
    secret: bytes, seed: int, data: st.DataObject
) -> None:
    n = data.draw(st.integers(2, 9))
    threshold = data.draw(st.integers(2, n))
    places = data.draw(st.permutations(range(1, n + 1)))
    shares = shamir.split(secret, threshold, places, seeded(seed))
    assert {len(share) for share in shares.values()} == {shamir.SHARE_BYTES}
    assert shamir.join({place: shares[place] for place in places[:threshold]}) == secret
    fewer = {place: shamir.element_of(shares[place]) for place in places[: threshold - 1]}
    assert shamir.at_zero(fewer) != int.from_bytes(secret, "big")


def test_fewer_shares_than_the_threshold_go_with_any_secret() -> None:
    # For every other secret there is exactly one polynomial through the same two shares: they say nothing.
    shares = shamir.split(bytes(32), 3, [1, 2, 3], seeded(1))
    two = {place: shamir.element_of(shares[place]) for place in (1, 2)}
    for secret in (0, 1, 1 << 255):
        third = shamir.at_zero({-3: secret, **{place - 3: y for place, y in two.items()}}) % shamir.PRIME
        assert shamir.at_zero({**two, 3: third}) == secret


@given(seed=st.integers(0, 1 << 30), data=st.data())
@settings(max_examples=20, deadline=None)
def test_the_total_is_that_of_who_has_sent_whoever_drops_out(seed: int, data: st.DataObject) -> None:
    threshold = data.draw(st.integers(2, 4))
    terms = dataclasses.replace(TERMS, threshold=threshold)
    order = data.draw(st.permutations(NODES))
    sharing, sending, telling = (
        data.draw(st.integers(threshold, 4)) if threshold < 4 else 4 for _ in range(3)
    )
    sending, telling = min(sharing, sending), min(sharing, sending, telling)
    numbers = {node: one for node, one in some(seed).items() if node in order[:sending]}
    found = Sum(terms, seed)
    found.share(*order[:sharing])
    found.mask(numbers)
    found.sign()
    found.unmask(*order[:telling])
    assert np.array_equal(found.total, sum(numbers.values(), np.zeros(6, np.uint64)))


def test_the_masks_of_two_cancel() -> None:
    one, other = (seeded(seed)(32) for seed in (1, 2))
    there = pair_mask(TERMS, one, public_of(other), "north", "south")
    back = pair_mask(TERMS, other, public_of(one), "south", "north")
    assert not (there + back).any() and there.all()
    another = dataclasses.replace(TERMS, round_id="round-2")
    assert not np.array_equal(pair_mask(another, one, public_of(other), "north", "south"), there)


# What a node says, and to whom --------------------------------------------------------------------------------------


def ready(seed: int = 1) -> Sum:
    """All have sent, and south has dropped out before."""
    found = Sum(seed=seed)
    found.share()
    found.mask({node: one for node, one in some(seed).items() if node != "south"})
    return found


def reason(error: pytest.ExceptionInfo[RefusedError]) -> str:
    return error.value.reason


def test_of_no_node_both_shares_leave() -> None:
    found = ready()
    found.sign()
    found.unmask()
    for said in found.said.values():
        assert set(said.keys) == {"south"} and set(said.seeds) == {"east", "north", "west"}
    north = found.parties["north"]
    for nodes in (NODES, ("east", "north", "south"), ("east", "north")):
        with pytest.raises(RefusedError) as refused:
            north.unmasking(nodes, NODES)
        assert reason(refused) == "not-signed"
        with pytest.raises(RefusedError) as refused:
            north.signing(nodes)
        assert reason(refused) == "other-list"


def test_nothing_is_said_before_enough_have_signed_the_same_list() -> None:
    found = ready()
    with pytest.raises(RefusedError) as refused:
        found.parties["north"].unmasking(found.masked, NODES)
    assert reason(refused) == "not-signed"
    found.sign()
    for signers in ((), ("north",), ("north", "east", "south"), ("north", "north", "east")):
        with pytest.raises(RefusedError) as refused:
            found.parties["north"].unmasking(found.masked, signers)
        assert reason(refused) == "not-signed"


def test_two_lists_cannot_both_be_signed_by_enough() -> None:
    # A coordinator that shows two nodes one list and two another gets neither.
    found = Sum()
    found.share()
    found.mask(some(1))
    parties = found.parties
    first = [parties[node].signing(("east", "north", "south")) for node in ("east", "north")]
    second = [parties[node].signing(("south", "west", "north")) for node in ("south", "west")]
    for party, nodes in ((first[0], ("east", "north", "south")), (second[0], ("south", "west", "north"))):
        with pytest.raises(RefusedError):
            party.unmasking(nodes, ("east", "north") if party in first else ("south", "west"))


def test_a_node_masks_one_vector_and_takes_one_list_of_each_kind() -> None:
    found = ready()
    north, numbers = found.parties["north"], some(1)["north"]
    again, same = north.masked(numbers)
    assert again == north and np.array_equal(same, found.masked["north"])
    with pytest.raises(RefusedError) as refused:
        north.masked(numbers + np.uint64(1))
    assert reason(refused) == "masked-before"
    with pytest.raises(RefusedError) as refused:
        north.with_keys({**found.keys, "south": found.keys["west"]}, found.random)
    assert reason(refused) == "other-list"
    fewer = {node: one.to["north"] for node, one in found.shares.items() if node in ("east", "west")}
    with pytest.raises(RefusedError) as refused:
        north.with_shares(fewer)
    assert reason(refused) == "other-list"
    assert north.with_keys(found.keys, found.random) == north


def test_a_list_that_is_too_small_or_false_is_taken_by_nobody() -> None:
    found = Sum()
    north = found.parties["north"]
    others = {node: found.keys[node] for node in ("east", "north")}
    wrong = {
        "sum-too-small": others,
        "own-key": {**found.keys, "north": found.keys["east"]},
        "sum-list": {**found.keys, "south": found.keys["east"]},
    }
    for expected, keys in wrong.items():
        with pytest.raises(RefusedError) as refused:
            north.with_keys(keys, found.random)
        assert reason(refused) == expected
    found.share()
    found.mask(some(1))
    with pytest.raises(RefusedError) as refused:
        found.parties["north"].signing(("east", "south", "west"))
    assert reason(refused) == "left-out"
    with pytest.raises(RefusedError) as refused:
        found.parties["north"].signing(("east", "north"))
    assert reason(refused) == "sum-too-small"


def test_a_share_of_another_round_or_altered_on_the_way_opens_for_nobody() -> None:
    found, other = Sum(), Sum(dataclasses.replace(TERMS, round_id="round-2"))
    other.parties = {
        node: dataclasses.replace(party, terms=other.terms) for node, party in found.parties.items()
    }
    other.keys = found.keys
    found.share()
    other.share()
    mine = {node: one.to["north"] for node, one in found.shares.items() if node != "north"}
    replayed = {**mine, "south": other.shares["south"].to["north"]}
    flipped = bytes([mine["south"].sealed[0] ^ 1]) + mine["south"].sealed[1:]
    altered = {**mine, "south": dataclasses.replace(mine["south"], sealed=flipped)}
    exchanged = {**mine, "south": mine["west"]}
    committed = {**mine, "south": dataclasses.replace(mine["south"], key="0" * 64)}
    for each in (replayed, altered, exchanged, committed):
        with pytest.raises(RefusedError) as refused:
            found.parties["north"].with_shares(each)
        assert reason(refused) == "share-wrong"


def test_an_altered_share_is_found_and_its_sender_named() -> None:
    found = ready()
    found.sign()
    found.unmask("east", "west")
    north = found.parties["north"].unmasking(found.masked, NODES)
    assert north.said is not None
    said = Unmasking.parse(north.said, found.masked, {"south"})
    wrong = dataclasses.replace(said, keys={"south": said.seeds["east"]})
    with pytest.raises(RefusedError, match="of south that north sends"):
        check_unmasking(TERMS, "north", wrong, found.shares)
    # A node that has dealt shares which do not fit each other is named, too, and no wrong total comes of it.
    found.said["north"] = wrong
    with pytest.raises(RefusedError, match=r"of south|do not fit each other"):
        _ = found.total


def test_two_nodes_cannot_get_a_total() -> None:
    found = ready()
    found.sign()
    found.unmask("east", "west")
    with pytest.raises(RefusedError) as refused:
        _ = found.total
    assert reason(refused) == "sum-too-small"


def test_what_is_kept_is_read_again_or_refused() -> None:
    found = ready()
    found.sign()
    found.unmask()
    party = found.parties["north"]
    raw = party.encode()
    assert Party.parse(raw) == party
    for wrong in (b"", b"{}", raw[:-1], raw.replace(b"masked-sum/v1", b"masked-sum/v2", 1)):
        with pytest.raises(EpgfnError):
            Party.parse(wrong)
    bare = party.without_secrets()
    for secret in (party.seed, party.masking_secret, party.sharing_secret):
        assert secret not in (bare.seed, bare.masking_secret, bare.sharing_secret)
    assert bare.held is None and bare.said is None and bare.signed == party.signed


def test_no_secret_is_shown_by_a_value_that_is_printed() -> None:
    found = ready()
    found.sign()
    found.unmask()
    party, said = found.parties["north"], found.said["north"]
    assert party.own is not None and party.held is not None
    secrets = [party.masking_secret, party.sharing_secret, party.seed, *party.own]
    secrets += [share for pair in party.held.values() for share in pair]
    shown = f"{party!r} {party} {said!r} {said}"
    assert "north" in shown
    for secret in secrets:
        assert (
            repr(secret)[2:-1] not in shown and secret.hex() not in shown and to_base64(secret) not in shown
        )


# What the coordinator sees ------------------------------------------------------------------------------------------


def chi_square(seen: bytes) -> float:
    """The probability of bytes as uneven as these, or more, if they are uniform and independent."""
    counts = np.bincount(np.frombuffer(seen, np.uint8), minlength=256)
    expected = len(seen) / 256
    return float(chi2.sf(((counts - expected) ** 2 / expected).sum(), 255))


def test_the_coordinators_view_of_a_node_is_uniform_in_a_thousand_transcripts() -> None:
    """What it receives, and what is left once it has taken off all masks of that node that it ever learns of. The numbers are those of a
    table with few records: nearly all bytes of them are zero."""
    terms = dataclasses.replace(TERMS, length=64)
    numbers = {node: np.arange(64, dtype=np.uint64) % 5 for node in NODES}
    bare, received, stripped = [], b"", b""
    for seed in range(1000):
        found = Sum(terms, 10_000 + seed)
        held = {peer: party.public.masking for peer, party in found.parties.items()}
        # The same that `Party.masked` adds, without the shares, which take most of the time and touch no mask.
        party = found.parties["north"]
        masked = numbers["north"] + self_mask(terms, party.seed, "north")
        for peer in ("east", "south", "west"):
            masked += pair_mask(terms, party.masking_secret, held[peer], "north", peer)
        # Others let it take off north's own mask; south has dropped out, so that it knows that mask of a pair, too.
        left = masked - self_mask(terms, party.seed, "north")
        left += pair_mask(
            terms, found.parties["south"].masking_secret, party.public.masking, "south", "north"
        )
        received += masked.astype("<u8").tobytes()
        stripped += left.astype("<u8").tobytes()
        bare.append((chi_square(masked.astype("<u8").tobytes()), chi_square(left.astype("<u8").tobytes())))
    assert chi_square(received) > 1e-3 and chi_square(stripped) > 1e-3
    for each in zip(*bare, strict=True):  # the thousand probabilities are as even as probabilities are
        assert kstest(each, "uniform").pvalue > 1e-3
    assert chi_square(numbers["north"].tobytes()) < 1e-12  # and this test would see it


def test_whole_transcripts_are_uniform_to_a_coordinator_with_two_nodes_on_its_side() -> None:
    """Of a hundred whole sums: all of north's messages that are not public keys or hashes, what two nodes
    hold of its secrets, and its numbers without the masks that these two know, before anything takes masks off."""
    messages, held, stripped = b"", b"", b""
    for seed in range(100):
        found = Sum(seed=20_000 + seed)
        found.share()
        found.mask({node: np.arange(6, dtype=np.uint64) % 3 for node in NODES})
        messages += b"".join(found.shares["north"].to[node].sealed for node in ("east", "south", "west"))
        messages += found.masked["north"].astype("<u8").tobytes()
        left = found.masked["north"].copy()
        for node in ("east", "west"):
            party = found.parties[node]
            assert party.held is not None
            # The 33rd byte is 0 or 1: elements of the field are below 2^256 + 297.
            held += b"".join(share[1:] for share in party.held["north"])
            left += pair_mask(TERMS, party.masking_secret, found.keys["north"].masking, node, "north")
        stripped += left.astype("<u8").tobytes()
    for seen in (messages, held, stripped):
        assert chi_square(seen) > 1e-3


def test_the_view_of_the_test_above_is_what_a_party_sends() -> None:
    found = Sum()
    found.share()
    numbers = some(3)
    found.mask(numbers)
    party = found.parties["north"]
    masked = numbers["north"] + self_mask(TERMS, party.seed, "north")
    for peer in ("east", "south", "west"):
        masked += pair_mask(TERMS, party.masking_secret, found.keys[peer].masking, "north", peer)
    assert np.array_equal(masked, found.masked["north"])
