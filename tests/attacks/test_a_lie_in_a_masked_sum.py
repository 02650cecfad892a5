"""Promise: a node acts on a list of a masked sum only if the one ledger that it follows proves it, it is of this round and of the roster,
and each statement in it is for this round, node and step, with the key with which that node has begun; and it never says what takes off two
sorts of masks. Whatever else it is shown gets nothing, with the reason, and where its operator has set the others' keys, made-up nodes get
nothing either. Where nobody has, a coordinator that plays all the others reads the numbers: that is not promised.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from epgfn.base.files import read_secret
from epgfn.ledger.entries import SumStep
from epgfn.masking.messages import Keys, Shares, Unmasking, encode_list
from epgfn.masking.party import Party
from epgfn.sealing.keys import SigningKey, VerifyKey
from epgfn.study import Study
from epgfn.v1 import sum_pb2
from epgfn_coordinator.store import Store
from epgfn_node.masked_sum import numbers_of
from false_sum import Altering, FalseSum
from lying_coordinator import Liar
from parties import REFUSED, WAITING, Node
from small import SMALL_STUDY

LENGTH = 10
STUDY = Study.from_bytes(
    SMALL_STUDY.replace('["north", "south"]', '["east", "north", "south", "west"]')
    .replace("[policy]", '[target]\nkind = "bge"\nparameters = "shared"\n\n[policy]', 1)
    .replace("[aggregation]", '[aggregation]\nsums = "masked"\nquorum = 3', 1)
    .encode()
)


@pytest.fixture(scope="module")
def liar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Liar]:
    with Liar(tmp_path_factory.mktemp("liar"), STUDY) as liar:
        yield liar


@pytest.fixture(scope="module")
def approved(liar: Liar, tmp_path_factory: pytest.TempPathFactory) -> Node:
    """Has approved its numbers; never to be altered."""
    path = tmp_path_factory.mktemp("records") / "records.csv"
    rows = [f"{i % 7 - 3},{i % 5 - 2},{i % 3 - 1}" for i in range(60)]
    path.write_text("a,b,c\n" + "\n".join(rows) + "\n")
    node = liar.node("north")
    node.ok("enroll", "--invite", str(liar.invited("north")))
    node.set(accept_statistic=True)
    node.train(path, STUDY).ok("approve")
    return node


@pytest.fixture
def north(approved: Node, tmp_path: Path) -> Node:
    return Node(Path(shutil.copytree(approved.home, tmp_path / "north")))


@pytest.fixture
def sum_(liar: Liar, approved: Node) -> FalseSum:
    store = Store(liar.home.state)
    try:
        round_id = store.text("round_id")
    finally:
        store.close()
    return FalseSum(liar, STUDY, "north", round_id, LENGTH)


def upto(step: SumStep | None, sum_: FalseSum, north: Node) -> None:
    """Play on honestly until this step's list is closed. None: all of it."""
    for one, command in (
        ("keys", "submit"),
        ("shares", "submit"),
        ("uploads", "submit"),
        ("signing", "fetch"),
    ):
        if one != "uploads":
            sum_.say(one)  # type: ignore[arg-type]
        with sum_.liar.telling(**sum_.lies()):
            code = 0 if one == "uploads" else WAITING
            done = north.command(command)
            assert done.returncode == code, done.stderr
        sum_.close(one)  # type: ignore[arg-type]
        if one == step:
            return


def refused(sum_: FalseSum, north: Node, command: str, altered: Altering = lambda _: None) -> str:
    """The sentence with which the node refuses; it has said nothing, and changed nothing of what it keeps."""
    kept = (north.home / "local" / "masked-sum.json").read_bytes()
    altered(sum_)
    sum_.heard.clear()
    with sum_.liar.telling(**sum_.lies()):
        said = north.fails(REFUSED, command)
    assert said.isprintable() and "unexpected" not in said
    assert not sum_.heard and not sum_.uploaded
    assert (north.home / "local" / "masked-sum.json").read_bytes() == kept
    return said


def party_of(north: Node) -> Party:
    return Party.parse(read_secret(north.home / "local" / "masked-sum.json"))


