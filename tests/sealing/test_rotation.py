"""A chain of keys is followed forwards from one that is trusted, by what both keys have signed, and never where it forks or goes back."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import jsonschema
import pytest

from epgfn.base.errors import RefusedError
from epgfn.base.files import sha256_hex
from epgfn.sealing.bundle import sign_statement
from epgfn.sealing.keys import SigningKey
from epgfn.sealing.predicates import COORDINATOR, ROTATION, RotationPredicate
from epgfn.sealing.rotation import MOST, SUBJECT, ForkError, follow, read_rotation, sign_rotation
from epgfn.sealing.statement import make_statement

TIME = "2030-01-31T12:00:00Z"
KEYS = [SigningKey.generate() for _ in range(4)]


def step(old: SigningKey, new: SigningKey, party: str = COORDINATOR) -> bytes:
    return sign_rotation(party, old, new, TIME, "a key a year")


CHAIN = [step(old, new) for old, new in itertools.pairwise(KEYS)]


@pytest.mark.parametrize("start", range(4))
def test_it_is_followed_from_any_of_its_keys_forwards(start: int) -> None:
    found = follow(KEYS[start].public, CHAIN, COORDINATOR)
    assert found.keys == tuple(key.public for key in KEYS[start:])
    assert follow(KEYS[start].public, CHAIN + CHAIN, COORDINATOR) == found
    assert found.find(KEYS[3].public.fingerprint) == KEYS[3].public
    assert start == 0 or found.find(KEYS[0].public.fingerprint) is None


def test_from_another_key_it_leads_nowhere() -> None:
    stranger = SigningKey.generate().public
    assert follow(stranger, CHAIN, COORDINATOR).keys == (stranger,)
    assert follow(KEYS[0].public, [], COORDINATOR).keys == (KEYS[0].public,)


def test_two_successors_of_one_key_are_a_fork_with_both_statements() -> None:
    other = step(KEYS[1], SigningKey.generate())
    for bundles in ([*CHAIN, other], [CHAIN[0], other, CHAIN[1]]):
        with pytest.raises(ForkError, match="signed two successors") as error:
            follow(KEYS[0].public, bundles, COORDINATOR)
        assert error.value.reason == "rotation-fork" and set(error.value.statements) == {CHAIN[1], other}


@pytest.mark.parametrize(
    ("bundles", "reason"),
    [
        ([CHAIN[0], CHAIN[2]], "broken-chain"),
        ([CHAIN[1], CHAIN[0]], "broken-chain"),
        ([*CHAIN, step(KEYS[3], KEYS[1])], "rotation-back"),
        ([CHAIN[0], step(KEYS[1], KEYS[0])], "rotation-back"),
        ([step(KEYS[0], KEYS[1], "node/north")], "wrong-party"),
        ([step(KEYS[0], KEYS[1]) for _ in range(MOST + 1)], "too-many"),
    ],
)
def test_what_is_no_chain_is_refused(bundles: list[bytes], reason: str) -> None:
    with pytest.raises(RefusedError) as error:
        follow(KEYS[0].public, bundles, COORDINATOR)
    assert error.value.reason == reason


def signed_by(*keys: SigningKey, **changes: str) -> bytes:
    """The change from the first key to the second, signed by others."""
    old, new = KEYS[0].public, KEYS[1].public
    predicate = {
        "party": COORDINATOR,
        "old_key": old.pem.decode(),
        "old_fingerprint": old.fingerprint,
        "new_key": new.pem.decode(),
        "new_fingerprint": new.fingerprint,
        "time": TIME,
        "reason": "x",
    }
    return sign_statement(
        make_statement({SUBJECT: sha256_hex(new.pem)}, ROTATION, {**predicate, **changes}), *keys
    )


@pytest.mark.parametrize(
    ("signers", "reason"),
    [
        ([0], "signature-missing"),  # nobody has the new key
        ([1], "wrong-key"),
        ([1, 0], "wrong-key"),
        ([2, 1], "wrong-key"),
        ([0, 2], "malformed"),
        ([0, 1, 2], "malformed"),
    ],
)
def test_both_keys_sign_it_and_nobody_else(signers: list[int], reason: str) -> None:
    assert read_rotation(signed_by(KEYS[0], KEYS[1])).new == KEYS[1].public
    with pytest.raises(RefusedError) as error:
        read_rotation(signed_by(*(KEYS[index] for index in signers)))
    assert error.value.reason == reason


def test_a_signature_under_anothers_name_does_not_fit() -> None:
    true, false = signed_by(KEYS[0], KEYS[1]), signed_by(KEYS[2], KEYS[1])
    forged = false.replace(KEYS[2].public.fingerprint.encode(), KEYS[0].public.fingerprint.encode())
    assert forged.count(b"keyid") == true.count(b"keyid")
    with pytest.raises(RefusedError) as error:
        read_rotation(forged)
    assert error.value.reason == "bad-signature"


@pytest.mark.parametrize(
    "changes",
    [
        {"old_fingerprint": "0" * 64},
        {"new_fingerprint": KEYS[2].public.fingerprint},
        {"new_key": KEYS[0].public.pem.decode(), "new_fingerprint": KEYS[0].public.fingerprint},
        {"party": "north"},
        {"party": "node/No"},
        {"time": "2030-02-30T12:00:00Z"},
        {"time": "yesterday"},
        {"reason": ""},
        {"reason": "two\nlines"},
        {"reason": "x" * 201},
        {"new_key": "-----BEGIN"},
    ],
)
def test_nothing_malformed_is_ever_signed(changes: dict[str, str]) -> None:
    with pytest.raises(RefusedError, match="predicate that does not fit"):
        signed_by(KEYS[0], KEYS[1], **changes)


def test_it_has_the_documented_form() -> None:
    schema = json.loads((Path(__file__).parents[2] / "docs/formats/rotation.schema.json").read_bytes())
    properties = schema["properties"]
    assert schema["required"] == list(properties) == list(RotationPredicate.model_fields)
    for bundle, party in ((CHAIN[0], COORDINATOR), (step(KEYS[0], KEYS[1], "node/north"), "node/north")):
        said = read_rotation(bundle, party).said.model_dump()
        jsonschema.validate(said, schema)
        for name in properties:
            with pytest.raises(jsonschema.ValidationError):
                jsonschema.validate({**said, name: ""}, schema)


def test_no_byte_of_it_can_be_changed() -> None:
    raw = CHAIN[0]
    for place in range(0, len(raw), 3):
        altered = bytes([*raw[:place], raw[place] ^ 1, *raw[place + 1 :]])
        with pytest.raises(RefusedError):
            read_rotation(altered)
    for cut in range(0, len(raw), 97):
        with pytest.raises(RefusedError):
            read_rotation(raw[:cut])
