"""C2SP tlog-tiles: where the hashes and entries of a log lie, and how entry bundles are encoded.

    tile/<level>/<n>[.p/<width>]     up to 256 hashes: of entries (level 0), of full tiles one level below (1, 2, ...)
    tile/entries/<n>[.p/<width>]     up to 256 entries, each behind its length as big-endian uint16

`<n>` is written in groups of three digits, all but the last beginning with x: 1234067 is x001/x234/067.
Source: https://c2sp.org/tlog-tiles
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from epgfn.ledger.errors import LedgerError

TILE_HEIGHT = 8
TILE_WIDTH = 1 << TILE_HEIGHT
MAX_ENTRY_BYTES = (1 << 16) - 1
MAX_BUNDLE_BYTES = TILE_WIDTH * (2 + MAX_ENTRY_BYTES)
CHECKPOINT_NAME = "checkpoint"
ENTRIES = -1
_PATH = re.compile(
    r"tile/(?P<level>entries|0|[1-9]\d?)/(?P<n>(?:x\d{3}/)*\d{3})(?:\.p/(?P<width>[1-9]\d{0,2}))?", re.ASCII
)


@dataclass(frozen=True)
class Tile:
    """The `n`-th tile of a level (`ENTRIES`: entry bundle), `width` of its 256 places taken."""

    level: int
    n: int
    width: int

    @property
    def path(self) -> str:
        """Path relative to the log's folder, with forward slashes."""
        level = "entries" if self.level == ENTRIES else str(self.level)
        partial = "" if self.width == TILE_WIDTH else f".p/{self.width}"
        return f"tile/{level}/{_number_path(self.n)}{partial}"

    @classmethod
    def from_path(cls, path: str) -> Tile | None:
        """The tile that lies at `path`, or None where no tile may lie."""
        match = _PATH.fullmatch(path)
        if match is None:
            return None
        level = ENTRIES if match["level"] == "entries" else int(match["level"])
        tile = cls(level, int(re.sub("[x/]", "", match["n"])), int(match["width"] or TILE_WIDTH))
        return tile if tile.path == path else None  # no second spelling, no width of 256 or more

    @property
    def start(self) -> int:
        """Index, within the level, of the tile's first hash or entry."""
        return self.n * TILE_WIDTH

    @property
    def end(self) -> int:
        """Index, within the level, after the tile's last hash or entry."""
        return self.start + self.width


def level_count(level: int, size: int) -> int:
    """How many hashes (or entries) a level has in a log of `size` entries: floor(size / 256^level)."""
    return size >> (TILE_HEIGHT * max(level, 0))


def level_tiles(level: int, size: int, first: int = 0) -> Iterator[Tile]:
    """The tiles of one level for a log of `size` entries, from the one that holds hash (or entry) `first` on."""
    count = level_count(level, size)
    for n in range(first // TILE_WIDTH, -(-count // TILE_WIDTH)):
        yield Tile(level, n, min(TILE_WIDTH, count - n * TILE_WIDTH))


def log_tiles(size: int, known: int = 0) -> Iterator[Tile]:
    """Bundles and hash tiles of a log of `size` entries; with `known`, only those that one of that size lacks."""
    level = ENTRIES
    while (count := level_count(level, size)) > 0:
        before = level_count(level, known)
        if count > before:
            yield from level_tiles(level, size, before)
        level += 1


def encode_bundle(entries: Iterable[bytes]) -> bytes:
    """The entries, each behind its length; LedgerError if one is longer than 65,535 bytes."""
    parts: list[bytes] = []
    for entry in entries:
        if len(entry) > MAX_ENTRY_BYTES:
            raise LedgerError(
                f"a ledger entry may have at most {MAX_ENTRY_BYTES} bytes, this one has {len(entry)}"
            )
        parts += [struct.pack(">H", len(entry)), entry]
    return b"".join(parts)


def parse_bundle(raw: bytes, width: int) -> list[bytes]:
    """The `width` entries in `raw`; LedgerError if they are fewer or more or a length does not fit."""
    entries: list[bytes] = []
    offset = 0
    while offset < len(raw):
        start = offset + 2
        end = start + int.from_bytes(raw[offset:start], "big")
        if start > len(raw) or end > len(raw):
            raise LedgerError("an entry bundle ends in the middle of an entry")
        entries.append(raw[start:end])
        offset = end
    if len(entries) != width:
        raise LedgerError(f"an entry bundle holds {len(entries)} entries instead of {width}")
    return entries


def _number_path(n: int) -> str:
    groups = [f"{n % 1000:03d}"]
    while n := n // 1000:
        groups.append(f"x{n % 1000:03d}")
    return "/".join(reversed(groups))