def numbers(north: Node) -> np.ndarray:
    return numbers_of(read_secret(north.home / "local" / "model.safetensors"))


def own_key(north: Node) -> str:
    return VerifyKey.from_pem((north.home / "keys" / "signing.pem").read_bytes()).fingerprint


# What is shown of the others ----------------------------------------------------------------------------------------


def replayed(**changes: str) -> Altering:
    """South's statement is one for another round, node, step or study, and listed as that."""

    def alter(sum_: FalseSum) -> None:
        true = bytes(sum_.said["keys", "south"].payload)
        sum_.said["keys", "south"] = sum_.make("keys", "south", true, **changes)
        sum_.close("keys")

    return alter


def shown(change: Callable[[sum_pb2.GetStatementResponse, FalseSum], None]) -> Altering:
    """What is shown of south is not what the ledger lists."""

    def alter(sum_: FalseSum) -> None:
        sum_.close("keys")
        answer = sum_pb2.GetStatementResponse()
        answer.CopyFrom(sum_.said["keys", "south"])
        change(answer, sum_)
        sum_.said["keys", "south"] = answer

    return alter


def put(**fields: bytes) -> Altering:
    return shown(lambda answer, _: [setattr(answer, name, value) for name, value in fields.items()] and None)


def others_key(answer: sum_pb2.GetStatementResponse, sum_: FalseSum) -> None:
    answer.key_entry = sum_.said["keys", "west"].key_entry
    answer.key_receipt = sum_.said["keys", "west"].key_receipt


def others_words(answer: sum_pb2.GetStatementResponse, sum_: FalseSum) -> None:
    answer.bundle, answer.payload = sum_.said["keys", "west"].bundle, sum_.said["keys", "west"].payload


def another_history(answer: sum_pb2.GetStatementResponse, sum_: FalseSum) -> None:
    """The key's entry is proved by a ledger that this node does not follow, signed with the ledger's own key."""
    fork = sum_.liar.fork([*sum_.entries[:3], bytes(answer.key_entry), *sum_.entries[3:]])
    answer.key_receipt = fork.receipt(3)


def same_masks(sum_: FalseSum) -> None:
    """South's keys are west's, so that one mask would be there twice."""
    sum_.said["keys", "south"] = sum_.make("keys", "south", bytes(sum_.said["keys", "west"].payload))
    sum_.close("keys")


def own_in_another_place(sum_: FalseSum) -> None:
    sum_.said["keys", "south"] = sum_.make("keys", "south", sum_.heard["keys"])
    sum_.close("keys")


def small_order(sum_: FalseSum) -> None:
    keys = Keys(bytes(32), sum_.parties["south"].public.sharing)
    sum_.said["keys", "south"] = sum_.make("keys", "south", keys.encode())
    sum_.close("keys")


def without_me(sum_: FalseSum) -> None:
    sum_.close("keys", sum_.others)


def of_strangers(sum_: FalseSum) -> None:
    """As many as fit into an entry, each of whom would have to be asked about."""
    digests = {f"n{i}": "0" * 64 for i in range(800)}
    sum_.close("keys", statements=digests)


KEYS: dict[str, tuple[Altering, str]] = {
    "of another round": (replayed(round_id="round-of-last-year"), "not what it has signed for this round"),
    "of another study": (replayed(study_digest="0" * 64), "not what it has signed for this round"),
    "of another step": (replayed(step="shares"), "not what it has signed for this round"),
    "of another node": (replayed(node_id="west"), "not what it has signed for this round"),
    "cut off": (shown(lambda answer, _: setattr(answer, "payload", answer.payload[:-1])), "not what it has signed"),
    "nothing": (put(payload=b"", bundle=b""), "not what the ledger lists"),
    "of a megabyte": (put(payload=b"x" * (1 << 20)), "not what it has signed"),
    "in another's words": (shown(others_words), "not what the ledger lists"),
    "with another's key": (shown(others_key), "does not show the ledger entry of the key of south"),
    "with a key of another history": (shown(another_history), "HAS BEEN REWRITTEN"),
    "the same keys twice": (same_masks, "two nodes of the masked sum have the same key"),
    "this node's own keys in another's place": (own_in_another_place, "two nodes of the masked sum have the same"),
    "a key that everybody has in common": (small_order, "no usable X25519 key"),
    "a list without this node": (without_me, "goes on without north"),
    "a list of two": (lambda sum_: sum_.close("keys", ["north", "south"]), "fewer than the study's quorum of 3"),
    "a list of strangers": (of_strangers, "no list of this round's masked sum"),
    "a list of another round": (lambda sum_: sum_.close("keys", round_id="round-2"), "no list of this round's"),
    "a list under another step": (lambda sum_: sum_.lists.update({"shares": sum_.lists.pop("keys")}), "no list of"),
}  # fmt: skip


