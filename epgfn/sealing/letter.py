"""A letter: what a node and its coordinator say to each other where there is no network, in a file that somebody carries.

    epgfn-letter/v1\\n
    <bundle>\\n                               a signed statement; its subjects are the parts, by SHA-256
    <length (8 bytes, big-endian)><part> ...  in the order of their names

Nothing in it is secret to whoever carries it: a node's letter holds a model only sealed to the round's key, and a reply is sealed to a
key that the node made for it alone. Whose it is, for which study and round, and which letter a reply answers, the statement says.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from epgfn.base import failpoints
from epgfn.base.errors import EpgfnError, RefusedError, UsageError
from epgfn.base.files import open_plain, sha256_hex
from epgfn.sealing.binding import Binding
from epgfn.sealing.bundle import MAX_BYTES as MAX_BUNDLE_BYTES
from epgfn.sealing.encoding import from_base64, length_prefixed, to_base64
from epgfn.sealing.predicates import ReplyPredicate

MAGIC: Final = b"epgfn-letter/v1\n"
MESSAGE, MODEL = "message", "model.sealed"
"""The parts of a node's letter: what it asks, and the sealed model that it sends."""
SEALED_MESSAGE, SEALED_RESULT, SEALED_RUN = "message.sealed", "result.sealed", "run.sealed"
"""The parts of a reply: what is answered, the global model, and the other files of the run, where the letter asks for them."""
MAX_PARTS: Final = 3
MAX_RUN_BYTES: Final = 256 << 20
"""Of the files of a run in a reply: larger ones go by network alone."""
MAX_MESSAGE_BYTES: Final = 4 << 20
"""Of a letter's message: the same as one message of a call may have."""
PIECE: Final = 256 << 10
_LENGTH: Final = 8
_TOKEN_KEY: Final = b"epgfn letter token v1"
_ENROLMENT: Final = b"epgfn letter enrolment v1"


class Part(NamedTuple):
    """Where a part lies in the file."""

    begins: int
    size: int


class Letter(NamedTuple):
    """The outside of a letter that was read. Nothing in it is verified but that the file is whole."""

    path: Path
    bundle: bytes
    parts: tuple[Part, ...]

    @property
    def sha256(self) -> str:
        """What names the letter: SHA-256 of its bundle, which names its parts."""
        return sha256_hex(self.bundle)

    def require_size(self, number: int, most: int) -> None:
        """
        Raises:
            RefusedError: "too-large": the part has more bytes than that.
        """
        if self.parts[number].size > most:
            raise _too_large(self.path, most)

    def part(self, number: int) -> bytes:
        """A part's bytes, whose number was checked."""
        return b"".join(self.pieces(number))

    def pieces(self, number: int, offset: int = 0) -> Iterator[bytes]:
        """A part's bytes from `offset` on, in pieces.

        Raises:
            EpgfnError: the file cannot be read, or was cut short meanwhile.
        """
        begins, size = self.parts[number]
        left = size - offset
        try:
            with open_plain(self.path) as source:
                source.seek(begins + offset)
                while left > 0:
                    data = source.read(min(PIECE, left))
                    if not data:
                        raise _cut_off(self.path)
                    left -= len(data)
                    yield data
        except OSError as error:
            raise EpgfnError(f"cannot read {self.path}: {error.strerror}; copy it again") from None

    def require_parts(self, subjects: Mapping[str, str], names: tuple[str, ...]) -> None:
        """Check that the parts are those `names`, with the SHA-256 that the verified statement gives them.

        Raises:
            RefusedError: "malformed": other parts; "damaged": other bytes.
        """
        if sorted(subjects) != sorted(names) or len(self.parts) != len(names):
            raise RefusedError(
                "malformed", f"{self.path} has other parts than a letter of its kind; have it written again"
            )
        for number, name in enumerate(sorted(names)):
            digest = hashlib.sha256()
            for data in self.pieces(number):
                digest.update(data)
            if digest.hexdigest() != subjects[name]:
                raise RefusedError(
                    "damaged",
                    f"{self.path} was changed on its way: its {name} is not what was signed; copy it again, or have it written again",
                )


