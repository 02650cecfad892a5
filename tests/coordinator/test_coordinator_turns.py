"""Rounds are aggregated one at a time, in the order in which they were complete; one that fails keeps nobody waiting."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from epgfn.base.errors import EpgfnError
from epgfn_coordinator.live_round import Turn
from epgfn_coordinator.round import Interrupted


class Asking:
    """A round that asks for its turn in a thread of its own; `done` names those that had theirs."""

    def __init__(self, turn: Turn, name: str, done: list[str], work: Callable[[], None]) -> None:
        self.told: list[list[str]] = []
        self.stop, self.asked = threading.Event(), threading.Event()
        self.failure: EpgfnError | None = None

        def working(_: threading.Event) -> None:
            self.asked.set()
            work()
            done.append(name)

        def told(names: list[str]) -> None:
            self.told.append(names)
            self.asked.set()

        def run() -> None:
            try:
                turn.take(name, working, self.stop, told)
            except EpgfnError as error:
                self.failure = error

        self.thread = threading.Thread(target=run)
        self.thread.start()
        assert self.asked.wait(60)

    def end(self) -> None:
        self.thread.join(60)
        assert not self.thread.is_alive()


def test_first_come_first_served_and_each_is_told_who_is_before_it() -> None:
    turn, done, going = Turn(), list[str](), threading.Event()

    def fails() -> None:
        going.wait(60)
        raise EpgfnError("no model of it")

    first = Asking(turn, "first", done, fails)
    others = [Asking(turn, name, done, lambda: None) for name in ("second", "third", "second")]
    assert [each.told for each in others] == [
        [["first"]],
        [["first", "second"]],
        [["first", "second", "third"]],
    ]
    others[1].stop.set()
    others[1].end()
    assert isinstance(others[1].failure, Interrupted)
    going.set()
    for each in (first, *others):
        each.end()
    assert str(first.failure) == "no model of it" and done == ["second", "second"]
    assert others[0].told[-1] == others[2].told[-1] == []


def test_a_turn_that_is_free_is_taken_at_once() -> None:
    turn = Turn()
    with pytest.raises(EpgfnError):
        turn.take("a", lambda _: (_ for _ in ()).throw(EpgfnError("it failed")), threading.Event(), print)
    took = list[str]()
    turn.take("b", lambda _: took.append("b"), threading.Event(), print)
    assert took == ["b"]
