"""Promise: nobody reads one thing in a JSON file where somebody else reads another. Somebody writes a key twice: to some readers the first
counts, to some the last, and what is signed is both."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from attacks import refusals
from epgfn.base.canonical import parse_json
from epgfn.base.errors import EpgfnError
from epgfn.run.summary import read_summary
from parsers import NAMES, Parser, parsers
from run_directory import RunDirectory


def doubled(raw: bytes) -> list[bytes]:
    """With the first key of each object in it there twice, first with another value."""
    found = []
    for match in re.finditer(rb'\{(\s*"[^"]*")', raw):
        found.append(raw[: match.start(1)] + match[1] + b":0," + raw[match.start(1) :])
    return found


@pytest.fixture(scope="module")
def all_parsers(run: RunDirectory) -> dict[str, Parser]:
    return parsers(run)


OF_JSON = {
    "json",
    "statement",
    "bundle",
    "rotation",
    "entry",
    "cosignature",
    "comparison",
    "invitation",
    "claim",
    "inspect",
}
"""Readers of bytes that are a JSON text."""


@pytest.mark.parametrize("name", NAMES)
def test_no_reader_takes_one(all_parsers: dict[str, Parser], name: str) -> None:
    parser = all_parsers[name]
    tried = 0
    for raw in parser.examples:
        for twice in doubled(raw) if raw.lstrip().startswith(b"{") else []:
            tried += 1
            with pytest.raises((EpgfnError, *parser.allowed)):
                parser.read(twice)
    assert bool(tried) == (name in OF_JSON)


def test_no_file_of_a_run_has_one(run: RunDirectory, copy: Path) -> None:
    for name in [name for name in run.files if name.endswith(".json") and "south" not in name]:
        path = copy / name
        raw = path.read_bytes()
        path.write_bytes(doubled(raw)[0])
        assert refusals(copy), name
        path.write_bytes(raw)
    assert not refusals(copy)
    for raw in doubled((copy / "global" / "summary.json").read_bytes()):
        with pytest.raises(ValueError):
            read_summary(raw)  # whoever has signed it


def test_what_it_means_is_what_everybody_reads() -> None:
    assert parse_json(b' {"a": [1, {"b": null}], "c": 1e3}') == {"a": [1, {"b": None}], "c": 1000.0}
    for raw in (
        b'{"a":1,"a":1}',
        b'[{"b":{"a":1,"a":2}}]',
        b'{"\\u0061":1,"a":2}',
        b"[" * 100_000,
        b"{",
        b"\xff",
    ):
        with pytest.raises(ValueError) as error:
            parse_json(raw)
        assert "1" not in str(error.value)
    assert json.loads(b'{"a":1,"a":2}') == {"a": 2}  # what others do
