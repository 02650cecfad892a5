"""docs/architecture.md: its layers are those that are checked, no module is outside them, and its ten questions have these answers."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text("utf-8")
QUESTIONS = re.findall(r"^\| [^|]*\? \| `([^`]+)` \| `([^`]+)` \|$", PAGE, re.MULTILINE)
SOURCES = [
    path
    for folder in ("epgfn", "node", "coordinator")
    for path in (ROOT / folder).rglob("*.py")
    if "v1" not in path.relative_to(ROOT).parts
]


def layers() -> list[str]:
    """Packages of the contract, `epgfn.` taken off."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    lines = contracts[0]["layers"]
    return [name.strip().removeprefix("epgfn.") for line in lines for name in line.split("|")]


def test_every_module_is_in_a_layer() -> None:
    package = ROOT / "epgfn"
    modules = [path.relative_to(package).with_suffix("") for path in SOURCES if path.is_relative_to(package)]
    inside = [".".join(path.parts) for path in modules if path.parts[0] not in ("__init__", "__main__", "..")]
    of_privacy = {"privacy.__init__"}  # an empty room around its layers
    lost = [name for name in inside if not any(f"{name}.".startswith(f"{layer}.") for layer in layers())]
    assert set(lost) <= of_privacy


def test_the_page_has_a_line_for_every_layer() -> None:
    drawing = PAGE.split("## ")[0]
    for layer in layers():
        assert re.search(rf"(?m)(^|[ |]){re.escape(layer.replace('.', '/'))}\b", drawing), layer


def test_there_are_ten_questions() -> None:
    assert len(QUESTIONS) == 10


@pytest.mark.parametrize(("file", "name"), QUESTIONS)
def test_what_is_asked_for_is_defined_there_and_nowhere_else(file: str, name: str) -> None:
    starts = re.compile(rf"(?m)^{re.escape(name)}\b")
    assert [str(path.relative_to(ROOT)) for path in SOURCES if starts.search(path.read_text("utf-8"))] == [
        file
    ]


def test_what_the_page_says_to_add_has_a_place() -> None:
    table = re.findall(r"^\| an? [^|]+ \| `([^`]+)` \| `([^`]+)` \|$", PAGE, re.MULTILINE)
    assert len(table) >= 5
    for folder, registry in table:
        assert (ROOT / folder).is_dir() and (ROOT / registry).is_file()
