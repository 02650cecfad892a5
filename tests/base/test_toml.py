"""Hostile TOML costs no more than its size, and what people write is read as ever."""

from __future__ import annotations

import time
import tomllib
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epgfn.base import toml
from epgfn.base.toml import MAX_BYTES, TooMuchError, parse_toml

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").rglob("*.toml"))
HOSTILE: dict[str, Callable[[int], str]] = {
    "dots in a key": lambda n: ".".join(["a"] * (n // 2)) + "=1",
    "dots in a quoted key": lambda n: " . ".join(["'a'"] * (n // 6)) + "=1",
    "dots in a header": lambda n: "[" + ".".join(["a"] * (n // 2)) + "]",
    "dots in an inline table": lambda n: "x={" + ".".join(["a"] * (n // 2)) + "=1}",
    "many keys with dots": lambda n: "".join(f"{'.'.join(['a'] * 40)}.b{i}=1\n" for i in range(n // 90)),
    "lists in lists": lambda n: "x=" + "[" * (n // 2) + "]" * (n // 2),
    "tables in tables": lambda n: "x=" + "{a=" * (n // 5) + "1" + "}" * (n // 5),
    "lists that never end": lambda n: "x=" + "[" * n,
    "keys": lambda n: "".join(f"k{i}=1\n" for i in range(n // 8)),
    "headers": lambda n: "".join(f"[k{i}]\n" for i in range(n // 8)),
    "lists of tables": lambda n: "[[a]]\n" * (n // 6),
    "elements": lambda n: "x=[" + "1," * (n // 2) + "]",
    "empty lists": lambda n: "x=[" + "[]," * (n // 3) + "]",
    "a long number": lambda n: "x=" + "9" * n,
    "a long hexadecimal number": lambda n: "x=0x" + "f" * n,
    "a long word": lambda n: "a" * n + "=1",
    "escapes": lambda n: 'x="' + "\\\\" * (n // 2) + '"',
    "escapes in many lines": lambda n: 'x="""' + '\\"' * (n // 2) + '"""',
    "a string that never ends": lambda n: 'x="""' + '\\"""' * (n // 4),
    "quotation marks": lambda n: "'" * n,
    "lines": lambda n: "\n" * n,
    "spaces": lambda n: "x" + " " * n + "=1",
    "a comment": lambda n: "#" + "[." * (n // 2),
}


def cost(text: str) -> tuple[float, int]:
    """CPU seconds, and bytes at the peak, of reading it or refusing to."""
    tracemalloc.start()
    started = time.process_time()
    try:
        parse_toml(text.encode())
    except tomllib.TOMLDecodeError:
        pass
    finally:
        seconds, peak = time.process_time() - started, tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return seconds, peak


@pytest.mark.parametrize("name", HOSTILE)
def test_time_and_memory_are_linear_in_the_size(name: str) -> None:
    sizes = (MAX_BYTES // 16, MAX_BYTES // 4, MAX_BYTES - 200)
    for size in sizes:
        text = HOSTILE[name](size)
        assert len(text) <= MAX_BYTES
        seconds, peak = cost(text)
        assert peak < (1 << 20) + 100 * size, f"{peak} bytes for {size}"
        assert seconds < 0.5 + 100e-6 * size, f"{seconds} s for {size}"


@pytest.mark.parametrize(
    "name",
    ["dots in a key", "dots in a header", "lists in lists", "tables in tables", "keys", "a long number"],
)
def test_what_is_too_much_is_refused_by_its_name(name: str) -> None:
    with pytest.raises(TooMuchError, match=r"dots|nested|keys|longer"):
        parse_toml(HOSTILE[name](40_000).encode())


def test_what_is_too_large_is_refused_unread() -> None:
    assert parse_toml(b"#" * MAX_BYTES) == {}
    with pytest.raises(TooMuchError, match="64 KiB"):
        parse_toml(b"#" * (MAX_BYTES + 1))


def test_bounds_hold_exactly() -> None:
    deep = f"x={'[' * toml.MAX_DEPTH}{']' * toml.MAX_DEPTH}"
    dotted = ".".join(["a"] * (toml.MAX_DOTS + 1)) + "=1"
    assert parse_toml(deep.encode()) and parse_toml(dotted.encode())
    for more in (f"x=[{deep[2:]}]", f"a.{dotted}"):
        with pytest.raises(TooMuchError):
            parse_toml(more.encode())


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_our_own_files_are_read_as_ever(path: Path) -> None:
    assert parse_toml(path.read_bytes()) == tomllib.loads(path.read_text("utf-8"))


@pytest.mark.parametrize(
    "text",
    [
        'a = "[[[[[[[[[[[[[[[[[[[[[" # [[[[[[[[[[[[[[[[[[[[[[[[[',
        "a = '''\n[[[[[[[[[[[[[[[[[[[[[[[[[''''\nb = 1",
        'a = """\\"""[[[[[[[[[[[[[[[[[[[[[[[""""" # x\nb = 1',
        f"a = '{'x.' * 500}'",
        f"description = '''{'word ' * 5000}'''",
        "a.b.c = 1.5\nd = 1979-05-27T07:32:00.999Z\n'e.f.g.h.i.j.k.l.m.n' = 2",
        "\ufeffa = 1\r\nb = 2\r\n",
    ],
)
def test_what_is_in_strings_and_comments_does_not_count(text: str) -> None:
    assert parse_toml(text.encode()) == tomllib.loads(text.removeprefix("\ufeff"))


def depth(value: Any) -> int:
    if isinstance(value, dict | list):
        return 1 + max(map(depth, value.values() if isinstance(value, dict) else value), default=0)
    return 0


@given(st.text(alphabet="a=.[]{}\"'\\#\n ,1", max_size=60))
def test_no_text_gets_past_the_bounds(text: str) -> None:
    """With bounds so small that they matter: a table or list within a table at most, whatever is done with quotation marks."""
    with pytest.MonkeyPatch.context() as small:
        small.setattr(toml, "MAX_DEPTH", 1)
        small.setattr(toml, "MAX_DOTS", 0)
        try:
            found = parse_toml(text.encode())
        except TooMuchError:
            return
        except tomllib.TOMLDecodeError:
            with pytest.raises(ValueError):
                tomllib.loads(text)
            return
    assert found == tomllib.loads(text)
    assert depth(found) <= 3


def test_values_that_cannot_be_read_are_a_mistake_of_the_file() -> None:
    for text in ("a = 2020-13-45", "a = " + "[" * 16 + "1979-05-32" + "]" * 16):
        with pytest.raises(tomllib.TOMLDecodeError):
            parse_toml(text.encode())
    with pytest.raises(UnicodeDecodeError):
        parse_toml(b"a = '\xff'")
