"""Promise: a round that a node joins later is as safe from its coordinator's lies as the first, and is one round under whatever names.

The list of rounds is not signed, and no operator has handed over an invitation: all that binds is the coordinator's key.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from epgfn.ledger.note import NoteSigner
from epgfn.sealing.keys import SigningKey
from epgfn.sealing.rotation import sign_rotation
from epgfn.study import Study
from epgfn.v1 import study_pb2
from epgfn_coordinator.initialise import add
from epgfn_node.home import NodeHome
from lying_coordinator import Liar
from parties import REFUSED, Node

STRANGER = NoteSigner.generate("stranger")


@pytest.fixture(scope="module")
def study(small_study: Study) -> Study:
    return small_study.with_changes({"transport": {"suite": "X25519"}, "roster": ["north", "south"]})


@pytest.fixture(scope="module")
def liar(tmp_path_factory: pytest.TempPathFactory, study: Study) -> Iterator[Liar]:
    with Liar(tmp_path_factory.mktemp("liar"), study) as liar:
        yield liar


@pytest.fixture(scope="module")
def north(liar: Liar) -> Node:
    node = liar.node("north")
    node.ok("enroll", "--invite", str(liar.invited("north")))
    add(liar.home, liar.study, "second")
    add(liar.home, liar.study.with_changes({"name": "other"}), "third")
    for _ in range(100):
        if len(node.ok("rounds").splitlines()) >= 3:
            break
    return node


def listing(change: Callable[[list[Any]], list[Any]]) -> Callable[..., Any]:
    """The true list of rounds, changed."""

    def told(_: Any, truth: Callable[[], Any], __: grpc.ServicerContext) -> Any:
        return study_pb2.ListRoundsResponse(rounds=change(list(truth().rounds)))

    return told


def called(rounds: list[Any], old: str, new: str) -> list[Any]:
    """The round `old` again, by the name `new`."""
    again = type(rounds[0])()
    again.CopyFrom(next(each for each in rounds if each.name == old))
    again.name = new
    return [*rounds, again]


def manifest(liar: Liar, round_: str, **changes: Any) -> Callable[..., Any]:
    """The signed manifest of a round, signed again with changes, whichever is asked for."""
    place = liar.home.root if not round_ else liar.home.root / "rounds" / round_
    bundle = (place / "round.sigstore.json").read_bytes()
    bundle = liar.signed(bundle, **changes) if changes else bundle
    return lambda *_: study_pb2.GetRoundResponse(bundle=bundle, state=study_pb2.ROUND_STATE_OPEN)


LIES: dict[str, tuple[Callable[[Liar], dict[str, Callable[..., Any]]], str]] = {
    "another round's manifest": (lambda liar: {"GetRound": manifest(liar, "third")}, "of another round or study"),
    "the first round's": (lambda liar: {"GetRound": manifest(liar, "")}, "of another round or study"),
    "a manifest of the first round's study": (
        lambda liar: {"GetRound": manifest(liar, "second", study_digest="0" * 64)},
        "of another round or study",
    ),
    "a stranger's ledger": (
        lambda liar: {"GetRound": manifest(liar, "second", ledger_vkey=STRANGER.verifier.vkey)},
        "",
    ),
    "a manifest that a stranger has signed": (
        lambda liar: {"GetRound": _by_a_stranger(liar)},
        "neither the pinned one",
    ),
    "a successor that a stranger has signed": (
        lambda liar: {"GetRound": _by_a_stranger(liar, successor_of=SigningKey.generate())},
        "neither the pinned one",
    ),
    "another study's text": (
        lambda liar: {"GetStudy": lambda *_: study_pb2.GetStudyResponse(
            study=(liar.home.root / "rounds/third/study.toml").read_bytes(),
            bundle=(liar.home.root / "rounds/third/study.sigstore.json").read_bytes())},
        "another study",
    ),
    "another round's ledger": (
        lambda liar: {"GetCheckpoint": lambda request, truth, _: _of_the_first_round(request, truth)},
        "",
    ),
    "nothing by that name": (lambda _: {"ListRounds": listing(lambda rounds: [])}, "has no round called second"),
}  # fmt: skip


def _of_the_first_round(request: Any, truth: Callable[[], Any]) -> Any:
    request.round_id = ""
    return truth()


def _by_a_stranger(liar: Liar, successor_of: SigningKey | None = None) -> Callable[..., Any]:
    """A manifest by another key; and one that says it took the place of a further one."""
    true, liar.key = liar.key, SigningKey.generate()
    try:
        made = manifest(liar, "second", suite="X25519")
        if successor_of is None:
            return made
        change = sign_rotation("coordinator", successor_of, liar.key, "2030-01-31T12:00:00Z", "a test")

        def with_change(*arguments: Any) -> Any:
            answer = made(*arguments)
            answer.rotations.append(change)
            return answer

        return with_change
    finally:
        liar.key = true


@pytest.mark.parametrize("what", LIES)
def test_a_round_that_is_not_what_it_is_listed_as_is_not_joined(liar: Liar, north: Node, what: str) -> None:
    lies, why = LIES[what]
    with liar.telling(**lies(liar)):
        said = north.fails(REFUSED, "join", "--round", "second")
    assert why in said and said.isprintable() and "unexpected" not in said.lower(), said
    assert not NodeHome(north.home / "rounds/second").is_enrolled
    shutil.rmtree(north.home / "rounds", ignore_errors=True)


@pytest.mark.parametrize("name", ["../../x", "a/b", "up\x1b[2J\u202e", "x" * 5000, ""])
def test_a_name_in_the_list_is_no_path_and_steers_no_terminal(liar: Liar, north: Node, name: str) -> None:
    before = sorted(north.files())
    with liar.telling(ListRounds=listing(lambda rounds: called(rounds, "second", name))):
        listed = north.ok("rounds")
        assert all(line.isprintable() for line in listed.splitlines())
        north.command("join", "--round", name)
    assert [n for n in sorted(north.files()) if n not in before] == []


def test_one_round_under_two_names_is_joined_once(liar: Liar, north: Node) -> None:
    north.ok("join", "--round", "second")
    with liar.telling(ListRounds=listing(lambda rounds: called(rounds, "second", "bonus"))):
        said = north.fails(REFUSED, "join", "--round", "bonus")
    assert "that this node has joined as second" in said
    assert not [
        name for name in north.files() if name.startswith("rounds/bonus/") and not name.endswith(".lock")
    ]
    # Nor is the first round another one by another name.
    with liar.telling(ListRounds=listing(lambda rounds: called(rounds, "small", "bonus"))):
        assert "is the round of" in north.command("join", "--round", "bonus").stderr
    # The same name again is no mistake, and another round under that name is.
    north.ok("join", "--round", "second")
    swapped = listing(lambda rounds: called([r for r in rounds if r.name != "second"], "third", "second"))
    with liar.telling(ListRounds=swapped):
        assert "ledger of this round has another key" in north.fails(REFUSED, "join", "--round", "second")
    north.ok("join", "--round", "third")
