"""TOML from strangers: what is too much is refused before the parser sees it.

Python's parser takes time and memory that grow with the square of the dots in one key, and fails without an error of its own on deep
nesting. So the text is looked over once, from left to right, and only what stays within the bounds is parsed. They are far beyond any
file that people write.
"""

from __future__ import annotations

import tomllib
from typing import Any, Final

MAX_BYTES: Final = 64 << 10
MAX_DEPTH: Final = 16  # of brackets and braces
MAX_DOTS: Final = 8  # in one key
MAX_KEYS: Final = 4096  # and tables and lists
MAX_WORD: Final = 256  # characters of a key or number without quotes
_ENDS_OF_KEYS: Final = "=,\n[]{}"


class TooMuchError(tomllib.TOMLDecodeError):
    """The text is beyond one of the bounds above, whether or not it is TOML."""


def parse_toml(raw: bytes) -> dict[str, Any]:
    """The tables in the bytes of a file; a byte-order mark, as some editors write one, says nothing. Linear in time and memory.

    Raises:
        UnicodeDecodeError: it is not UTF-8.
        tomllib.TOMLDecodeError: it is no TOML, or beyond a bound.
    """
    if len(raw) > MAX_BYTES:
        raise TooMuchError(f"it is larger than {MAX_BYTES >> 10} KiB")
    text = raw.decode("utf-8-sig")
    _require_bounded(text)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except (ValueError, RecursionError):
        # Such as a date that there is not; the cause may quote what it read.
        raise tomllib.TOMLDecodeError("a value in it cannot be read") from None


def _require_bounded(text: str) -> None:
    """Go over `text` as the parser does: strings and comments hide what is in them. Where the parser would stop, so does this.

    Raises:
        TooMuchError: it is beyond a bound.
    """
    place, depth, dots, keys, word = 0, 0, 0, 0, 0
    while place < len(text):
        char = text[place]
        if char in "\"'":
            place, word = _after_string(text, place), 0
            if place < 0:
                return
            continue
        if char == "#":
            place = text.find("\n", place)
            if place < 0:
                return
            continue
        place += 1
        word = 0 if char.isspace() or char in _ENDS_OF_KEYS else word + 1
        if char in _ENDS_OF_KEYS:
            dots = 0
            keys += char in "=[{"
            depth += (char in "[{") - (char in "]}")
        elif char == ".":
            dots += 1
        if depth > MAX_DEPTH:
            raise TooMuchError(f"tables or lists in it are nested more than {MAX_DEPTH} deep")
        if dots > MAX_DOTS:
            raise TooMuchError(f"a key in it has more than {MAX_DOTS} dots")
        if keys > MAX_KEYS:
            raise TooMuchError(f"it has more than {MAX_KEYS} keys, tables and lists")
        if word > MAX_WORD:
            raise TooMuchError(f"a key or number in it is longer than {MAX_WORD} characters")


def _after_string(text: str, place: int) -> int:
    """Where the string that begins at `place` has ended; -1 if it never does, which no parser gets past."""
    quote = text[place]
    if not text.startswith(quote * 3, place):
        return _closed(text, place + 1, quote, escapes=quote == '"', within_line=True)
    end = _closed(text, place + 3, quote * 3, escapes=quote == '"', within_line=False)
    # One or two quotation marks before the three that close it belong to the string.
    for _ in range(2):
        if end >= 0 and text.startswith(quote, end):
            end += 1
    return end


def _closed(text: str, place: int, mark: str, *, escapes: bool, within_line: bool) -> int:
    """Behind the first `mark` at or after `place` that is not escaped; -1 if there is none, or not in this line."""
    end = -1
    while True:
        if end < place:
            end = text.find(mark, place)
            if end < 0 or (within_line and text.find("\n", place, end) >= 0):
                return -1
        escape = text.find("\\", place, end) if escapes else -1
        if escape < 0:
            return end + len(mark)
        place = escape + 2