@pytest.mark.parametrize("what", KEYS)
def test_keys_that_are_not_what_they_should_be_get_no_shares(north: Node, sum_: FalseSum, what: str) -> None:
    upto("keys", sum_, north)
    alter, why = KEYS[what]
    assert why in refused(sum_, north, "submit", alter)
    assert party_of(north).keys is None


def test_a_list_that_is_shown_twice_or_from_another_history_is_none(north: Node, sum_: FalseSum) -> None:
    upto("keys", sum_, north)
    true = sum_.lies()["GetSum"]

    def twice(*arguments: object) -> sum_pb2.GetSumResponse:
        answer: sum_pb2.GetSumResponse = true(*arguments)  # type: ignore[arg-type]
        answer.lists.append(answer.lists[0])
        return answer

    def forked(*arguments: object) -> sum_pb2.GetSumResponse:
        answer: sum_pb2.GetSumResponse = true(*arguments)  # type: ignore[arg-type]
        entry = bytes(answer.lists[0].entry)
        fork = sum_.liar.fork([*sum_.entries[:2], entry, *sum_.entries[2:]])
        answer.lists[0].receipt = fork.receipt(2)
        return answer

    for lie, why in ((twice, "no list of this round's"), (forked, "HAS BEEN REWRITTEN")):
        with sum_.liar.telling(**sum_.lies(GetSum=lie)):
            assert why in north.fails(REFUSED, "submit")
    assert "shares" not in sum_.heard and party_of(north).keys is None


def dealt(change: Callable[[Shares], Shares]) -> Altering:
    """South deals other shares than its party has made."""

    def alter(sum_: FalseSum) -> None:
        true = Shares.parse(bytes(sum_.said["shares", "south"].payload), "south", sum_.terms.roster)
        sum_.said["shares", "south"] = sum_.make("shares", "south", change(true).encode())
        sum_.close("shares")

    return alter


def to_north(**changes: object) -> Callable[[Shares], Shares]:
    return lambda said: dataclasses.replace(
        said, to={**said.to, "north": dataclasses.replace(said.to["north"], **changes)}
    )  # type: ignore[arg-type]


def exchanged(said: Shares) -> Shares:
    other = {**said.to, "north": said.to["east"], "east": said.to["north"]}
    return dataclasses.replace(said, to=other)


def to_fewer(said: Shares) -> Shares:
    return dataclasses.replace(said, to={node: one for node, one in said.to.items() if node != "west"})


def other_key_from_now_on(sum_: FalseSum) -> None:
    sum_.enrol("south", SigningKey.generate())
    sum_.said["shares", "south"] = sum_.make("shares", "south", bytes(sum_.said["shares", "south"].payload))
    sum_.close("shares")


def other_keys_now(sum_: FalseSum) -> None:
    """After a restart of the node, keys of others are shown: signed and listed, in a second list of keys."""
    sum_.parties["south"] = Party.begin(sum_.terms, "south", np.random.default_rng(1).bytes)
    sum_.said["keys", "south"] = sum_.make("keys", "south", sum_.parties["south"].public.encode())
    sum_.close("keys")
    sum_.close("shares")


