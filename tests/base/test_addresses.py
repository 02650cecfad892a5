"""Addresses in their one right form; everything else is refused with the form it should have."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epgfn.base.addresses import parse_address, parse_listening, parse_name
from epgfn.base.errors import UsageError


@pytest.mark.parametrize(
    ("text", "host", "port", "written"),
    [
        ("coordinator.example.org:8443", "coordinator.example.org", 8443, "coordinator.example.org:8443"),
        ("10.0.0.1:1", "10.0.0.1", 1, "10.0.0.1:1"),
        ("[::1]:8443", "::1", 8443, "[::1]:8443"),
        ("[FD00:0::5]:8443", "fd00::5", 8443, "[fd00::5]:8443"),
        ("my_host:65535", "my_host", 65535, "my_host:65535"),
        ("xn--mnchen-3ya.example:443", "xn--mnchen-3ya.example", 443, "xn--mnchen-3ya.example:443"),
    ],
)
def test_the_right_form(text: str, host: str, port: int, written: str) -> None:
    address = parse_address(text)
    assert (address.host, address.port, str(address)) == (host, port, written)
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("::1", r"\[::1\]:8443"),
        ("[::1]", r"\[::1\]:8443"),
        ("::1:8443", r"brackets"),
        ("fe80::1%eth0:8443", "brackets"),
        ("[fe80::1%eth0]:8443", "network interface"),
        ("[10.0.0.1]:8443", "IPv6 addresses only"),
        ("[host]:8443", "no IPv6 address"),
        ("host", "no port"),
        ("host:", "no port that is a number"),
        ("host:x", "no port that is a number"),
        ("host:65536", "no port that is a number"),
        ("host:0", "port 0"),
        ("host:٣", "ASCII"),
        ("https://host:8443", "leave that out and write host:8443"),
        ("https://host:8443/path", "leave that out and write host:8443$"),
        ("dns:///host:8443", "more than an address|leave that out"),
        ("host:8443/path", "more than an address"),
        ("ada@host:8443", "more than an address"),
        ("host.:8443", "dot at the end"),
        ("a..b:1", "host name that is none"),
        ("-a:1", "host name that is none"),
        ("a b:1", "write host:port"),
        ("a\n:1", "write host:port"),
        ("", "write host:port"),
        (":8443", "nobody can connect"),
        ("0.0.0.0:8443", "nobody can connect"),
        ("[::]:8443", "nobody can connect"),
        ("256.0.0.1:1", "four numbers"),
        ("127.1:1", "four numbers"),
        ("münchen.example:443", "xn--"),
        ("a" * 64 + ":1", "host name that is none"),
        ("a." * 127 + "a:1", "host name that is none"),
    ],
)
def test_other_forms_are_refused_with_the_right_one(text: str, word: str) -> None:
    with pytest.raises(UsageError, match=word):
        parse_address(text)


@pytest.mark.parametrize("text", ["0.0.0.0:0", "[::]:8443", ":8443", "localhost:0"])
def test_where_one_can_listen(text: str) -> None:
    assert str(parse_listening(text)) == text


def test_names_alone() -> None:
    assert parse_name("[::1]") == parse_name("::1") == "::1"
    assert parse_name("posterior.example.org") == "posterior.example.org"
    for text, word in (
        ("posterior.example.org:8443", "without a port"),
        ("https://posterior.example.org", "leave that out"),
        ("posterior.example.org.", "dot at the end"),
        ("::x", "without a port"),
    ):
        with pytest.raises(UsageError, match=word):
            parse_name(text)


@given(st.text(max_size=40))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    for parse in (parse_address, parse_listening):
        try:
            address = parse(text)
        except UsageError:
            continue
        assert parse(str(address)) == address
