"""Characters that show nothing where they stand, so that two texts may look alike and differ.

Unicode calls them default ignorable: controls of direction and joining, fillers, variation selectors, tags. Python's `str.isprintable`
knows of the first kind alone.
"""

from __future__ import annotations

import re
from typing import Final

_SELECTORS = "\u180b-\u180d\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef"
VARIANTS: Final = re.compile(f"[{_SELECTORS}]")
"""They choose another form of the character before them, as of ideographs in names, and mean nothing by themselves."""
INVISIBLE: Final = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164\ufeff\uffa0\ufff0-\ufff8"
    f"{_SELECTORS}\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e00ff\U000e01f0-\U000e0fff]"
)
"""All of them, with the pattern of Braille that has no dots."""
_FIRST_WITH_VARIANTS: Final = 0x1800
"""Mongolian; before it are the alphabets, whose letters have none."""


def hidden_in(name: str) -> str | None:
    """The first character of `name` that shows nothing; None if there is none. Variants of ideographs and of symbols are forms of the
    character before them, and are none."""
    for found in INVISIBLE.finditer(name):
        before = name[found.start() - 1] if found.start() else ""
        if not (VARIANTS.match(found[0]) and before and _has_variants(before)):
            return found[0]
    return None


def _has_variants(char: str) -> bool:
    return ord(char) >= _FIRST_WITH_VARIANTS and INVISIBLE.match(char) is None


def visible(text: str, keep: str = "") -> str:
    """`text`, where each character that nobody would see, that steers a terminal or turns the direction of writing, stands as its code:
    \\u202e. Ends of lines too, but for those in `keep`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c in keep or _is_seen(c) else _code(c) for c in text)


def _is_seen(char: str) -> bool:
    return char.isprintable() and INVISIBLE.match(char) is None


def _code(char: str) -> str:
    return f"\\u{ord(char):04x}" if ord(char) < 1 << 16 else f"\\U{ord(char):08x}"
