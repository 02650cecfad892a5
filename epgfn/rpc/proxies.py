"""Which HTTP proxy a connection goes through, decided in one place for calls and for their diagnosis.

The variables are those that other programs know. A proxy opens a tunnel (CONNECT); TLS goes through it from end to end, so that it sees
addresses and sizes, and nothing else.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from epgfn.base.addresses import Address, ip_of, parse_address
from epgfn.base.errors import UsageError

VARIABLES: Final = ("grpc_proxy", "https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY")
EXEMPTING: Final = ("no_grpc_proxy", "no_proxy", "NO_PROXY")
_DEFAULT_PORT: Final = 80


@dataclass(frozen=True)
class Proxy:
    """An HTTP proxy, and the variable that names it. The login is a secret: it is in no text made of this."""

    address: Address
    variable: str
    login: str = field(default="", repr=False)  # "user:password"
    url: str = field(default="", repr=False)

    def __str__(self) -> str:
        return f"the proxy {self.address} (from {self.variable})"


def proxy_for(address: Address, environment: Mapping[str, str] | None = None) -> Proxy | None:
    """The proxy through which `address` is to be reached; None: directly. Loopback never goes through one.

    Raises:
        UsageError: the variable that counts does not name an http:// proxy. Its value may hold a password and is not shown.
    """
    values = os.environ if environment is None else environment
    if address.is_loopback or _is_exempt(address, values):
        return None
    name = next((name for name in VARIABLES if values.get(name, "").strip()), None)
    return None if name is None else _proxy(name, values[name].strip())


def channel_options(proxy: Proxy | None) -> list[tuple[str, int | str]]:
    """The gRPC channel options that make it go through `proxy`, or directly, whatever gRPC would read in the environment."""
    return [("grpc.enable_http_proxy", 0)] if proxy is None else [("grpc.http_proxy", proxy.url)]


def _is_exempt(address: Address, values: Mapping[str, str]) -> bool:
    """Whether an entry of `no_proxy` is *, an ending of the host's name, its IP address, or a network that it is in."""
    ip, host = ip_of(address.host), address.host.lower()
    for text in (values.get(name, "") for name in EXEMPTING):
        for entry in re.split(r"[,\s]+", text.strip().lower()):
            if not entry:
                continue
            if entry == "*" or entry.strip("[]") == host or entry == str(address).lower():
                return True
            if ip is None and host.endswith(entry.removeprefix("*")):
                return True
            if ip is not None and _in_network(ip, entry):
                return True
    return False


def _in_network(ip: ipaddress.IPv4Address | ipaddress.IPv6Address, entry: str) -> bool:
    try:
        return ip in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False


def _proxy(variable: str, url: str) -> Proxy:
    whole = url if "://" in url else f"http://{url}"
    try:
        parts = urlsplit(whole)
        if parts.scheme != "http":
            raise ValueError
        host = parts.hostname or ""
        bracketed = f"[{host}]" if ":" in host else host
        address = parse_address(f"{bracketed}:{parts.port or _DEFAULT_PORT}")
    except (ValueError, UsageError):
        raise UsageError(
            f"the proxy in the environment variable {variable} is not of the form http://host:port or "
            "http://user:password@host:port; correct it (proxies that are themselves reached by TLS, or SOCKS, do not work), "
            f"or name the coordinator's host in no_proxy"
        ) from None
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    login = f"{user}:{password}" if user else ""
    if not login.isprintable():
        raise UsageError(
            f"the user or password of the proxy in the environment variable {variable} has control characters; correct it"
        )
    before = f"{quote(user, safe='')}:{quote(password, safe='')}@" if login else ""
    return Proxy(address, variable, login, f"http://{before}{address}")
