"""Which stories the ledger of a masked sum may tell, and that a model has to be made of the total beside it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from epgfn.base.files import sha256_hex
from epgfn.learn.aggregate import train_global
from epgfn.learn.local import train_local
from epgfn.learn.masked import TOTAL, numbers_in, tensors_of, total_of
from epgfn.ledger.entries import AcceptedEntry, EnrolledEntry, Entry, GlobalEntry, StateEntry, SumListEntry
from epgfn.run.audit.masked import require_total
from epgfn.run.audit.rules import Failed
from epgfn.run.audit.story import require_story
from epgfn.sealing.keys import SigningKey
from epgfn.sealing.model_file import write_model
from epgfn.sealing.predicates import RoundPredicate
from epgfn.study import Study
from small import SMALL_STUDY

NODES = ("east", "north", "south", "west")
STUDY = Study.from_bytes(
    SMALL_STUDY.replace('["north", "south"]', '["east", "north", "south", "west"]')
    .replace("[policy]", '[target]\nkind = "bge"\nparameters = "shared"\n\n[policy]', 1)
    .replace("[aggregation]", '[aggregation]\nsums = "masked"\nquorum = 3', 1)
    .encode()
)
ROUND = "round-1"
MANIFEST = RoundPredicate.model_construct(
    round_id=ROUND, round_key_id="0" * 64, coordinator_fingerprint="0" * 64
)


def digest(*parts: object) -> str:
    return sha256_hex(repr(parts).encode())


def listed(step: str, nodes: tuple[str, ...]) -> SumListEntry:
    said = {node: digest("upload" if step == "uploads" else step, node) for node in nodes}
    return SumListEntry(round_id=ROUND, step=step, statements=said)  # type: ignore[arg-type]


def story() -> list[Entry]:
    """One that may be: west is gone after its keys, south after its upload."""
    key = SigningKey.generate().public
    three = NODES[:3]
    enrolled: list[Entry] = [
        EnrolledEntry(node_id=node, signing_key=key.pem.decode(), fingerprint=digest("key", node))
        for node in NODES
    ]
    return [
        StateEntry(round_id=ROUND, state="open"),
        *enrolled,
        listed("keys", NODES),
        listed("shares", three),
        *(
            AcceptedEntry(
                round_id=ROUND, node_id=node, sealed_sha256=digest("sealed", node),
                bundle_sha256=digest("upload", node), size=1,
            )
            for node in three
        ),
        listed("uploads", three),
        StateEntry(round_id=ROUND, state="aggregating"),
        listed("signing", three),
        listed("unmasking", three),
        GlobalEntry(round_id=ROUND, bundle_sha256=digest("b"), model_sha256=digest("m")),
    ]  # fmt: skip


def at(step: str, entries: list[Entry]) -> int:
    return next(i for i, e in enumerate(entries) if isinstance(e, SumListEntry) and e.step == step)


def without(step: str) -> Callable[[list[Entry]], None]:
    return lambda entries: entries.pop(at(step, entries)) and None


def instead(step: str, nodes: tuple[str, ...]) -> Callable[[list[Entry]], None]:
    return lambda entries: entries.__setitem__(at(step, entries), listed(step, nodes))


def twice(entries: list[Entry]) -> None:
    place = at("uploads", entries)
    entries.insert(place, entries[place])


def of_one_that_sat_out(entries: list[Entry]) -> None:
    place = at("uploads", entries)
    entries.insert(place, entries[place - 1].model_copy(update={"node_id": "west"}))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (without("shares"), "could not be summed"),
        (without("uploads"), "without, or after, its list of uploads"),
        (without("signing"), "out of its order"),
        (without("unmasking"), "that has no total"),
        (instead("uploads", (*NODES[:2], "west")), "no part in it"),
        (instead("uploads", NODES[:2]), "too few"),
        (instead("signing", (*NODES[:2], "west")), "no part in it"),
        (twice, "out of its order"),
        (of_one_that_sat_out, "could not be summed"),
    ],
)
def test_a_masked_sum_has_its_order(change: Callable[[list[Entry]], None], why: str) -> None:
    require_story(story(), STUDY, MANIFEST)
    entries = story()
    change(entries)
    with pytest.raises(Failed, match=why):
        require_story(entries, STUDY, MANIFEST)


def test_another_study_has_no_such_lists() -> None:
    plain = STUDY.with_changes({"aggregation": {"sums": "plain"}})
    with pytest.raises(Failed, match="the study has none"):
        require_story(story(), plain, MANIFEST)


def test_the_model_is_made_of_the_total_beside_it() -> None:
    rng = np.random.default_rng(1)
    records = {node: rng.normal(size=(40 + i, 3)).cumsum(1) for i, node in enumerate(NODES)}
    sent = {node: train_local(STUDY, x, seed=1).tensors for node, x in records.items()}
    total = tensors_of(total_of(sent))
    result = train_global(STUDY, {TOTAL: total}, seed=STUDY.seed)
    plain = STUDY.with_changes({"aggregation": {"sums": "plain"}})
    unmasked = {node: train_local(plain, x, seed=1).tensors for node, x in records.items()}
    wanted = train_global(plain, unmasked, seed=STUDY.seed).judged.probabilities
    assert dict(result.judged.probabilities) == pytest.approx(dict(wanted), abs=1e-6)
    assert "nodes" not in result.diagnostics and "own" not in result.diagnostics["parameters"]

    def file(numbers: dict[str, torch.Tensor], role: str = "total") -> bytes:
        return write_model(numbers, {"study_digest": STUDY.digest, "role": role})

    require_total(file(total), STUDY, result.tensors, "total")
    with pytest.raises(Failed, match="not those of the records"):
        require_total(
            file(tensors_of(total_of({"a": sent["east"], "b": sent["north"]}))),
            STUDY,
            result.tensors,
            "total",
        )
    with pytest.raises(Failed, match="does not say"):
        require_total(file(total, "local"), STUDY, result.tensors, "total")
    noise = rng.integers(0, 1 << 63, len(numbers_in(total))).astype(np.uint64)
    with pytest.raises(Failed, match="no total of records"):
        require_total(file(tensors_of(noise)), STUDY, result.tensors, "total")
