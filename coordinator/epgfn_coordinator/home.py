"""The coordinator's directory: where each file lies, and the addresses in coordinator.toml.

The directory itself is that of the coordinator's first round. A further round has a folder of its own in rounds/, with everything that
is marked * here; the rest is shared by all of them.

coordinator.toml                 addresses and TLS names; the only file here meant for an editor
rounds/<name>/                   further rounds, of this study or of others
study.toml  study.sigstore.json  round.sigstore.json  *
keys/                            private keys 0600, with their public halves and ca.pem; * ledger.key, ledger.vkey and round.key
state.sqlite                     * the one place where things become true (see store.py)
uploads/<upload>.part            * bytes of uploads under way
log/  inner/                     what `serve` says, the last of it; sockets of this machine alone
artifacts/<sha256>               * sealed models that were accepted
ledger/  global/                 * published from the state, written again at each start
aggregates/<number>/             * further global models, where the study takes late ones
leave-one-out/<node>/            * models of everybody but that node, where the study asks for them
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import tomli_w

from epgfn.base.addresses import parse_listening, parse_name
from epgfn.base.errors import EpgfnError, UsageError
from epgfn.base.files import read_bytes, write_atomic
from epgfn.base.replacing import finish_replacing
from epgfn.base.toml import parse_toml

DEFAULT_ADDRESS = "127.0.0.1:8443"
DEFAULT_ENROLL_ADDRESS = "127.0.0.1:8444"
_KEYS_OF_A_ROUND: Final = ("ledger.key", "ledger.vkey", "round.key")


@dataclass(frozen=True)
class Home:
    """Paths of one round. `root`: its folder; `house`: the coordinator's directory, where that is another, as it is for all rounds but the
    first."""

    root: Path
    house: Path | None = None

    @property
    def shared(self) -> Path:
        """The coordinator's directory."""
        return self.house or self.root

    @property
    def rounds(self) -> Path:
        """The folders of all rounds but the first."""
        return self.shared / "rounds"

    def further(self, name: str) -> Home:
        """The round of that name, there or not; not the first."""
        return Home(self.rounds / name, self.shared)

    @property
    def config(self) -> Path:
        return self.shared / "coordinator.toml"

    @property
    def study(self) -> Path:
        return self.root / "study.toml"

    @property
    def study_bundle(self) -> Path:
        return self.root / "study.sigstore.json"

    @property
    def round_bundle(self) -> Path:
        return self.root / "round.sigstore.json"

    @property
    def ca(self) -> Path:
        return self.keys / "ca.pem"

    @property
    def keys(self) -> Path:
        """Keys that all rounds share."""
        return self.shared / "keys"

    @property
    def round_keys(self) -> Path:
        """Keys of this round alone; for the first it is the same folder."""
        return self.root / "keys"

    @property
    def state(self) -> Path:
        return self.root / "state.sqlite"

    @property
    def uploads(self) -> Path:
        return self.root / "uploads"

    @property
    def artifacts(self) -> Path:
        return self.root / "artifacts"

    @property
    def ledger(self) -> Path:
        return self.root / "ledger"

    @property
    def log(self) -> Path:
        return self.shared / "log"

    @property
    def result(self) -> Path:
        return self.root / "global"

    def aggregate(self, place: str) -> Path:
        """The files of one aggregate, such as "global" or "leave-one-out/clinic-a"."""
        return self.root / place

    def key(self, name: str) -> Path:
        """The file of the key called `name`."""
        return (self.round_keys if name in _KEYS_OF_A_ROUND else self.keys) / name

    def part(self, upload_id: str) -> Path:
        """Bytes kept so far of an upload."""
        return self.uploads / f"{upload_id}.part"

    def artifact(self, sealed_sha256: str) -> Path:
        """An accepted sealed model."""
        return self.artifacts / sealed_sha256

    def require(self) -> None:
        """Refuse a directory that `init` has not made.

        Raises:
            UsageError: there is no coordinator here.
        """
        if not self.state.is_file() or not self.config.is_file():
            raise UsageError(
                f"{self.shared} holds no coordinator; run: epgfn-coordinator init --home {self.shared} --study study.toml"
            )
        finish_replacing(self.shared)  # a change of keys that was killed

    @contextlib.contextmanager
    def served(self) -> Iterator[None]:
        """Hold the coordinator's directory for one `serve`; the system lets go when the process ends, however it ends.

        Raises:
            EpgfnError: another `serve` holds it.
        """
        with self._held(
            ".serving", f"another epgfn-coordinator serves from {self.shared}; stop that one first"
        ):
            yield

    @contextlib.contextmanager
    def adding(self) -> Iterator[None]:
        """The same for one command that adds a round.

        Raises:
            EpgfnError: another does.
        """
        with self._held(
            ".adding", f"another epgfn-coordinator add works in {self.shared}; wait until it ends"
        ):
            yield

    @contextlib.contextmanager
    def _held(self, lock: str, taken: str) -> Iterator[None]:
        handle = os.open(self.shared / lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if not _lock(handle):
                raise EpgfnError(taken)
            yield
        finally:
            os.close(handle)

    def is_served(self) -> bool:
        """Whether a `serve` process holds this directory now."""
        try:
            with self.served():
                return False
        except EpgfnError:
            return True


@dataclass(frozen=True)
class Config:
    """coordinator.toml. The effective addresses are those that `serve` last listened on, where a port was 0."""

    address: str = DEFAULT_ADDRESS
    enroll_address: str = DEFAULT_ENROLL_ADDRESS
    tls_names: tuple[str, ...] = ()
    effective_address: str = ""
    effective_enroll_address: str = ""

    @classmethod
    def load(cls, path: Path) -> Config:
        """Read coordinator.toml.

        Raises:
            UsageError: missing, not TOML, an unknown key or an address that is none.
        """
        try:
            values: dict[str, Any] = parse_toml(read_bytes(path, "settings file"))
            names = values.get("tls_names", [])
            if not isinstance(names, list) or not all(
                isinstance(value, str) for value in (*names, *values.values()) if value is not names
            ):
                raise TypeError
            config = cls(**{**values, "tls_names": tuple(names)})
        except (ValueError, TypeError):
            known = ", ".join(cls.__dataclass_fields__)
            raise UsageError(
                f"{path} is not a valid settings file; it may hold these keys: {known}"
            ) from None
        config.require_addresses(f" in {path}")
        return config

    def require_addresses(self, where: str = "") -> None:
        """Refuse addresses and names that nobody could listen on, connect to, or put into a certificate; `where` they are from.

        Raises:
            UsageError: the sentence names the setting and its right form.
        """
        named = [("address", self.address), ("enroll address", self.enroll_address)]
        checks = [(name, text, parse_listening) for name, text in named]
        names = [("TLS name", text, parse_name) for text in self.tls_names]
        for name, text, parse in [*checks, *names]:
            try:
                parse(text)
            except UsageError as error:
                raise UsageError(f"{name}{where}: {error}") from None
        one, other = (parse_listening(text) for _, text in named)
        if one.port == other.port != 0 and (one.host == other.host or one.is_wildcard or other.is_wildcard):
            raise UsageError(
                f"address and enroll address{where} are the same port, {one.port}; nodes with and without a certificate need one each"
            )

    def save(self, path: Path) -> None:
        """Write coordinator.toml."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        values["tls_names"] = list(self.tls_names)
        if not self.effective_address:
            del values["effective_address"], values["effective_enroll_address"]
        write_atomic(path, tomli_w.dumps(values).encode("utf-8"))

    def with_names(self, names: list[str]) -> Config:
        """The same with more TLS names."""
        return replace(self, tls_names=tuple(dict.fromkeys((*self.tls_names, *names))))

    def with_effective(self, address: str, enroll_address: str) -> Config:
        """The same with the addresses that are listened on."""
        return replace(self, effective_address=address, effective_enroll_address=enroll_address)

    @property
    def public_address(self) -> str:
        """What nodes connect to once they hold a certificate."""
        return self._public(self.address, self.effective_address)

    @property
    def public_enroll_address(self) -> str:
        """What nodes connect to for their certificate."""
        return self._public(self.enroll_address, self.effective_enroll_address)

    def _public(self, text: str, effective: str) -> str:
        address = parse_listening(text)
        if address.port == 0:
            if not effective:
                raise UsageError(
                    f"the port of {text} is chosen when serving starts; start epgfn-coordinator serve first, "
                    "or set a port in coordinator.toml"
                )
            address = replace(address, port=parse_listening(effective).port)
        if address.is_wildcard:
            address = replace(
                address, host=parse_name(self.tls_names[0] if self.tls_names else socket.gethostname())
            )
        return str(address)


def _lock(handle: int) -> bool:
    for _ in range(10):  # `status` and `close` hold it for a moment when they look
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            time.sleep(0.05)
    return False
