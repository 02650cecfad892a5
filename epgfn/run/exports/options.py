"""What whoever asks for an export may choose."""

from __future__ import annotations

from typing import NamedTuple

from epgfn.base.errors import UsageError
from epgfn.run.result import EDGE_LEAST, RunResult


class Options(NamedTuple):
    """`least`: the least probability of an edge that is drawn; `draws`: how many objects are drawn where the model is asked, by `seed`."""

    least: float = EDGE_LEAST
    draws: int = 20_000
    seed: int = 0


def require_graphs(run: RunResult, form: str) -> None:
    """Raises:
    UsageError: the study is not about graphs.
    """
    if not run.study.kind.has_edges:
        raise UsageError(
            f"{form} is for graphs, and this study is about {run.study.kind.noun}; parquet and arviz go with any study"
        )


def tokens(names: list[str], form: str) -> list[str]:
    """`names` as words of letters, digits and _ that begin with a letter, for formats that know no quotes.

    Raises:
        UsageError: two of them would be the same word.
    """
    return words([name if name[:1].isalpha() else f"v_{name}" for name in names], form)


def words(names: list[str], form: str) -> list[str]:
    """The same, that may begin with a digit: what a variable may be."""
    found = ["".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in name) for name in names]
    for name, token in zip(names, found, strict=True):
        if found.count(token) > 1:
            raise UsageError(
                f"{form} knows no quotes, and {name!r} would be {token!r} as another name would; use another format"
            )
    return found
