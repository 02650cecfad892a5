"""Sockets that listen: to the outside at an address of the configuration, and on this machine alone between gate and gRPC."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Final

from epgfn.base.addresses import Address
from epgfn.base.errors import EpgfnError

_BACKLOG: Final = 1024
_MAX_PATH: Final = 100  # bytes of the name of a Unix socket, which may have 104 to 108 with its end


def listen(address: Address) -> tuple[list[socket.socket], Address]:
    """Sockets that listen at `address`, one for each IP address of its host, and the address with the port that they have.

    Raises:
        EpgfnError: the port is in use, or the address is not this machine's.
    """
    made: list[socket.socket] = []
    try:
        port = address.port
        for family, host in _places(address.host):
            made.append(_bound(family, host, port))
            port = made[0].getsockname()[1]
    except OSError:
        for each in made:
            each.close()
        raise EpgfnError(
            f"cannot listen on {address}: the port is in use or the address is not this machine's; "
            "stop the other program, or set another address in coordinator.toml"
        ) from None
    return made, replace(address, port=port)


def _places(host: str) -> list[tuple[int, str]]:
    """Families and IP addresses; no host or [::] stands for all addresses, of both kinds where there are both."""
    if host in ("", "::"):
        return [(socket.AF_INET6, "::")] if socket.has_dualstack_ipv6() else [(socket.AF_INET, "0.0.0.0")]
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys((int(family), str(place[0])) for family, *_, place in found))


def _bound(family: int, host: str, port: int) -> socket.socket:
    both = family == socket.AF_INET6 and host == "::" and socket.has_dualstack_ipv6()
    return socket.create_server((host, port), family=family, backlog=_BACKLOG, dualstack_ipv6=both)


class Inner:
    """A folder for Unix sockets, that nobody else may enter. They have a short name however long the path of `home` is."""

    def __init__(self, home: Path) -> None:
        self._handle: int | None = None
        self._temporary: str | None = None
        if sys.platform == "linux":
            with contextlib.suppress(OSError):
                folder = home / "inner"
                folder.mkdir(mode=0o700, exist_ok=True)
                self._handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)

    def path(self, name: str) -> str:
        """A path for the socket `name`."""
        if self._handle is not None:
            return f"/proc/self/fd/{self._handle}/{name}"
        return os.path.join(self._elsewhere(), name)

    def move(self) -> bool:
        """Have the folder elsewhere, where `home` is on a file system that knows no sockets; False if it is elsewhere already."""
        if self._handle is None:
            return False
        os.close(self._handle)
        self._handle = None
        return True

    def close(self) -> None:
        """Nobody listens in it any more."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def _elsewhere(self) -> str:
        if self._temporary is None:
            places = (tempfile.gettempdir(), "/tmp")
            short = next((place for place in places if len(os.fsencode(place)) < _MAX_PATH // 2), "/tmp")
            try:
                self._temporary = tempfile.mkdtemp(prefix="epgfn-", dir=short)
            except OSError as error:
                raise EpgfnError(
                    f"cannot make a folder in {short}: {error.strerror}; serving needs one there, so make room"
                ) from None
        return self._temporary
