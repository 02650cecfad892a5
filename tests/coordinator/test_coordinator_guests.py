"""Who has to go when a port is crowded, and how often one caller may do something: the arithmetic alone."""

from __future__ import annotations

import pytest

from epgfn_coordinator.descriptors import FEWEST, KEPT, PER_CONNECTION, connections
from epgfn_coordinator.guests import Bounds, Guests, origin
from epgfn_coordinator.pace import MOST_CALLERS, Pace


def crowd(guests: Guests, address: str, *numbers: int) -> None:
    for number in numbers:
        guests.enter(number, address)


def test_the_oldest_stranger_of_the_address_that_holds_most_makes_room() -> None:
    guests = Guests(Bounds(6, 6))
    crowd(guests, "good", 0)
    crowd(guests, "bad", 1, 2, 3, 4, 5)
    assert guests.victim("bad") == guests.victim("good") == guests.victim("other") == 1
    guests.leave(1)
    assert guests.victim("good") is None
    crowd(guests, "bad", 6)
    assert guests.victim("good") == 2


def test_nodes_do_not_make_room_for_strangers() -> None:
    guests = Guests(Bounds(3, 3))
    crowd(guests, "here", 0, 1, 2)
    assert [guests.recognise(0, "a"), guests.recognise(2, "b")] == [None, None]
    assert guests.victim("here") == guests.victim("there") == 1
    guests.recognise(1, "c")
    assert guests.victim("here") == guests.victim("there") == -1
    assert guests.oldest_stranger() is None
    guests.leave(2)
    assert guests.victim("there") is None and len(guests) == 2


def test_one_address_has_its_share_and_no_more() -> None:
    guests = Guests(Bounds(10, 2))
    crowd(guests, "one", 0, 1)
    assert guests.victim("one") == 0 and guests.victim("two") is None
    for number in (0, 1):
        guests.recognise(number, "a")
    assert guests.victim("one") == -1


def test_a_node_has_so_many_connections_and_the_newest_count() -> None:
    guests = Guests(Bounds(10, 10, per_node=2))
    crowd(guests, "here", 0, 1, 2)
    assert [guests.recognise(number, "a") for number in (1, 0, 2)] == [None, None, 1]
    guests.leave(1)
    assert guests.recognise(2, "a") is None, "it is known already"
    assert guests.recognise(9, "a") is None, "it is gone already"
    assert not guests.is_stranger(0) and not guests.is_stranger(9)


@pytest.mark.parametrize(
    ("host", "counts_as"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_what_counts_as_one_address(host: str, counts_as: str) -> None:
    assert origin(host) == counts_as


@pytest.mark.parametrize("limit", [16, 64, 256, 1024, 8192])
def test_connections_leave_descriptors_for_the_disk(limit: int) -> None:
    most = connections(limit)
    assert most >= FEWEST
    assert most == FEWEST or limit - PER_CONNECTION * most >= min(KEPT, limit // 2)


def test_a_pace_is_each_callers_own_and_counts_what_it_passed_over() -> None:
    now = [0.0]
    pace = Pace(2, 0.5, lambda: now[0])
    assert [pace.take("a") for _ in range(4)] == [0, 0, None, None]
    assert pace.take("b") == 0
    now[0] = 1.9
    assert pace.take("a") is None
    now[0] = 2.0
    assert [pace.take("a"), pace.take("a")] == [3, None]
    now[0] = 1000.0
    assert [pace.take("a") for _ in range(3)] == [1, 0, None]
    for number in range(MOST_CALLERS):
        pace.take(str(number))
    assert pace.take("a") == 0, "the one heard of longest ago is forgotten"
