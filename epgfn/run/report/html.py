"""Small pieces of HTML, and the page around them. Whatever is text is escaped here; sections never do it themselves.

`Markup` is text that is already HTML. Every helper takes plain strings and escapes them, or takes `Markup` and leaves it.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from importlib import resources
from string import Template

from epgfn.run.report.text import escape

# Even if a string slipped through, the page may load nothing, run nothing and send nothing.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'"

PIXELS = 1.75  # of a figure for one of the page: sharp on paper and on fine screens

PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="$policy">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>$title</title>
<style>
$style</style>
</head>
<body>
<main>
$body
</main>
</body>
</html>
""")


class Markup(str):
    """A string that is HTML already."""


def fragment(text: object) -> Markup:
    """`text` as HTML: `Markup` stays, anything else is escaped."""
    return text if isinstance(text, Markup) else Markup(escape(text))


def join(parts: Iterable[object], between: str = "\n") -> Markup:
    """Pieces one after the other."""
    return Markup(between.join(fragment(part) for part in parts))


def tag(name: str, *content: object, **attributes: object) -> Markup:
    """`<name attributes>content</name>`; `class_` gives class, `aria_hidden` aria-hidden. Names are ours, never the user's."""
    pairs = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"' for key, value in attributes.items()
    )
    return Markup(f"<{name}{pairs}>{join(content, '')}</{name}>")


def paragraph(*content: object) -> Markup:
    """A paragraph."""
    return tag("p", *content)


def bullets(items: Iterable[object]) -> Markup:
    """A list."""
    return tag("ul", join(tag("li", item) for item in items))


def section(title: str, *content: object) -> Markup:
    """A titled section; empty pieces are left out."""
    return tag("section", tag("h2", title), join(part for part in content if part))


def facts(pairs: Iterable[tuple[object, object]]) -> Markup:
    """Names and values in two columns."""
    return tag(
        "dl", join(join([tag("dt", name), tag("dd", value)], "") for name, value in pairs), class_="facts"
    )


def tiles(pairs: Iterable[tuple[str, str]]) -> Markup:
    """Large figures side by side."""
    cells = (tag("div", tag("dt", name), tag("dd", value)) for name, value in pairs)
    return tag("dl", join(cells), class_="tiles")


def table(
    caption: str, head: Sequence[str], rows: Iterable[Sequence[object]], numeric: Sequence[str] = ()
) -> Markup:
    """A table; the columns named in `numeric` are aligned to the right."""
    kinds = [{"class_": "n"} if name in numeric else {} for name in head]
    header = tag(
        "tr", *(tag("th", name, scope="col", **kind) for name, kind in zip(head, kinds, strict=True))
    )
    body = join(
        tag("tr", *(tag("td", cell, **kind) for cell, kind in zip(row, kinds, strict=True))) for row in rows
    )
    whole = tag("table", tag("caption", caption), tag("thead", header), tag("tbody", body))
    return tag("div", whole, class_="scroll")


def picture(png: bytes, alt: str, caption: str) -> Markup:
    """A PNG inside the page. `alt` says what it shows to whoever cannot see it."""
    width = round(int.from_bytes(png[16:20], "big") / PIXELS)  # from the image's header
    source = "data:image/png;base64," + base64.b64encode(png).decode("ascii")
    image = Markup(f'<img src="{source}" width="{width}" alt="{escape(alt)}">')
    return tag("figure", image, tag("figcaption", caption))


def bar(p: float) -> Markup:
    """A probability as the length of a bar."""
    width = 100 * min(1.0, max(0.0, p))
    return tag("span", tag("i", style=f"width:{width:.1f}%"), class_="bar", aria_hidden="true")


def hash_text(digest: str | None) -> Markup:
    """A digest or fingerprint, in full, breaking anywhere."""
    return tag("span", digest or "–", class_="hash")


def page(title: str, body: Markup) -> str:
    """The whole document, complete in itself."""
    style = resources.files(__package__).joinpath("style.css").read_text("utf-8")
    return PAGE.substitute(policy=POLICY, title=escape(title), style=style, body=body)
