"""A tiny study of each kind that is not about linear-Gaussian graphs, and records for it: they train in a second or two."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from epgfn.study import Study

_HEAD = 'name = "tiny"\nroster = ["north", "south"]\nseed = 3\n'
_LOOP = "steps = 150\nbatch = 128\nlearning_rate = 1e-2\n"
_LOOPS = f"[training]\n{_LOOP}\n[aggregation]\n{_LOOP}samples = 200\n"
_SMALL = "[policy]\nhidden = 32\n"

TEXTS = {
    "multiset": _HEAD
    + 'variables = [{name = "item", categories = ["apple", "pear", "fig"]}]\n'
    + f'[space]\nkind = "multiset"\nsize = 4\n[target]\nsignal = 0.4\n{_SMALL}{_LOOPS}',
    "sequence": _HEAD
    + 'variables = [{name = "letter", categories = ["A", "B", "C"]}]\n'
    + f'[space]\nkind = "sequence"\nmax_length = 3\n{_SMALL}{_LOOPS}',
    "hypergrid": _HEAD
    + 'variables = [{name = "x", lower = 0, upper = 10}, {name = "dose", lower = 1, upper = 100, transform = "log"}]\n'
    + f'[space]\nkind = "hypergrid"\nside = 5\n[target]\nsigma = 4.0\n{_SMALL}{_LOOPS.replace("150", "400")}',
    "phylogeny": _HEAD
    + 'variables = [{name = "ape"}, {name = "bat"}, {name = "cat"}, {name = "dog"}]\n'
    + f'[space]\nkind = "phylogeny"\n[target]\nbranch_length = 0.9\n[policy]\nhidden = 8\n{_LOOPS}',
    "categories": _HEAD
    + 'variables = [{name = "smokes", categories = ["no", "yes"]}, {name = "stage", categories = ["0", "1", "2"]}, '
    + '{name = "cough", categories = ["no", "yes"]}]\n'
    + f'[space]\nmax_parents = 2\n[target]\nkind = "bdeu"\n{_SMALL}{_LOOPS}',
}
PRIVATE = '[privacy]\nmode = "{mode}"\nepsilon = 8.0\ndelta = 1e-5\n'
MODES = {name: "statistic" if name == "categories" else "answers" for name in TEXTS}


def study(kind: str, more: str = "") -> Study:
    """The tiny study of a kind, with `more` tables."""
    return Study.from_bytes((TEXTS[kind] + more).encode())


def private_study(kind: str, mode: str = "", more: str = "") -> Study:
    """The same, where each node releases with noise."""
    return study(kind, PRIVATE.format(mode=mode or MODES[kind]) + more)


def write_records(kind: str, path: Path, n: int, seed: int = 0) -> Path:
    """`n` made-up records in the form that the kind takes."""
    rng = np.random.default_rng(seed)
    if kind == "phylogeny":
        return _alignment(path.with_suffix(".fasta"), rng, n)
    columns: dict[str, object]
    if kind == "multiset":
        columns = {"item": rng.choice(["apple", "pear", "fig"], size=n, p=[0.45, 0.35, 0.2])}
    elif kind == "sequence":
        columns = {"letter": rng.choice(list("ABC"), size=n, p=[0.4, 0.35, 0.25])}
    elif kind == "hypergrid":
        columns = {
            "x": rng.normal(5, 3, size=n).clip(0, 10),
            "dose": np.exp(rng.normal(2.3, 1, size=n)).clip(1, 100),
        }
    else:
        smokes = rng.integers(0, 2, n)
        stage = smokes + (rng.random(n) < 0.4)
        cough = rng.integers(0, 2, n)
        words = np.array(["no", "yes"])
        columns = {"cough": words[cough], "smokes": words[smokes], "stage": stage}
    pd.DataFrame(columns).to_csv(path.with_suffix(".csv"), index=False)
    return path.with_suffix(".csv")


def _alignment(path: Path, rng: np.random.Generator, n: int) -> Path:
    """Sites along ((ape, bat), (cat, dog)): each pair is alike half of the time."""
    one, two = rng.integers(0, 4, (2, n))
    rows = [np.where(rng.random(n) < 0.5, parent, rng.integers(0, 4, n)) for parent in (one, one, two, two)]
    names = ("ape", "bat", "cat", "dog")
    text = "".join(
        f">{name}\n{''.join('ACGT'[b] for b in row)}\n" for name, row in zip(names, rows, strict=True)
    )
    path.write_text(text)
    return path
