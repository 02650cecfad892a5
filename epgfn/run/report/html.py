"""Small pieces of HTML, and the page around them. Whatever is text is escaped here; sections never do it themselves.

`Markup` is text that is already HTML. Every helper takes plain strings and escapes them, or takes `Markup` and leaves it.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from string import Template
from typing import Final

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
<meta name="color-scheme" content="light dark">
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


def tag(name: str, /, *content: object, **attributes: object) -> Markup:
    """`<name attributes>content</name>`; `class_` gives class, `aria_hidden` aria-hidden. Names are ours, never the user's."""
    pairs = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"' for key, value in attributes.items()
    )
    return Markup(f"<{name}{pairs}>" if name == "input" else f"<{name}{pairs}>{join(content, '')}</{name}>")


def paragraph(*content: object) -> Markup:
    """A paragraph."""
    return tag("p", *content)


def bullets(items: Iterable[object]) -> Markup:
    """A list."""
    return tag("ul", join(tag("li", item) for item in items))


def section(title: str, *content: object) -> Markup:
    """A titled section; empty pieces are left out."""
    return tag("section", tag("h2", title), join(part for part in content if part))


def chapter(name: str, title: str, *content: object) -> Markup:
    """One of the page's parts, which links lead to by `name`; what is in it is in subsections."""
    return tag("section", tag("h2", title), join(part for part in content if part), id=name, class_="chapter")


def subsection(title: str, *content: object) -> Markup:
    """A titled section of a chapter; empty pieces are left out."""
    return tag("section", tag("h3", title), join(part for part in content if part))


def link(name: str, text: str) -> Markup:
    """To a chapter of the same page."""
    return tag("a", text, href=f"#{name}")


def folded(summary: str, *content: object) -> Markup:
    """What is shown once the reader opens it; printed, it is left out."""
    return tag("details", tag("summary", summary), join(part for part in content if part))


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
    name = _name(caption, *head)
    return join([tag("p", caption, class_="caption", id=name), _grid(name, head, rows, numeric)])


def sortable(
    caption: str,
    head: Sequence[str],
    rows: Mapping[str, Sequence[Sequence[object]]],
    numeric: Sequence[str] = (),
) -> Markup:
    """The same table in several orders, `rows` by the name of each, the first being shown until the reader chooses another. The page runs
    no script: a choice shows one of the tables and hides the others."""
    name = _name(caption, *head)
    choices, grids = [], []
    for number, (order, sorted_rows) in enumerate(rows.items()):
        own, chosen = f"{name}-{number}", {"checked": ""} if number == 0 else {}
        choice = tag("input", type="radio", name=name, id=own, **chosen)
        choices.append(tag("span", choice, tag("label", order, for_=own), class_=f"choice by-{number}"))
        grids.append(_grid(name, head, sorted_rows, numeric, f" by-{number}"))
    told = tag("span", "Sorted by", class_="by", id=f"{name}-by")
    parts = [told, *choices, *grids]
    whole = tag("div", join(parts), class_="sortable", role="group", aria_labelledby=f"{name}-by")
    return join([tag("p", caption, class_="caption", id=name), whole])


MOST_ORDERS: Final = 6
"""Of a sortable table: style.css has a rule for each."""


def _grid(
    name: str, head: Sequence[str], rows: Iterable[Sequence[object]], numeric: Sequence[str], also: str = ""
) -> Markup:
    """A table without its caption, which has the id `name`; where it is wider than the page it is scrolled by itself."""
    kinds = [{"class_": "n"} if name in numeric else {} for name in head]
    header = tag(
        "tr",
        *(
            tag("th" if title else "td", title, **({"scope": "col"} if title else {}), **kind)
            for title, kind in zip(head, kinds, strict=True)
        ),
    )
    body = join(
        tag("tr", *(tag("td", cell, **kind) for cell, kind in zip(row, kinds, strict=True))) for row in rows
    )
    whole = tag("table", tag("thead", header), tag("tbody", body), aria_labelledby=name)
    return tag("div", whole, class_=f"scroll{also}", tabindex="0", role="group", aria_labelledby=name)


def _name(*texts: str) -> str:
    """An id for what has these texts, the same in every page."""
    return "t" + hashlib.sha256("\0".join(texts).encode("utf-8")).hexdigest()[:10]


def drawing(
    width: float, height: float, alt: str, content: Iterable[object], caption: str = "", least: int = 0
) -> Markup:
    """A drawing inside the page (SVG): sharp at any size, in the page's own colours and fonts. `alt` says what it shows to whoever cannot
    see it; where the page is narrower than `least` pixels it is scrolled."""
    sizes: dict[str, object] = {"viewBox": f"0 0 {width:.0f} {height:.0f}"}
    style = f"width:{width:.0f}px;min-width:{least}px"
    image = tag("svg", join(content), role="img", aria_label=alt, style=style, **sizes)
    shown = tag("div", image, class_="scroll", tabindex="0", role="group", aria_label=alt[:80])
    return tag("figure", shown, tag("figcaption", caption) if caption else "")


def picture(png: bytes, alt: str, caption: str) -> Markup:
    """A PNG inside the page. `alt` says what it shows to whoever cannot see it."""
    width = round(int.from_bytes(png[16:20], "big") / PIXELS)  # from the image's header
    source = "data:image/png;base64," + base64.b64encode(png).decode("ascii")
    image = Markup(f'<img src="{source}" width="{width}" alt="{escape(alt)}">')
    return tag("figure", image, tag("figcaption", caption))


def dots(p: float, others: Sequence[float] = ()) -> Markup:
    """A probability as a dot on a line from 0 to 1; `others` span an interval, with a mark at each."""
    wide = 100.0
    at = [round(5 + (wide - 10) * min(1.0, max(0.0, x)), 1) for x in (p, *others)]
    parts = [tag("line", x1="5", x2=f"{wide - 5:.0f}", y1="8", y2="8", class_="axis")]
    if others:
        parts.append(tag("line", x1=str(min(at[1:])), x2=str(max(at[1:])), y1="8", y2="8", class_="span"))
        parts += [tag("line", x1=str(x), x2=str(x), y1="4", y2="12", class_="mark") for x in at[1:]]
    parts.append(tag("circle", cx=str(at[0]), cy="8", r="4", class_="dot"))
    sizes: dict[str, object] = {"viewBox": f"0 0 {wide:.0f} 16"}
    return tag("svg", join(parts, ""), class_="dots", aria_hidden="true", **sizes)


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
