"""Which connection goes through which proxy."""

from __future__ import annotations

import pytest

from epgfn.base.addresses import parse_address
from epgfn.base.errors import UsageError
from epgfn.rpc.proxies import VARIABLES, channel_options, proxy_for

PROXY = "http://proxy.test:3128"


def through(address: str, **environment: str) -> str | None:
    """The proxy's address."""
    proxy = proxy_for(parse_address(address), environment)
    return None if proxy is None else str(proxy.address)


@pytest.mark.parametrize("name", VARIABLES)
def test_each_variable_counts_and_the_first_wins(name: str) -> None:
    assert through("far.test:8443", **{name: PROXY}) == "proxy.test:3128"
    later = VARIABLES[VARIABLES.index(name) + 1 :]
    assert (
        through("far.test:8443", **{name: PROXY}, **dict.fromkeys(later, "http://x:1")) == "proxy.test:3128"
    )
    assert through("far.test:8443", **{name: "  "}) is None


@pytest.mark.parametrize(
    "address",
    ["localhost:1", "LOCALHOST:1", "127.0.0.1:1", "127.8.9.1:1", "[::1]:8443"],
)
def test_loopback_never(address: str) -> None:
    assert through(address, **dict.fromkeys(VARIABLES, PROXY)) is None


@pytest.mark.parametrize(
    ("entries", "exempt"),
    [
        ("*", True),
        ("a.test,far.example.org", True),
        ("a.test far.example.org", True),
        (".example.org", True),
        ("example.org", True),
        ("*.example.org", True),
        ("FAR.Example.ORG", True),
        ("far.example.org:8443", True),
        ("far.example.org:99", False),
        ("near.example.org", False),
        ("example", False),
        ("10.0.0.0/8", False),
        ("", False),
        (" , ", False),
    ],
)
def test_no_proxy_and_names(entries: str, exempt: bool) -> None:
    for name in ("no_grpc_proxy", "no_proxy", "NO_PROXY"):
        assert (through("far.example.org:8443", https_proxy=PROXY, **{name: entries}) is None) == exempt


@pytest.mark.parametrize(
    ("address", "entries", "exempt"),
    [
        ("10.1.2.3:1", "10.0.0.0/8", True),
        ("10.1.2.3:1", "10.1.2.3", True),
        ("10.1.2.3:1", "2.3", False),
        ("11.1.2.3:1", "10.0.0.0/8", False),
        ("[fd00::5]:1", "fd00::/8", True),
        ("[fd00::5]:1", "[fd00::5]", True),
        ("[fd00::5]:1", "::/129", False),
    ],
)
def test_no_proxy_and_ip_addresses(address: str, entries: str, exempt: bool) -> None:
    assert (through(address, https_proxy=PROXY, no_proxy=entries) is None) == exempt


@pytest.mark.parametrize(
    ("url", "address", "login"),
    [
        ("proxy.test:3128", "proxy.test:3128", ""),
        ("http://proxy.test", "proxy.test:80", ""),
        ("http://proxy.test:3128/", "proxy.test:3128", ""),
        ("http://ada:secret@proxy.test:3128", "proxy.test:3128", "ada:secret"),
        ("http://a%40b:p%3A%20w@[::1]:3128", "[::1]:3128", "a@b:p: w"),
        ("http://ada@proxy.test:3128", "proxy.test:3128", "ada:"),
    ],
)
def test_how_a_proxy_is_written(url: str, address: str, login: str) -> None:
    proxy = proxy_for(parse_address("far.test:1"), {"https_proxy": url})
    assert proxy is not None
    assert (str(proxy.address), proxy.login) == (address, login)
    assert "secret" not in f"{proxy} {proxy!r}"
    ((name, value),) = channel_options(proxy)
    assert name == "grpc.http_proxy"
    assert str(value).endswith(address)


@pytest.mark.parametrize(
    "url",
    ["https://ada:secret@proxy.test:443", "socks5://ada:secret@proxy.test", "http://ada:secret@:3128", "http://a:secret@b:x",
     "http://ada:secret%0a@proxy.test:3128", "http://ada:secret@proxy.test.:3128"],
)  # fmt: skip
def test_what_is_no_proxy_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(UsageError, match="environment variable https_proxy") as refused:
        through("far.test:1", https_proxy=url)
    assert "secret" not in str(refused.value)


def test_directly_means_directly_whatever_grpc_reads() -> None:
    assert channel_options(None) == [("grpc.enable_http_proxy", 0)]
