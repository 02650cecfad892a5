"""Objects that were drawn from a model: how they are counted, cut, shown and written."""

from __future__ import annotations

import html
import io
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import torch

from epgfn.base.errors import UsageError
from epgfn.base.files import write_atomic
from epgfn.base.spreadsheets import csv_bytes
from epgfn.gflownet.spaces.base import take

if TYPE_CHECKING:
    import pandas as pd

SHOWN = 10
"""Different objects that a notebook shows of a sample."""
SHOWN_TEXT = 60
"""Characters of the one object that a `repr` shows."""
EMPTY = "(empty)"
"""How an object without a text is shown: a graph without edges."""


@dataclass(frozen=True, repr=False, eq=False)
class Samples:
    """n objects: `objects` as text, `log_prob` (n,) float64 estimates of log p_T (nats), `state` the finished states themselves, None where
    only the texts are known. `column` is what the texts are called in a table.

    >>> samples = epgfn.load_run("runs/first").samples
    >>> len(samples), len(samples[:10])
    (200, 10)
    >>> samples[0] in set(samples)
    True
    >>> list(samples.counts().columns)
    ['edges', 'share']
    """

    objects: list[str]
    log_prob: np.ndarray
    state: Any
    column: str = "object"

    def __len__(self) -> int:
        return len(self.objects)

    def __iter__(self) -> Iterator[str]:
        return iter(self.objects)

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice | np.ndarray | list[int]) -> Samples: ...
    def __getitem__(self, at: int | slice | np.ndarray | list[int]) -> str | Samples:
        """The text of one object; of a slice, of whole numbers or of (n,) bool those objects, as samples.

        Raises:
            IndexError: there is none with that number.
        """
        if isinstance(at, int | np.integer):
            return self.objects[at]
        rows = np.arange(len(self))[at if isinstance(at, slice) else np.asarray(at)]
        state = None if self.state is None else take(self.state, torch.as_tensor(rows))
        return Samples([self.objects[row] for row in rows], self.log_prob[rows], state, self.column)

    def __repr__(self) -> str:
        if not self.objects:
            return "Samples(none)"
        (text, often), *_ = frequent = Counter(self.objects).most_common()
        first = text or EMPTY
        shown = first if len(first) <= SHOWN_TEXT else first[: SHOWN_TEXT - 1] + "…"
        return f"Samples({len(self):,} objects, {len(frequent):,} different; {often / len(self):.1%} are {shown})"

    def _repr_html_(self) -> str:
        """For notebooks: what was drawn most often."""
        found = self.counts()
        rows = "".join(
            f"<tr><td style='text-align:left'><code>{html.escape(text) or EMPTY}</code></td><td>{share:.3f}</td></tr>"
            for text, share in zip(found[self.column][:SHOWN], found["share"][:SHOWN], strict=True)
        )
        more = f"; the {SHOWN} most frequent" if len(found) > SHOWN else ""
        return (
            f"<table><caption>{len(self):,} objects, {len(found):,} different{more}</caption><thead><tr><th style='text-align:left'>"
            f"{html.escape(self.column)}</th><th>share</th></tr></thead><tbody>{rows}</tbody></table>"
        )

    @property
    def adjacency(self) -> np.ndarray:
        """(n, V, V) bool of graphs, [k, i, j] = graph k has the edge i -> j.

        Raises:
            UsageError: the objects are not graphs.
        """
        if not hasattr(self.state, "adjacency"):
            raise UsageError("these objects are not graphs; use objects or state")
        return np.asarray(self.state.adjacency.numpy())

    def rows(self) -> pd.DataFrame:
        """One row an object: its text, such as "a->b;c->b" in the column `edges` (empty for no edge), and `log_prob`."""
        import pandas as pd

        return pd.DataFrame({self.column: self.objects, "log_prob": self.log_prob})

    to_pandas = rows

    def counts(self) -> pd.DataFrame:
        """One row a different object: its text, and the `share` of all that it has; most frequent first."""
        import pandas as pd

        found = Counter(self.objects).most_common()
        texts, shares = [text for text, _ in found], [count / len(self) for _, count in found]
        return pd.DataFrame({self.column: texts, "share": shares})


def write_samples(samples: Samples, form: str, out: Path | None) -> None:
    """Write `samples.rows()` as `csv`, `jsonl` or `parquet` to `out`, or to standard output (not parquet).

    Raises:
        UsageError: another form, or parquet without a file.
        EpgfnError: the file cannot be written.
    """
    rows = samples.rows()
    if form == "csv":
        raw = csv_bytes(list(rows.columns), rows.itertuples(index=False, name=None))
    elif form == "jsonl":
        raw = rows.to_json(orient="records", lines=True).encode("utf-8")
    elif form == "parquet" and out is not None:
        buffer = io.BytesIO()
        rows.to_parquet(buffer, index=False)
        raw = buffer.getvalue()
    else:
        raise UsageError(f"cannot write samples as {form!r} here; choose csv, jsonl, or parquet with a file")
    if out is None:
        sys.stdout.write(raw.decode("utf-8"))
    else:
        write_atomic(out, raw)
