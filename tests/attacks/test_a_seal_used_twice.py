"""Promise: of two seals of one model nothing is the same, and nothing of one opens as a part of the other.

Whoever sees both, or a coordinator that is handed a body under another seal's header, learns nothing and opens nothing. The bytes behind
the header are sixteen-KiB chunks: whole chunks are swapped, too.
"""

from __future__ import annotations

import pytest

from coordinator_client import FakeNode, InProcess, Upload, make_home, reason_of, tiny_study
from epgfn.base.canonical import canonical_json, parse_canonical_json
from epgfn.base.errors import RefusedError
from epgfn.base.files import sha256_hex
from epgfn.sealing.binding import Binding
from epgfn.sealing.bundle import read_unverified, sign_statement
from epgfn.sealing.envelope import MAGIC, open_sealed, seal
from epgfn.sealing.round_key import SUITES, RoundPrivateKey
from epgfn.sealing.statement import UPLOAD, make_statement

PLAIN = bytes(3 * 16384)  # three chunks that are all the same
CHUNK = 16384 + 16


def parts(sealed: bytes) -> tuple[dict[str, str], bytes]:
    header, _, body = sealed[len(MAGIC) :].partition(b"\n")
    return parse_canonical_json(header), body


def put_together(fields: dict[str, str], body: bytes) -> bytes:
    return MAGIC + canonical_json(fields) + b"\n" + body


@pytest.fixture(scope="module", params=SUITES)
def two(request: pytest.FixtureRequest) -> tuple[RoundPrivateKey, Binding, bytes, bytes]:
    key = RoundPrivateKey.generate(request.param)
    binding = Binding("1" * 64, "round-1", "north", "2" * 64, key.key_id)
    return key, binding, seal(PLAIN, key.public, binding), seal(PLAIN, key.public, binding)


def test_two_seals_of_one_model_share_nothing_behind_their_names(
    two: tuple[RoundPrivateKey, Binding, bytes, bytes],
) -> None:
    (first, body), (second, other) = parts(two[2]), parts(two[3])
    assert first["suite"] == second["suite"]
    assert not {first["key"][i : i + 24] for i in range(len(first["key"]) - 24)} & {
        second["key"][i : i + 24] for i in range(len(second["key"]) - 24)
    }
    assert first["nonce"] != second["nonce"]
    # Eight bytes in common anywhere come by chance once in 2^64 / (48 KiB)^2.
    seen = {body[i : i + 8] for i in range(len(body) - 8)}
    assert len(seen) == len(body) - 8, "and within one seal equal chunks are not to be told"
    assert not any(other[i : i + 8] in seen for i in range(len(other) - 8))


def test_no_part_of_one_seal_opens_in_another(two: tuple[RoundPrivateKey, Binding, bytes, bytes]) -> None:
    key, binding, one, two_ = two
    (first, body), (second, other) = parts(one), parts(two_)
    start = len(body) - 3 * CHUNK
    spliced = {
        "another seal's body": put_together(first, other),
        "another seal's encapsulated key": put_together({**first, "key": second["key"]}, body),
        "another seal's nonce": put_together({**first, "nonce": second["nonce"]}, body),
        "another seal's beginning": put_together(first, other[:start] + body[start:]),
        **{
            f"chunk {i} of another": put_together(
                first,
                body[: start + i * CHUNK] + other[start + i * CHUNK :][:CHUNK] + body[start + (i + 1) * CHUNK :],
            )
            for i in range(3)
        },
        "two chunks in another order": put_together(
            first, body[:start] + body[start + CHUNK : start + 2 * CHUNK] + body[start : start + CHUNK] + body[start + 2 * CHUNK :]
        ),
    }  # fmt: skip
    assert open_sealed(put_together(first, body), key, binding) == PLAIN
    for what, sealed in spliced.items():
        with pytest.raises(RefusedError) as refused:
            open_sealed(sealed, key, binding)
        assert refused.value.reason == "cannot-decrypt", what


def test_a_coordinator_refuses_a_node_that_signs_such_a_splice(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    study = tiny_study()
    home = make_home(tmp_path_factory.mktemp("splice") / "coordinator", study)
    with InProcess(home):
        node = FakeNode.enrolled(home, study.roster[0])
        true, again = node.make_upload(study), node.make_upload(study)
        spliced = put_together(parts(true.sealed)[0], parts(again.sealed)[1])
        claim = parse_canonical_json(read_unverified(true.bundle)[0])["predicate"]
        statement = make_statement({"model.sealed": sha256_hex(spliced)}, UPLOAD, claim)
        upload = Upload(spliced, sign_statement(statement, node.signing))
        assert reason_of(lambda: node.send(upload)) == "cannot-decrypt"
        assert node.send(true).receipt
