"""Public Bayesian networks over categories, in the Bayesian Interchange Format as repositories have them (`alarm.bif.gz`), and records
drawn from them.

Only what draws records is read: variables, their categories, their parents and their tables of probabilities.
"""

from __future__ import annotations

import gzip
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from epgfn.base.errors import UsageError

_VARIABLE = re.compile(r"variable\s+(\S+)\s*\{\s*type\s+discrete\s*\[\s*\d+\s*\]\s*\{([^}]*)\}\s*;[^}]*\}")
_TABLE = re.compile(r"probability\s*\(\s*([^|)]*?)\s*(?:\|([^)]*))?\)\s*\{([^}]*)\}")
_ROW = re.compile(r"(?:\(([^)]*)\)|table|default)\s*([^;]*);")


@dataclass(frozen=True)
class Network:
    """`names`, the `categories` of each, `parents` by number, and `tables` of its probabilities: (configurations, categories) float64, a
    row for each configuration of its parents, the last of them changing fastest."""

    names: tuple[str, ...]
    categories: tuple[tuple[str, ...], ...]
    parents: tuple[tuple[int, ...], ...]
    tables: tuple[npt.NDArray[np.float64], ...]

    @property
    def order(self) -> list[int]:
        """Parents before children."""
        done: list[int] = []
        while len(done) < len(self.names):
            ready = [j for j in range(len(self.names)) if j not in done and set(self.parents[j]) <= set(done)]
            if not ready:
                raise UsageError("the network has a cycle")
            done += ready
        return done

    def draw(self, n: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """(n, V) categories by number."""
        x = np.zeros((n, len(self.names)), np.int64)
        for j in self.order:
            row = np.zeros(n, np.int64)
            for i in self.parents[j]:
                row = row * len(self.categories[i]) + x[:, i]
            below = self.tables[j].cumsum(1)
            level = rng.random(n) * below[row, -1]
            x[:, j] = (below[row] <= level[:, None]).sum(1).clip(max=len(self.categories[j]) - 1)
        return x


def read_bif(path: Path) -> Network:
    """Raises: UsageError: the file cannot be read, or is no network of categories."""
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode()
        return _read(text)
    except (OSError, EOFError, ValueError, KeyError) as error:
        raise UsageError(f"{path} is no network in the Bayesian Interchange Format") from error


def _read(text: str) -> Network:
    listed = {name: tuple(_words(categories)) for name, categories in _VARIABLE.findall(text)}
    names = tuple(listed)
    number = {name: j for j, name in enumerate(names)}
    parents: dict[str, tuple[int, ...]] = {}
    tables: dict[str, npt.NDArray[np.float64]] = {}
    for child, given, body in _TABLE.findall(text):
        of = [number[name] for name in _words(given)]
        sizes = [len(listed[names[i]]) for i in of]
        table = np.full((int(np.prod(sizes)), len(listed[child])), np.nan)
        for at, values in _ROW.findall(body):
            row = 0
            for i, size, value in zip(of, sizes, _words(at), strict=True):
                row = row * size + listed[names[i]].index(value)
            table[row] = [float(value) for value in _words(values)]
        if not np.isfinite(table).all():
            raise ValueError("a configuration without probabilities")
        parents[child], tables[child] = tuple(of), table
    if not names or set(parents) != set(names):
        raise ValueError("a variable without a table")
    return Network(
        names, tuple(listed.values()), tuple(parents[n] for n in names), tuple(tables[n] for n in names)
    )


def _words(text: str) -> list[str]:
    return [word for word in re.split(r"[\s,]+", text.strip()) if word]