SHARES: dict[str, tuple[Altering, str]] = {
    "sealed to nobody": (dealt(to_north(sealed=bytes(94))), "does not open"),
    "another's": (dealt(exchanged), "does not open"),
    "committed to others": (dealt(to_north(seed="0" * 64)), "not those it has signed; nothing is sent, tell south"),
    "for fewer": (dealt(to_fewer), "not of the agreed form"),
    "signed with another key": (other_key_from_now_on, "signed with another key than what it said first"),
    "after other keys": (other_keys_now, "another list of keys of the masked sum than before"),
    "a list of two": (lambda sum_: sum_.close("shares", ["north", "south"]), "fewer than the study's quorum of 3"),
    "a list without this node": (lambda sum_: sum_.close("shares", sum_.others), "goes on without north"),
}  # fmt: skip


@pytest.mark.parametrize("what", SHARES)
def test_shares_that_are_not_what_they_should_be_get_no_numbers(
    north: Node, sum_: FalseSum, what: str
) -> None:
    upto("shares", sum_, north)
    alter, why = SHARES[what]
    assert why in refused(sum_, north, "submit", alter)
    assert party_of(north).input_sha256 is None


def no_such_list(sum_: FalseSum, nodes: tuple[str, ...]) -> None:
    for one in sum_.others:
        sum_.said["signing", one] = sum_.make("signing", one, encode_list(nodes))
    sum_.close("uploads", nodes)


def another_upload(sum_: FalseSum) -> None:
    sum_.upload_bundle = b"somebody else's"
    sum_.close("uploads")


UPLOADS: dict[str, tuple[Altering, str]] = {
    "without this node": (lambda sum_: no_such_list(sum_, ("east", "south", "west")), "without this node"),
    "of two": (lambda sum_: no_such_list(sum_, ("north", "south")), "fewer than the study's quorum of 3"),
    "with another upload in its name": (another_upload, "another upload in this node's name"),
}  # fmt: skip


@pytest.mark.parametrize("what", UPLOADS)
def test_a_total_that_is_not_agreed_on_is_not_signed(north: Node, sum_: FalseSum, what: str) -> None:
    upto("uploads", sum_, north)
    sum_.uploaded = b""
    alter, why = UPLOADS[what]
    assert why in refused(sum_, north, "fetch", alter)
    assert party_of(north).signed is None


# What takes masks off -----------------------------------------------------------------------------------------------


def fewer_signers(sum_: FalseSum) -> None:
    sum_.close("signing", ["north", "south"])


def signed_another(sum_: FalseSum) -> None:
    for one in ("east", "south"):
        sum_.said["signing", one] = sum_.make("signing", one, encode_list(["east", "north", "south"]))
    sum_.close("signing", ["east", "north", "south"])


def signed_with_other_keys(sum_: FalseSum) -> None:
    """It has shown the others' true keys first, of which people may have asked; now it signs in their names itself."""
    for one in sum_.others:
        sum_.enrol(one, SigningKey.generate())
        sum_.said["signing", one] = sum_.make("signing", one, encode_list(sum_.terms.roster))
    sum_.close("signing")


def another_list(sum_: FalseSum) -> None:
    no_such_list(sum_, ("east", "north", "south"))
    sum_.close("signing", ["east", "north", "south"])


UNMASKING: dict[str, tuple[Altering, str]] = {
    "too few have signed": (fewer_signers, "fewer than 3 nodes have signed"),
    "they have signed another": (signed_another, "fewer than 3 nodes have signed"),
    "with other keys": (signed_with_other_keys, "signed with another key than what it said first"),
    "another list": (another_list, "another list of uploads of the masked sum than before"),
}


@pytest.mark.parametrize("what", UNMASKING)
def test_nothing_that_takes_masks_off_is_said_of_what_is_not_signed(
    north: Node, sum_: FalseSum, what: str
) -> None:
    upto("signing", sum_, north)
    sum_.uploaded = b""
    alter, why = UNMASKING[what]
    alter(sum_)
    sum_.heard.clear()
    with sum_.liar.telling(**sum_.lies()):
        assert why in north.fails(REFUSED, "fetch")
    assert "unmasking" not in sum_.heard and party_of(north).said is None


