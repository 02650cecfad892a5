"""C2SP signed notes with Ed25519 keys: UTF-8 text, a blank line, signature lines.

    <text>

    — <key name> base64(key id || Ed25519 signature of the text)

    key id       = SHA-256(name || 0x0A || 0x01 || public key)[:4]
    verifier key = <name>+<hex key id>+base64(0x01 || public key)
    signer key   = PRIVATE+KEY+<name>+<hex key id>+base64(0x01 || seed)

Source: https://c2sp.org/signed-note; the signer key's text form is that of Go's golang.org/x/mod/sumdb/note.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from epgfn.base.errors import UsageError
from epgfn.base.files import MAX_KEY_BYTES, read_secret, write_secret
from epgfn.base.private_keys import named_pem, open_named
from epgfn.ledger.encoding import from_base64, to_base64
from epgfn.ledger.errors import LedgerError

ED25519 = b"\x01"
MAX_NOTE_BYTES = 1 << 20
MAX_SIGNATURES = 100
_DASH = "\u2014 "
_SIGNER_PREFIX = "PRIVATE+KEY+"
_PROTECTED = "ledger key "


@dataclass(frozen=True)
class NoteVerifier:
    """A log's name and Ed25519 public key (32 bytes)."""

    name: str
    public_key: bytes

    @property
    def key_id(self) -> bytes:
        """The 4 bytes that stand before each signature."""
        return _key_id(self.name, self.public_key)

    @property
    def vkey(self) -> str:
        """The verifier key as one string, `<name>+<hex key id>+<base64>`."""
        return f"{self.name}+{self.key_id.hex()}+{to_base64(ED25519 + self.public_key)}"

    @classmethod
    def from_vkey(cls, text: str) -> NoteVerifier:
        """The verifier that `text`, as `vkey` writes it, stands for (no newline).

        Raises:
            LedgerError: malformed, not Ed25519, or the key id does not fit the key.
        """
        name, key_id, key = _split_key(text, "verifier key")
        verifier = cls(name, key)
        if key_id != verifier.key_id.hex():
            raise LedgerError("the verifier key's id does not fit its key; copy it again from its source")
        return verifier

    def verify(self, note: bytes, *, strict: bool = False) -> str:
        """`verify(note, self, strict=strict)`."""
        return verify(note, self, strict=strict)


class NoteSigner:
    """An Ed25519 key with a name that signs notes. Its `repr` shows no key material."""

    def __init__(self, name: str, seed: bytes) -> None:
        require_name(name)
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.verifier = NoteVerifier(name, self._key.public_key().public_bytes_raw())

    def __repr__(self) -> str:
        return f"NoteSigner({self.verifier.vkey!r})"

    @property
    def name(self) -> str:
        """The key's name, which for a log is its origin."""
        return self.verifier.name

    @classmethod
    def generate(cls, name: str) -> NoteSigner:
        """A fresh key; LedgerError if `name` is empty or holds a space, a plus or a control character."""
        return cls(name, Ed25519PrivateKey.generate().private_bytes_raw())

    @classmethod
    def load(cls, path: Path, passphrase: str | None = None) -> NoteSigner:
        """The key in the file at `path`; one that is not encrypted opens with any `passphrase`, as earlier versions encrypted none.

        Raises:
            EpgfnError: it is missing, others may read it, or the passphrase is missing or wrong.
            UsageError: it is not a signer key.
        """
        raw = read_secret(path, MAX_KEY_BYTES)
        if raw.startswith(_PROTECTED.encode()):
            name, opened = open_named(raw, _PROTECTED, Ed25519PrivateKey, path, passphrase)  # type: ignore[type-abstract]
            return cls(name, opened.private_bytes_raw())
        try:
            text = raw.decode("utf-8").removesuffix("\n")
            if not text.startswith(_SIGNER_PREFIX):
                raise LedgerError("not a signer key")
            name, key_id, seed = _split_key(text.removeprefix(_SIGNER_PREFIX), "signer key")
            signer = cls(name, seed)
            if key_id != signer.verifier.key_id.hex():
                raise LedgerError("the key id does not fit")
        except (LedgerError, ValueError):
            raise UsageError(
                f"{path} does not hold a ledger signing key; restore it from your backup"
            ) from None
        return signer

    def save(self, path: Path, passphrase: str | None = None) -> None:
        """Write the key to `path`, readable by its owner only."""
        write_secret(path, self.private_bytes(passphrase))

    def private_bytes(self, passphrase: str | None = None) -> bytes:
        """The key's file: a secret. Under a passphrase a line with its name, then PKCS#8 PEM."""
        if passphrase:
            return named_pem(_PROTECTED, self.name, self._key, passphrase)
        keydata = to_base64(ED25519 + self._key.private_bytes_raw())
        text = f"{_SIGNER_PREFIX}{self.name}+{self.verifier.key_id.hex()}+{keydata}\n"
        return text.encode("utf-8")

    def sign(self, text: str) -> bytes:
        """The signed note of `text`, which ends in a newline. Ed25519 is deterministic: same text, same note.

        Raises:
            LedgerError: the text is empty, does not end in a newline or holds control characters.
        """
        if not text.endswith("\n") or _has_controls(text):
            raise LedgerError("the text of a note must end in a newline and hold no other control characters")
        signature = self.verifier.key_id + self._key.sign(text.encode("utf-8"))
        return f"{text}\n{_DASH}{self.name} {to_base64(signature)}\n".encode()


