"""Shares of a secret, any `threshold` of which give it, and fewer nothing (Shamir, CACM 1979), over a prime field.

A secret of 32 bytes is an element of the field of `PRIME` elements, the smallest prime above 2^256, so that every one has a place in it; a
share is an element too, 33 bytes. The arithmetic is Python's on whole numbers, whose time depends on them: a party computes with secrets of
its own or that it may know, and nobody else can measure how long that takes but over the network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from epgfn.base.errors import RefusedError

PRIME: Final = (1 << 256) + 297
SECRET_BYTES: Final = 32
SHARE_BYTES: Final = 33

RandomBytes = Callable[[int], bytes]
"""So many bytes of chance: `secrets.token_bytes`, but in tests."""


def split(secret: bytes, threshold: int, places: list[int], random: RandomBytes) -> dict[int, bytes]:
    """The share at each of `places`, distinct whole numbers from 1 on, of 32 bytes.

    Raises:
        ValueError: another length, a place of 0 or named twice, or a threshold that these places cannot reach.
    """
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"a secret has {SECRET_BYTES} bytes")
    if not 1 <= threshold <= len(places) or len(set(places)) != len(places) or min(places) < 1:
        raise ValueError("places are distinct whole numbers from 1 on, at least as many as the threshold")
    coefficients = [int.from_bytes(secret, "big"), *(_element(random) for _ in range(threshold - 1))]
    return {place: evaluate(coefficients, place).to_bytes(SHARE_BYTES, "big") for place in places}


def join(shares: Mapping[int, bytes]) -> bytes:
    """The secret of which these are shares, by place; what comes out of too few, or of altered ones, is another or none.

    Raises:
        RefusedError: "share-wrong": they are shares of no 32 bytes.
    """
    points = {place: element_of(share) for place, share in shares.items()}
    secret = at_zero(points)
    if secret >> (8 * SECRET_BYTES):
        raise RefusedError("share-wrong", "the shares do not fit each other; one of them was altered")
    return secret.to_bytes(SECRET_BYTES, "big")


def evaluate(coefficients: list[int], place: int, prime: int = PRIME) -> int:
    """The polynomial with these coefficients, the constant one first, at `place`, modulo `prime` (Horner)."""
    value = 0
    for coefficient in reversed(coefficients):
        value = (value * place + coefficient) % prime
    return value


def at_zero(points: Mapping[int, int], prime: int = PRIME) -> int:
    """The value at 0 of the polynomial of least degree through `points`, modulo `prime` (Lagrange)."""
    value = 0
    for place, y in points.items():
        above = below = 1
        for other in points:
            if other != place:
                above = above * -other % prime
                below = below * (place - other) % prime
        value = (value + y * above * pow(below, -1, prime)) % prime
    return value


def element_of(share: bytes) -> int:
    """The element of the field that a share is.

    Raises:
        RefusedError: "share-wrong": it is none.
    """
    value = int.from_bytes(share, "big")
    if len(share) != SHARE_BYTES or value >= PRIME:
        raise RefusedError("share-wrong", "a share is no element of its field; it was altered")
    return value


def _element(random: RandomBytes) -> int:
    """Uniform: of 257 bits that are no element, others are drawn."""
    while (value := int.from_bytes(random(SHARE_BYTES), "big") & ((1 << 257) - 1)) >= PRIME:
        pass
    return value
