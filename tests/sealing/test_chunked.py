"""C2SP chunked-encryption: what was sealed opens, and nothing else ever does.

The vectors in `vectors/chunked_encryption.json` are Project Wycheproof's (Apache-2.0), made with the reference
implementation of the specification's author.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epgfn.base.errors import RefusedError
from epgfn.sealing import chunked
from epgfn.sealing.chunked import CHUNK_BYTES, PREFIX_BYTES, TAG_BYTES

VECTORS = json.loads((Path(__file__).parent / "vectors" / "chunked_encryption.json").read_text())["tests"]
KEY = bytes(range(32))
CONTEXT = b"study, round, node"
SEALED_CHUNK = CHUNK_BYTES + TAG_BYTES
EDGES = [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES, 2 * CHUNK_BYTES + 7]


class Dribble:
    """A source that gives a few bytes at a time, as a socket or a pipe may."""

    def __init__(self, raw: bytes, step: int) -> None:
        self._source, self._step = BytesIO(raw), step

    def read(self, size: int) -> bytes:
        return self._source.read(min(size, self._step))


def refused(sealed: bytes, key: bytes = KEY, context: bytes = CONTEXT) -> bytes:
    """Assert that `sealed` is refused in both forms; return what the streaming form let through before."""
    with pytest.raises(RefusedError) as caught:
        chunked.decrypt(sealed, key, context)
    assert caught.value.reason == "cannot-decrypt"
    released = BytesIO()
    with pytest.raises(RefusedError):
        chunked.decrypt_stream(BytesIO(sealed), released, key, context)
    return released.getvalue()


def pattern(size: int) -> bytes:
    """Bytes in which any two chunks differ."""
    return hashlib.shake_256(b"plaintext").digest(size)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: f"{v['tcId']}-{v['comment'][:40]}")
def test_agrees_with_the_published_vectors(vector: dict[str, Any]) -> None:
    key, context = bytes.fromhex(vector["key"]), bytes.fromhex(vector["ctx"])
    sealed = zlib.decompress(bytes.fromhex(vector["ct"]))
    released = BytesIO()
    if vector["result"] == "valid":
        chunked.decrypt_stream(BytesIO(sealed), released, key, context)
        assert chunked.decrypt(sealed, key, context) == released.getvalue()
        assert len(released.getvalue()) == vector["msgLength"]
        assert hashlib.sha512(released.getvalue()).hexdigest() == vector["msgSha512"]
    elif len(key) != chunked.KEY_BYTES:
        with pytest.raises(ValueError, match="32 bytes"):
            chunked.decrypt(sealed, key, context)
    else:
        # Only chunks that were verified may have come out.
        out = refused(sealed, key, context)
        assert len(out) <= vector.get("msgLength", 0)
        if len(out) == vector.get("msgLength"):
            assert hashlib.sha512(out).hexdigest() == vector["msgSha512"]


@pytest.mark.parametrize("size", EDGES)
def test_every_length_comes_back_and_costs_what_it_says(size: int) -> None:
    plaintext = pattern(size)
    sealed = chunked.encrypt(plaintext, KEY, CONTEXT)
    assert len(sealed) == chunked.sealed_size(size)
    assert chunked.decrypt(sealed, KEY, CONTEXT) == plaintext


@given(size=st.integers(0, 40_000), step=st.integers(100, 20_000))
@settings(max_examples=20)
def test_streams_that_trickle_give_the_same(size: int, step: int) -> None:
    plaintext = pattern(size)
    sealed, opened = BytesIO(), BytesIO()
    chunked.encrypt_stream(cast(BinaryIO, Dribble(plaintext, step)), sealed, KEY, CONTEXT)
    chunked.decrypt_stream(cast(BinaryIO, Dribble(sealed.getvalue(), step)), opened, KEY, CONTEXT)
    assert opened.getvalue() == plaintext


def test_the_same_plaintext_is_never_sealed_alike() -> None:
    assert chunked.encrypt(b"x", KEY, CONTEXT) != chunked.encrypt(b"x", KEY, CONTEXT)


@given(size=st.sampled_from(EDGES), where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@settings(max_examples=150)
def test_any_flipped_bit_is_refused(size: int, where: float, bit: int) -> None:
    plaintext = pattern(size)
    sealed = bytearray(chunked.encrypt(plaintext, KEY, CONTEXT))
    sealed[int(where * len(sealed))] ^= 1 << bit
    assert plaintext.startswith(refused(bytes(sealed)))


@pytest.mark.parametrize("size", [0, 5])
def test_each_single_bit_of_a_short_message_counts(size: int) -> None:
    sealed = chunked.encrypt(pattern(size), KEY, CONTEXT)
    for index in range(8 * len(sealed)):
        broken = bytearray(sealed)
        broken[index // 8] ^= 1 << index % 8
        assert refused(bytes(broken)) == b""


@given(size=st.sampled_from(EDGES), kept=st.floats(0, 1, exclude_max=True))
@settings(max_examples=100)
def test_any_truncation_is_refused(size: int, kept: float) -> None:
    plaintext = pattern(size)
    sealed = chunked.encrypt(plaintext, KEY, CONTEXT)
    assert plaintext.startswith(refused(sealed[: int(kept * len(sealed))]))


@pytest.mark.parametrize("size", EDGES)
@pytest.mark.parametrize("chunks", [0, 1, 2])
def test_a_cut_at_the_edge_of_a_chunk_is_refused(size: int, chunks: int) -> None:
    sealed = chunked.encrypt(pattern(size), KEY, CONTEXT)
    edge = PREFIX_BYTES + chunks * SEALED_CHUNK
    if edge < len(sealed):
        assert refused(sealed[:edge]) == pattern(size)[: chunks * CHUNK_BYTES]


@given(size=st.sampled_from(EDGES), tail=st.binary(min_size=1, max_size=64))
@settings(max_examples=50)
def test_any_extension_is_refused(size: int, tail: bytes) -> None:
    refused(chunked.encrypt(pattern(size), KEY, CONTEXT) + tail)


def test_chunks_cannot_change_places_or_messages() -> None:
    sealed = chunked.encrypt(pattern(2 * CHUNK_BYTES + 7), KEY, CONTEXT)
    other = chunked.encrypt(pattern(2 * CHUNK_BYTES + 7), KEY, CONTEXT)
    first, second = PREFIX_BYTES, PREFIX_BYTES + SEALED_CHUNK
    end = second + SEALED_CHUNK
    assert refused(sealed[:first] + sealed[second:end] + sealed[first:second] + sealed[end:]) == b""
    refused(sealed[:second] + sealed[first:second] + sealed[end:])
    refused(sealed[:second] + sealed[end:])
    refused(sealed[:second] + other[second:end] + sealed[end:])
    refused(other[:PREFIX_BYTES] + sealed[PREFIX_BYTES:])


@given(key=st.binary(min_size=32, max_size=32), context=st.binary(max_size=64))
@settings(max_examples=50)
def test_another_key_or_context_is_refused_before_any_chunk(key: bytes, context: bytes) -> None:
    sealed = chunked.encrypt(b"secret", KEY, CONTEXT)
    if key != KEY:
        assert refused(sealed, key=key) == b""
    if context != CONTEXT:
        assert refused(sealed, context=context) == b""


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_a_key_of_another_length_is_a_programming_error(length: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        chunked.encrypt(b"", bytes(length), CONTEXT)
