"""The report in a browser, as people open it: on a telephone, a tablet, a desk, in the dark, on paper and from the keyboard."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kinds
from browsing import CHROMIUM, OUT_OF_SIGHT, browser, opened
from epgfn.run.report import report_of
from epgfn.run.report.run import read_run
from epgfn.study import Study
from report_run import make_comparison, make_run
from small import SMALL_STUDY

pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium on this machine; install it to open the report"
)
WIDTHS = (390, 768, 1280)
MOST_BYTES = 3_000_000
LONG = "Γ-glutamyl transferase, serum (U/l), at baseline"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A simulation with long names, fifty variables, and trees."""
    root = tmp_path_factory.mktemp("pages")
    small = Study.from_bytes(SMALL_STUDY.encode())
    named = small.with_changes({"variables": [{"name": name} for name in (LONG, "b" * 60, "c")]})
    simulated = read_run(make_run(root / "simulated", named, make_comparison(named), local=True))
    wide = small.with_changes(
        {"variables": [{"name": f"{LONG[:40]} {i}" if i % 3 else f"x{i}"} for i in range(50)]}
    )
    draw = np.random.default_rng(1)
    edges = np.clip(draw.beta(0.05, 2.0, (50, 50)), 0, 0.5) * ~np.eye(50, dtype=bool)
    many = replace(
        simulated,
        study=wide,
        edges=edges,
        compelled=edges * draw.uniform(0, 1, (50, 50)),
        counts={},
        comparison=None,
    )
    trees = read_run(make_run(root / "trees", kinds.study("phylogeny")))
    found = {}
    for name, run in (("simulated", simulated), ("many", many), ("trees", trees)):
        found[name] = root / f"{name}.html"
        found[name].write_text(report_of(run)[0], "utf-8")
    return found


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as found:
        yield found


def test_nothing_is_cut_off_at_any_width_and_nothing_is_asked_for(
    chromium: Any, pages: dict[str, Path]
) -> None:
    for path in pages.values():
        assert path.stat().st_size <= MOST_BYTES
        for width in WIDTHS:
            with opened(chromium, path, width) as (page, said):
                assert page.evaluate("document.documentElement.scrollWidth") <= width, (path.name, width)
                assert page.evaluate(OUT_OF_SIGHT) == [], (path.name, width)
                assert said == [], (path.name, width)


def test_on_paper_all_is_dark_on_white_and_fits(chromium: Any, pages: dict[str, Path]) -> None:
    with opened(chromium, pages["simulated"], 690, "dark") as (page, _):
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 26, 32)"
        page.emulate_media(media="print", color_scheme="dark")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert not page.locator("nav").is_visible() and page.locator("figure svg").first.is_visible()
        assert page.pdf(format="A4").startswith(b"%PDF")


def test_the_keyboard_sorts_the_table_and_follows_links(chromium: Any, pages: dict[str, Path]) -> None:
    with opened(chromium, pages["simulated"], 1280) as (page, _):
        seen = page.locator(".sortable .scroll:visible")
        assert seen.count() == 1

        def first_column() -> list[str]:
            return [" ".join(text.split()) for text in seen.locator("td:first-child").all_inner_texts()]

        by_probability = first_column()
        page.locator(".sortable input").first.focus()
        page.keyboard.press("ArrowRight")
        assert seen.count() == 1
        by_parent = first_column()
        assert sorted(by_parent) == sorted(by_probability) and by_parent != by_probability
        assert [name.split(" → ")[0] for name in by_parent] == [LONG] * 2 + ["b" * 60] * 2 + ["c"] * 2
        page.locator("nav a").last.focus()
        page.keyboard.press("Enter")
        assert page.evaluate("location.hash") == "#provenance"


def test_names_of_any_alphabet_and_all_fifty_are_in_the_drawings(
    chromium: Any, pages: dict[str, Path]
) -> None:
    with opened(chromium, pages["many"], 1280) as (page, _):
        drawn = page.locator("svg .row").all_text_contents()
        assert len(drawn) == 50 and sum(name.startswith("Γ-glutamyl") for name in drawn) == 33
        sizes = page.locator("svg .row").evaluate_all(
            "all => all.map(one => one.getBoundingClientRect().height)"
        )
        assert min(sizes) > 9  # pixels: what can be read
        boxes = page.locator("svg .box").evaluate_all(
            "all => all.map(one => { const b = one.getBoundingClientRect(); return [b.left, b.top, b.right, b.bottom] })"
        )
        assert len(boxes) == 50
        apart = [
            one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
            for k, one in enumerate(boxes)
            for other in boxes[:k]
        ]
        assert all(apart)