def test_of_no_node_both_shares_are_said_whoever_asks_and_however_often(north: Node, sum_: FalseSum) -> None:
    """West is said to have dropped out; then, once that is answered, not to have: by a coordinator that begins again, and from a copy of
    the home that was made before that."""
    upto("uploads", sum_, north)
    first = ("east", "north", "south")
    no_such_list(sum_, first)
    with sum_.liar.telling(**sum_.lies()):
        north.command("fetch")
    sum_.close("signing", first)
    with sum_.liar.telling(**sum_.lies()):
        north.command("fetch")
    said = Unmasking.parse(sum_.heard["unmasking"], first, {"west"})
    assert set(said.keys) == {"west"} and set(said.seeds) == {*first}
    copied = Node(Path(shutil.copytree(north.home, north.home.with_name("copied"))))
    for node in (north, copied):
        no_such_list(sum_, sum_.terms.roster)
        sum_.close("signing", sum_.others)
        sum_.heard.clear()
        with sum_.liar.telling(**sum_.lies()):
            assert "another list of uploads" in node.fails(REFUSED, "fetch")
        assert not sum_.heard
    no_such_list(sum_, first)
    sum_.close("signing", first)
    with sum_.liar.telling(**sum_.lies()):
        north.command("fetch")
    assert Unmasking.parse(sum_.heard["unmasking"], first, {"west"}) == said


def test_a_node_whose_sum_is_over_begins_none_with_keys_that_anybody_has(north: Node, sum_: FalseSum) -> None:
    upto("uploads", sum_, north)
    file = north.home / "local" / "masked-sum.json"
    file.write_bytes(party_of(north).without_secrets().encode())
    shutil.rmtree(north.home / "receipts")
    shutil.rmtree(north.home / "outbox")
    north.ok("approve")
    sum_.lists.clear()
    sum_.due = "keys"
    sum_.uploaded = b""
    assert "is over, and its secrets are gone" in refused(sum_, north, "submit")


# Who the others are -------------------------------------------------------------------------------------------------


def test_who_plays_all_the_others_reads_the_numbers_unless_their_keys_are_set(
    north: Node, sum_: FalseSum
) -> None:
    """The limit of what is promised, and what there is against it."""
    wary = Node(Path(shutil.copytree(north.home, north.home.with_name("wary"))))
    told = [f'{node} = "{SigningKey.generate().public.fingerprint}"' for node in sum_.others]
    settings = wary.home / "node.toml"
    settings.write_text(settings.read_text() + "\n[sum_keys]\n" + "\n".join(told) + "\n")
    sum_.say("keys")
    with sum_.liar.telling(**sum_.lies()):
        assert wary.command("submit").returncode == WAITING
    sum_.close("keys")
    said = refused(sum_, wary, "submit")
    assert (
        "shows east with another key than [sum_keys]" in said and sum_.keys["east"].public.fingerprint in said
    )
    told = [f'{node} = "{sum_.keys[node].public.fingerprint}"' for node in sum_.others[:2]]
    settings.write_text(
        settings.read_text().partition("[sum_keys]")[0] + "[sum_keys]\n" + "\n".join(told) + "\n"
    )
    assert "west with a key, and you have not set one" in refused(sum_, wary, "submit")

    again = FalseSum(sum_.liar, STUDY, "north", sum_.round_id, LENGTH)
    upto("uploads", again, north)
    masked = again.masked(own_key(north))
    assert not np.array_equal(masked, numbers(north))
    assert np.array_equal(again.bare(masked), numbers(north))


def test_those_whose_keys_are_set_are_summed_with(north: Node, sum_: FalseSum) -> None:
    told = [f'{node} = "{sum_.keys[node].public.fingerprint.upper()}"' for node in sum_.others]
    settings = north.home / "node.toml"
    settings.write_text(settings.read_text() + "\n[sum_keys]\n" + "\n".join(told) + "\n")
    upto("signing", sum_, north)
    with sum_.liar.telling(**sum_.lies()):
        north.command("fetch")
    assert set(Unmasking.parse(sum_.heard["unmasking"], sum_.terms.roster, ()).seeds) == set(
        sum_.terms.roster
    )
