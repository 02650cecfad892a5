"""Aligned nucleotide sequences: read from FASTA, cut by sites among parties.

A character is stored as the sum of 1, 2, 4, 8 for the bases A, C, G, T it may be: A = 1, R (A or G) = 5, and 15 for N, X, ? and
the gap '-', which say nothing. U is T; case does not matter. Every refusal names the file and the record by its number (1 is
the first), never a name or a character from it: errors end up in logs, and logs travel.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from epgfn.base.errors import UsageError
from epgfn.base.files import read_bytes
from epgfn.study.records.names import Names

_LETTERS = dict(zip("ACMGRSVTWYHKDBN", range(1, 16), strict=True))  # IUPAC: each bit pattern once
_CODES = np.zeros(256, dtype=np.uint8)
for _letter, _code in {**_LETTERS, "U": 8, "X": 15, "?": 15, "-": 15}.items():
    _CODES[[ord(_letter), ord(_letter.lower())]] = _code


class Alignment(NamedTuple):
    """`taxa`: n names. `codes` (n, sites) uint8, each 1 to 15, one row a taxon."""

    taxa: tuple[str, ...]
    codes: Tensor


def load_alignment(path: Path | str, taxa: Sequence[str]) -> Alignment:
    """The alignment in the FASTA file at `path`, rows in the order of `taxa` (a study's), whatever the file's order.

    Raises:
        UsageError: as `read_fasta`; or a taxon is missing, or the file has one more.
    """
    found, known = read_fasta(path), Names(taxa)
    places = [known.place(name) for name in found.taxa]
    for at, name in enumerate(taxa):
        if at not in places:
            raise UsageError(
                f"{path}: taxon '{name}' is missing; every taxon of the study needs one sequence"
            )
    for number, place in enumerate(places, start=1):
        if place is None:
            raise UsageError(f"{path}: record {number} is not a taxon of the study; take it out of the file")
        if place in places[: number - 1]:
            raise UsageError(
                f"{path}: record {number} has the name of record {places.index(place) + 1}; rename one"
            )
    return Alignment(tuple(taxa), found.codes[[places.index(at) for at in range(len(taxa))]])


def read_fasta(path: Path | str) -> Alignment:
    """The alignment in the FASTA file at `path`; a taxon's name is the first word of its header line.

    Raises:
        UsageError: the file is missing, unreadable or no FASTA; it holds fewer than two records; a record has no name,
            the name of another, no sequence, a character that is not a nucleotide code, or another length than the first.
    """
    path = Path(path)
    try:
        text = read_bytes(path, "alignment").decode("utf-8-sig")
    except UnicodeDecodeError:
        raise _not_fasta(path) from None
    taxa: list[str] = []
    rows: list[list[str]] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        if line.startswith(">"):
            taxa.append(_name(line, taxa, path))
            rows.append([])
        elif not rows:
            raise _not_fasta(path)
        else:
            rows[-1].append(line)
    if len(taxa) < 2:
        raise UsageError(f"{path} holds fewer than two sequences; give an alignment of all taxa")
    codes = [_encode("".join(row), number, path) for number, row in enumerate(rows, start=1)]
    for number, row_codes in enumerate(codes, start=1):
        if len(row_codes) != len(codes[0]):
            raise UsageError(
                f"{path}: record {number} is not as long as the first; align the sequences first"
            )
    return Alignment(tuple(taxa), torch.from_numpy(np.stack(codes)))


def _name(line: str, before: list[str], path: Path) -> str:
    words, number = line[1:].split(), len(before) + 1
    if not words:
        raise UsageError(f"{path}: record {number} has no name; write it after the '>'")
    if words[0] in before:
        raise UsageError(
            f"{path}: record {number} has the name of record {before.index(words[0]) + 1}; rename one"
        )
    return words[0]


def _encode(sequence: str, number: int, path: Path) -> np.ndarray:
    """(sites,) uint8 codes of record `number`."""
    letters = "".join(sequence.split())
    if not letters:
        raise UsageError(f"{path}: record {number} has no sequence; fill it or take it out of the file")
    points = np.frombuffer(letters.encode("utf-32-le"), dtype="<u4")
    codes: np.ndarray = np.take(_CODES, np.minimum(points, 255))  # 255 is no code
    if not codes.all():
        site = int((codes == 0).argmax()) + 1
        raise UsageError(
            f"{path}: record {number}, site {site} is not a nucleotide code; use the IUPAC letters, N, ? or - for a gap"
        )
    return codes


def _not_fasta(path: Path) -> UsageError:
    return UsageError(f"{path} is not FASTA; each sequence needs a line '>name' before it")
