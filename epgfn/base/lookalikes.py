"""Names that people cannot tell apart, though to a program they are different.

    look(name)          what a reader sees; equal for names that nobody can tell apart
    glimpse(name)       the same at a glance: capitals, 0 and O, 1 and l make no difference
    look_of_node(name)  of the id of a node, which people take from an invitation or a list

Letters of other scripts count as the Latin ones that most fonts draw alike. The table holds those that are drawn alike, not those that are
merely similar: the Greek rho and p are two names. It is shorter than Unicode's list of confusables (UTS 39), which takes many for one that
a reader can tell apart.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from typing import Final

from epgfn.base.invisible import INVISIBLE

_CYRILLIC: Final = (
    "АВЕЅІЈКМНОРСТХҮԌԚԜасԁеһіјӏорԛѕԝху",
    "ABESIJKMHOPCTXYGQWacdehijlopqswxy",
)
_GREEK: Final = (
    "ΑΒΕΖΗΙΚΜΝΟΡΤΥΧοϲϳϹ",
    "ABEZHIKMNOPTYXocjC",
)
_OTHERS: Final = ("օսհɑɡ\u00b5", "ouhag\u03bc")
_DASHES: Final = ("\u2010\u2011\u2012\u2013\u2212", "-----")
_QUOTES: Final = ("\u2018\u2019\u02bc\u2032\uff07", "'''''")
_FOREIGN: Final = str.maketrans(*map("".join, zip(_CYRILLIC, _GREEK, _OTHERS, strict=True)))
_ALIKE: Final = _FOREIGN | str.maketrans(*map("".join, zip(_DASHES, _QUOTES, strict=True)))
_AT_A_GLANCE: Final = str.maketrans("01i|", "olll")
_IN_LOWER_CASE: Final = str.maketrans("01", "ol")
_WORD: Final = re.compile(r"[^\W\d_]+")


def look(name: str) -> str:
    """What a reader sees of `name`: without what shows nothing, spaces that are not there for more than to keep words apart, and other
    scripts' letters that are drawn as Latin ones."""
    seen = unicodedata.normalize("NFD", INVISIBLE.sub("", name)).translate(_ALIKE)
    return " ".join(unicodedata.normalize("NFC", seen).split())


def glimpse(name: str) -> str:
    """`look`, where capitals, compatible forms (NFKC) and signs that are easily taken for one another make no difference."""
    return unicodedata.normalize("NFKC", look(name)).casefold().translate(_AT_A_GLANCE)


def look_of_node(node: str) -> str:
    """Of a node's id, which has lower-case letters, digits and hyphens: 0 is o and 1 is l, rn is m and vv is w, and hyphens are one."""
    return re.sub("-+", "-", node.translate(_IN_LOWER_CASE).replace("rn", "m").replace("vv", "w"))


def alike(names: Iterable[str], seen: Callable[[str], str]) -> list[tuple[str, str]]:
    """Each name that is `seen` as an earlier, different one, after that one."""
    first: dict[str, str] = {}
    pairs = []
    for name in dict.fromkeys(names):
        other = first.setdefault(seen(name), name)
        if other != name:
            pairs.append((other, name))
    return pairs


def mixed(name: str) -> str | None:
    """A letter of another script in a word that looks wholly Latin and is not, by its code; None if there is no such word."""
    for word in _WORD.findall(unicodedata.normalize("NFC", name)):
        foreign = [char for char in word if ord(char) in _FOREIGN and char != "\u00b5"]
        if foreign and any(char.isascii() for char in word) and word.translate(_FOREIGN).isascii():
            return code(foreign[0])
    return None


def difference(one: str, other: str) -> str:
    """By which character, told by its code, two names that look alike differ; by which spaces, if by nothing else."""
    only = [char for char in other if char not in one] or [char for char in one if char not in other]
    return code(only[0]) if only else "the order or number of characters that look alike"


def code(char: str) -> str:
    """U+0430 (Cyrillic small letter a)"""
    named = unicodedata.name(char, "")
    return f"U+{ord(char):04X}" + (f" ({named.capitalize()})" if named else "")
