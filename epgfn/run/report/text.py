"""Text that came from somebody else (study, node ids, ledger) made fit to be shown, in a figure or in a page."""

from __future__ import annotations

import html
import math

from epgfn.base.invisible import INVISIBLE, VARIANTS

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def plain(text: object) -> str:
    """`text` on one line, where a character that has no shape (control, right-to-left override, filler) shows as U+FFFD."""
    return "".join(c if _has_shape(c) else (" " if c in "\n\r\t" else REPLACEMENT) for c in str(text))


def _has_shape(char: str) -> bool:
    return char.isprintable() and (INVISIBLE.match(char) is None or VARIANTS.match(char) is not None)


def short(text: object, width: int = 14) -> str:
    """`plain(text)`, cut to `width` characters with an ellipsis: for labels in figures."""
    whole = plain(text)
    return whole if len(whole) <= width else whole[: width - 1] + "…"


def escape(text: object) -> str:
    """`plain(text)` as HTML text, also safe inside a quoted attribute."""
    return html.escape(plain(text), quote=True)


def number(x: float | None, digits: int = 3) -> str:
    """`x` with `digits` decimals; an en dash where it is unknown, "<0.001" where it is positive but too small to show."""
    if x is None or not math.isfinite(x):
        return "–"
    smallest = 10.0**-digits
    return f"<{smallest:.{digits}f}" if 0 < x < smallest / 2 else _minus(f"{x:.{digits}f}")


def signed(x: float, digits: int = 3) -> str:
    """A difference with its sign and `digits` decimals; what rounds to zero has no sign."""
    text = f"{x:+.{digits}f}"
    return _minus(text) if float(text) else text[1:]


def _minus(text: str) -> str:
    return text.replace("-", "\N{MINUS SIGN}")


def size(n: int) -> str:
    """A number of bytes for people: 1.4 MB."""
    value = float(n)
    for unit in ("bytes", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"
