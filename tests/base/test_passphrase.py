"""Where a passphrase comes from, who is asked for one, and what it costs to guess it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from epgfn.base import passphrase as asked
from epgfn.base.errors import UsageError
from epgfn.base.private_keys import ENCRYPTED, to_pem

CHOSEN = "correct horse battery"


class Terminal:
    """A person who types `answers`, one a question."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: str, there: bool = True) -> None:
        self.questions: list[str] = []
        left = list(answers)

        def answer(question: str, stream: object = None) -> str:
            self.questions.append(question)
            return left.pop(0)

        monkeypatch.setattr(asked, "somebody_is_there", lambda: there)
        monkeypatch.setattr(asked.getpass, "getpass", answer)


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asked, "_kept", {})
    for name in (asked.PASSPHRASE, asked.PASSPHRASE_FILE, asked.PASSPHRASE_FD):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "signing.key"
    path.write_bytes(to_pem(ec.generate_private_key(ec.SECP256R1()), CHOSEN))
    return path


def test_who_makes_keys_at_a_terminal_is_asked_twice_and_never_again(
    monkeypatch: pytest.MonkeyPatch, key_file: Path
) -> None:
    terminal = Terminal(monkeypatch, CHOSEN, CHOSEN)
    assert asked.new_passphrase() == CHOSEN
    assert asked.key_passphrase(key_file) == asked.key_passphrase() == asked.new_passphrase() == CHOSEN
    assert len(terminal.questions) == 2


def test_a_person_may_decline(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal(monkeypatch)
    assert asked.new_passphrase(decline=True) is None
    assert not terminal.questions


@pytest.mark.parametrize(
    ("answers", "why"), [(["short"], "at least 8"), ([CHOSEN, "another one"], "two different")]
)
def test_a_short_or_mistyped_one_is_not_taken(
    monkeypatch: pytest.MonkeyPatch, answers: list[str], why: str
) -> None:
    Terminal(monkeypatch, *answers)
    with pytest.raises(UsageError, match=why) as caught:
        asked.new_passphrase()
    assert not any(answer in str(caught.value) for answer in answers)
    assert asked.key_passphrase() is None


def test_without_a_terminal_nobody_is_asked(monkeypatch: pytest.MonkeyPatch, key_file: Path) -> None:
    terminal = Terminal(monkeypatch, there=False)
    assert asked.new_passphrase() is None
    assert asked.key_passphrase(key_file) is None
    assert not terminal.questions


def test_only_a_key_that_needs_one_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, key_file: Path, tmp_path: Path
) -> None:
    plain = tmp_path / "plain.key"
    plain.write_bytes(to_pem(ec.generate_private_key(ec.SECP256R1())))
    terminal = Terminal(monkeypatch, CHOSEN)
    assert asked.key_passphrase(plain) is asked.key_passphrase(tmp_path / "none") is None
    assert asked.key_passphrase(key_file) == asked.key_passphrase(key_file) == CHOSEN
    assert terminal.questions == [f"Passphrase of {key_file}: "]


def test_a_daemon_reads_a_descriptor_once_and_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.write(writing, f"{CHOSEN}\nmore\n".encode())
    os.close(writing)
    monkeypatch.setenv(asked.PASSPHRASE_FD, str(reading))
    assert asked.key_passphrase() == asked.key_passphrase() == asked.new_passphrase() == CHOSEN
    with pytest.raises(OSError):
        os.fstat(reading)


@pytest.mark.parametrize("number", ["987", "three", "-1"])
def test_a_descriptor_that_is_none_is_one_sentence(monkeypatch: pytest.MonkeyPatch, number: str) -> None:
    monkeypatch.setenv(asked.PASSPHRASE_FD, number)
    with pytest.raises(UsageError, match="open descriptor"):
        asked.key_passphrase()


def test_two_sources_or_one_that_is_declined_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(asked.PASSPHRASE, CHOSEN)
    with pytest.raises(UsageError, match="--no-passphrase"):
        asked.new_passphrase(decline=True)
    monkeypatch.setenv(asked.PASSPHRASE_FD, "3")
    with pytest.raises(UsageError, match="both set"):
        asked.key_passphrase()


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP384R1()),
        ed25519.Ed25519PrivateKey.generate(),
        rsa.generate_private_key(65537, 2048),
    ],
)
def test_an_encrypted_key_opens_in_the_library_with_its_passphrase_alone(
    key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey,
) -> None:
    pem = to_pem(key, "påssphrase")
    assert pem.startswith(ENCRYPTED) and pem != to_pem(key, "påssphrase")
    again = serialization.load_pem_private_key(pem, "påssphrase".encode())
    assert to_pem(again) == to_pem(key)
    with pytest.raises(ValueError):
        serialization.load_pem_private_key(pem, b"passphrase")


def test_what_earlier_versions_encrypted_still_opens(tmp_path: Path) -> None:
    from epgfn.sealing.keys import SigningKey

    key = ec.generate_private_key(ec.SECP256R1())
    old = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(CHOSEN.encode()),
    )
    path = tmp_path / "key.pem"
    path.write_bytes(old)
    path.chmod(0o600)
    assert SigningKey.load(path, CHOSEN).as_cryptography().private_numbers() == key.private_numbers()