def verify(note: bytes, verifier: NoteVerifier, *, strict: bool = False) -> str:
    """The text of `note`, signed by `verifier`'s key.

    Signatures of other keys are ignored, as the specification demands: witnesses add theirs, and say nothing to whoever does not know them.
    `strict`: this key has signed once only.

    Raises:
        LedgerError: malformed, not signed by the key, a wrong signature, or (strict) the same key's signature twice.
    """
    text, signatures = split_note(note)
    found = 0
    for name, signature in signatures:
        if (name, signature[:4]) == (verifier.name, verifier.key_id):
            _verify_one(text, signature[4:], verifier)
            found += 1
    if not found:
        raise LedgerError(
            f"the note is not signed by {verifier.name}; check that the ledger key is the right one"
        )
    if strict and found > 1:
        raise LedgerError("the note holds the same key's signature twice; use the original file")
    return text


def signers(note: bytes) -> tuple[str, list[tuple[str, str]]]:
    """The text of `note`, and name and key id (hexadecimal) of each key that it says signed it: NOTHING is verified.

    Raises:
        LedgerError: malformed.
    """
    text, signatures = split_note(note)
    return text, [(name, signature[:4].hex()) for name, signature in signatures]


def _verify_one(text: str, signature: bytes, verifier: NoteVerifier) -> None:
    try:
        Ed25519PublicKey.from_public_bytes(verifier.public_key).verify(signature, text.encode("utf-8"))
    except (InvalidSignature, ValueError):
        raise LedgerError(
            f"the signature of {verifier.name} on the note is not valid; the text was changed"
        ) from None


def split_note(note: bytes) -> tuple[str, list[tuple[str, bytes]]]:
    """The text, and (key name, key id || signature) of each signature line: NOTHING is verified. LedgerError: malformed."""
    if len(note) > MAX_NOTE_BYTES:
        raise LedgerError(f"the note is larger than {MAX_NOTE_BYTES} bytes")
    try:
        whole = note.decode("utf-8")
    except UnicodeDecodeError:
        raise LedgerError("the note is not UTF-8 text") from None
    text, blank, tail = whole.rpartition("\n\n")
    if not blank or not tail.endswith("\n") or _has_controls(whole):
        raise LedgerError("the note has no signatures or holds control characters")
    lines = tail[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise LedgerError(f"the note has more than {MAX_SIGNATURES} signatures")
    return text + "\n", [_signature_line(line) for line in lines]


def _signature_line(line: str) -> tuple[str, bytes]:
    name, space, encoded = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH) or not space:
        raise LedgerError("a signature line of the note is malformed")
    require_name(name)
    signature = from_base64(encoded, "signature in the note")
    if len(signature) < 5:
        raise LedgerError("a signature in the note is too short")
    return name, signature


def split_key(text: str, what: str) -> tuple[str, str, bytes]:
    """Name, hexadecimal key id and the signature type with the key's bytes behind it, of a key in text form. LedgerError: malformed."""
    parts = text.split("+", 2)  # base64 may hold further plus signs
    if len(parts) != 3:
        raise LedgerError(f"the {what} is not of the form name+id+key")
    name, key_id, encoded = parts
    require_name(name)
    return name, key_id, from_base64(encoded, what)


def _split_key(text: str, what: str) -> tuple[str, str, bytes]:
    """Name, hexadecimal key id and the 32 bytes of an Ed25519 key in text form."""
    name, key_id, key = split_key(text, what)
    if len(key) != 33 or key[:1] != ED25519:
        raise LedgerError(f"the {what} is not an Ed25519 key")
    return name, key_id, key[1:]


def _key_id(name: str, public_key: bytes) -> bytes:
    return hashlib.sha256(name.encode("utf-8") + b"\n" + ED25519 + public_key).digest()[:4]


def require_name(name: str) -> None:
    """LedgerError unless `name` may be a key's."""
    if not name or "+" in name or _has_controls(name) or any(c.isspace() for c in name):
        raise LedgerError("a key name must not be empty or hold a space, a plus sign or control characters")


def _has_controls(text: str) -> bool:
    return any(c < " " and c != "\n" for c in text)
