"""Addresses as people write them, host:port, in the one form that sockets, certificates and gRPC all understand."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

from epgfn.base.errors import UsageError

EXAMPLE: Final = "coordinator.example.org:8443"
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_NUMBER = re.compile(r"[0-9]{1,5}")
_MAX_PORT: Final = 65535
_MAX_HOST: Final = 253


@dataclass(frozen=True)
class Address:
    """Where somebody listens: a name or an IP address without brackets, and a port. `str` is "host:port", IPv6 in brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether it never leaves this machine."""
        ip = ip_of(self.host)
        return ip.is_loopback if ip is not None else self.host.lower() == "localhost"

    @property
    def is_wildcard(self) -> bool:
        """Whether it stands for all addresses of a machine, so that one can listen there and nobody can connect to it."""
        ip = ip_of(self.host)
        return not self.host or (ip is not None and ip.is_unspecified)


def parse_address(text: str) -> Address:
    """The address that a program connects to.

    Raises:
        UsageError: `text` is not host:port; the sentence says how to write it.
    """
    address = parse_listening(text)
    if address.is_wildcard:
        raise UsageError(
            f"{text!r} stands for all addresses of a machine and nobody can connect to it; name the coordinator's host, "
            f"such as {EXAMPLE}"
        )
    if address.port == 0:
        raise UsageError(f"{text!r} has port 0, which nobody can connect to; write the coordinator's port")
    return address


def parse_listening(text: str) -> Address:
    """The address that a program listens on: the host may be missing or a wildcard, and port 0 lets the system pick one.

    Raises:
        UsageError: `text` is not host:port; the sentence says how to write it.
    """
    _require_bare(text, text)
    if text.startswith("["):
        host, bracket, port = text[1:].partition("]:")
        if not bracket:
            raise UsageError(f"{text!r} is not an address; write an IPv6 address as [::1]:8443")
    else:
        host, colon, port = text.rpartition(":")
        if not colon:
            raise UsageError(f"{text!r} has no port; write host:port, such as {EXAMPLE}")
        if ":" in host:
            raise UsageError(
                f"{text!r} is not an address; an IPv6 address goes in brackets before the port, as in [::1]:8443"
            )
    if not _NUMBER.fullmatch(port) or int(port) > _MAX_PORT:
        raise UsageError(
            f"{text!r} has no port that is a number up to {_MAX_PORT}; write host:port, such as {EXAMPLE}"
        )
    if not host:
        return Address("", int(port))
    return Address(_host(host, text, bracketed=text.startswith("[")), int(port))


def parse_name(text: str) -> str:
    """A host name or IP address alone, as a certificate holds it; brackets around an IPv6 address are taken off.

    Raises:
        UsageError: `text` is neither; the sentence says how to write it.
    """
    _require_bare(text, text)
    if text.startswith("[") and text.endswith("]"):
        return _host(text[1:-1], text, bracketed=True)
    if ip_of(text) is None and ":" in text:
        raise UsageError(f"{text!r} is not a name; write the host alone, without a port")
    return _host(text, text, bracketed=":" in text)


def ip_of(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The IP address that `host` is, if it is one and no name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _require_bare(text: str, whole: str) -> None:
    """Nothing but printable ASCII, and none of what belongs to a URL."""
    if not text.isascii():
        raise UsageError(
            f"{whole!r} has letters beyond ASCII; write an international name in the form that begins with xn--"
        )
    if not text or any(char.isspace() or not char.isprintable() for char in text):
        raise UsageError(f"{whole!r} is not an address; write host:port, such as {EXAMPLE}")
    scheme, slashes, rest = text.partition("://")
    if slashes:
        raise UsageError(
            f"{whole!r} has {scheme}:// before it; leave that out and write {rest.split('/')[0]}"
        )
    if "/" in text or "@" in text or "?" in text or "#" in text:
        raise UsageError(f"{whole!r} is more than an address; write host:port alone, such as {EXAMPLE}")


def _host(host: str, whole: str, *, bracketed: bool) -> str:
    ip = ip_of(host)
    if ip is not None:
        if "%" in host:
            raise UsageError(f"{whole!r} names a network interface after %; use an address that needs none")
        if bracketed != (ip.version == 6):
            raise UsageError(f"{whole!r} is not an address; brackets are for IPv6 addresses only")
        return str(ip)
    if bracketed:
        raise UsageError(
            f"{whole!r} has something in brackets that is no IPv6 address; write it as [::1]:8443"
        )
    if host.endswith("."):
        raise UsageError(
            f"{whole!r} has a dot at the end of the name, which no certificate has; leave it out"
        )
    labels = host.split(".")
    if len(host) > _MAX_HOST or not all(_LABEL.fullmatch(label) for label in labels):
        raise UsageError(f"{whole!r} has a host name that is none; write host:port, such as {EXAMPLE}")
    if labels[-1].isdigit():
        raise UsageError(f"{whole!r} looks like an IPv4 address and is none; write four numbers up to 255")
    return host
