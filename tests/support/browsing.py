"""A headless Chromium, driven from outside the page: what pages look like at some width, and what they ask for."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

CHROMIUM: Final = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
OUT_OF_SIGHT: Final = """() => [...document.querySelectorAll('body *')].filter(one => {
  const box = one.getBoundingClientRect();
  if (one.closest('.scroll') && !one.matches('.scroll') || !box.width) return false;
  return box.right > window.innerWidth + 1 || box.left < -1;
}).map(one => one.outerHTML.slice(0, 120))"""
"""Elements that reach out of the page and are in nothing that scrolls."""


@contextmanager
def browser() -> Iterator[Any]:
    """A browser that is closed at the end."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@contextmanager
def opened(found: Any, path: Path, width: int, scheme: str = "light") -> Iterator[tuple[Any, list[str]]]:
    """The page of a file, and what it says to the console or asks the network for, which grows while it is open."""
    page = found.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on(
        "request",
        lambda request: (
            None
            if request.url == path.as_uri() or request.url.startswith("data:")
            else said.append(request.url)
        ),
    )
    page.goto(path.as_uri())
    yield page, said
    page.close()