def write_letter(path: Path, bundle: bytes, parts: Mapping[str, bytes | Path]) -> None:
    """Write a letter, whole or not at all; a part is bytes, or a file to be copied. Over another letter, since the newest counts.

    Raises:
        EpgfnError: it cannot be written.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            failpoints.at("write", path)
            with beside.open("xb") as target:
                target.write(MAGIC + bundle + b"\n")
                for name in sorted(parts):
                    _write_part(target, parts[name])
                target.flush()
                os.fsync(target.fileno())
            failpoints.at("written", path)
            os.replace(beside, path)
            failpoints.at("renamed", path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise EpgfnError(
            f"cannot write {path}: {error.strerror or 'input/output error'}; free some space or choose another place"
        ) from None


def _write_part(target: BinaryIO, part: bytes | Path) -> None:
    if isinstance(part, bytes):
        target.write(len(part).to_bytes(_LENGTH, "big") + part)
        return
    with part.open("rb") as source:
        target.write(os.fstat(source.fileno()).st_size.to_bytes(_LENGTH, "big"))
        while data := source.read(PIECE):
            target.write(data)


def read_letter(path: Path) -> Letter:
    """The outside of the letter in `path`. However large the file says that it is, no more is read than its statement.

    Raises:
        UsageError: it cannot be read, or is no letter.
        RefusedError: "truncated": it ends too early; "malformed": it goes on where it should end.
    """
    try:
        with open_plain(path) as source:
            size = os.fstat(source.fileno()).st_size
            if source.read(len(MAGIC)) != MAGIC:
                raise UsageError(
                    f"{path} is no letter; epgfn-node writes one with --to-file, and epgfn-coordinator receive a reply"
                )
            bundle = source.read(min(MAX_BUNDLE_BYTES, size) + 1)
            end = bundle.find(b"\n")
            if end < 0:
                raise _cut_off(path) if len(bundle) <= MAX_BUNDLE_BYTES else _malformed(path)
            at, parts = len(MAGIC) + end + 1, []
            while at < size:
                source.seek(at)
                length = source.read(_LENGTH)
                begins, part = at + _LENGTH, int.from_bytes(length, "big")
                if len(length) < _LENGTH or part > size - begins:
                    raise _cut_off(path)
                parts.append(Part(begins, part))
                if len(parts) > MAX_PARTS:
                    raise _malformed(path)
                at = begins + part
    except OSError as error:
        raise UsageError(f"cannot read the letter {path}: {error.strerror}; check the path") from None
    if not parts:
        raise _cut_off(path)
    return Letter(path, bundle[:end], tuple(parts))


def reply_binding(said: ReplyPredicate, key_id: str, part: str) -> Binding:
    """What a part of a reply is sealed under: the letter that it answers, its own name, and whose they are."""
    return Binding(
        said.study_digest,
        said.ledger_vkey,
        said.node_id,
        said.coordinator_fingerprint,
        key_id,
        f"{part} of the reply to {said.letter_sha256}",
    )


def sign_with_token(token: str, *about: bytes) -> bytes:
    """Ed25519 signature, by the key that is derived from a one-time token, over what an enrolment by letter is about. It proves that
    whoever made it has the token, which does not travel."""
    return _token_key(token).sign(_said_by_token(about))


def token_public(token: str) -> str:
    """The public half of the key derived from a token, in base64: what the coordinator keeps. It signs nothing."""
    return to_base64(_token_key(token).public_key().public_bytes_raw())


def is_signed_by_token(public: str, signature: bytes, *about: bytes) -> bool:
    """Whether `sign_with_token` made this signature, with the token that `public` is of."""
    try:
        key = Ed25519PublicKey.from_public_bytes(from_base64(public, "token's key", 32))
        key.verify(signature, _said_by_token(about))
    except (InvalidSignature, RefusedError, ValueError):
        return False
    return True


def _token_key(token: str) -> Ed25519PrivateKey:
    derived = HKDF(hashes.SHA256(), 32, salt=None, info=_TOKEN_KEY).derive(token.encode("utf-8"))
    return Ed25519PrivateKey.from_private_bytes(derived)


def _said_by_token(about: tuple[bytes, ...]) -> bytes:
    return length_prefixed([_ENROLMENT, *about])


def _cut_off(path: Path) -> RefusedError:
    return RefusedError("truncated", f"{path} ends too early; copy it again, or have it written again")


def _malformed(path: Path) -> RefusedError:
    return RefusedError("malformed", f"{path} is not a letter of version 1; have it written again")


def _too_large(path: Path, most: int) -> RefusedError:
    return RefusedError(
        "too-large",
        f"a part of {path} has more than the {most} bytes that it may have; have it written again",
    )
