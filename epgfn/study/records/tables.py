"""One institution's records: read a table against the study's variables and put them on the study's public scale.

x = (transform(raw / transform_scale) - centre) / scale, all constants from the study, never from the data. Categories become their
places in the study's list, or where they have them their numbers, and an alignment (FASTA) a row of codes for each site. A refusal
names the file and all places that are wrong, by column and by the line in which an editor shows them, and never a value: errors end up
in logs, and logs travel. What a file may look like is `csv_file`, `parquet_file`, `alignments` and `names`.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from epgfn.base.errors import UsageError
from epgfn.base.files import read_bytes, sha256_hex
from epgfn.study import Study
from epgfn.study.design import is_set_throughout
from epgfn.study.lacks import lacked_by, of_node
from epgfn.study.missing import groups_of, is_blank
from epgfn.study.records import parquet_file
from epgfn.study.records.alignments import load_alignment
from epgfn.study.records.csv_file import read_csv
from epgfn.study.records.faults import Faults
from epgfn.study.records.names import listed
from epgfn.study.records.parquet_file import read_parquet
from epgfn.study.records.scale import on_scale
from epgfn.study.records.table import Floats, Numbers, Table
from epgfn.study.scales import require_scales
from epgfn.study.settings import Variable


def load_records(path: Path | str, study: Study, node: str | None = None) -> Numbers:
    """The records in the file at `path`, one a row. CSV or Parquet with one column a variable, in any order; FASTA for a study of trees.

    Returns:
        Numbers: (n, V) float64, transformed and scaled, finite, n >= V for graphs, no constant column. Categories: (n, V) int64,
        or (n,) where the study has one variable by its kind. Both together: (n, V) float64, places of categories as they are.
        Taxa: (sites, V) uint8 as `targets.alignment` codes them. A study with a design has one column more, the last: the place of
        each record's arm. Where the study has blanks they are NaN, or -1, and so is all of a column that `node` lacks, whose file
        this is; it is not read, even if it is there.

    Raises:
        UsageError: the file is missing, unreadable or of another form; a column is missing or doubled, or extra where the study
            refuses that; a cell is blank, or not what its variable takes; there are too few records; or the study has no scales.
            No data value is in the message or its causes.
    """
    require_scales(study)
    held = of_node(study, node)
    return with_lacked(records_of(load_table(path, held), path, held), study, node)


def with_lacked(records: Numbers, study: Study, node: str | None) -> Numbers:
    """What was read by `of_node(study, node)`, with a column that is blank throughout for each variable that the node lacks."""
    if not (lacked := lacked_by(study, node)):
        return records
    blank = np.nan if np.issubdtype(records.dtype, np.floating) else -1
    columns = [
        np.full(len(records), blank, dtype=records.dtype) if name in lacked else None
        for name in study.variable_names
    ]
    read = iter(records.T)
    whole = [next(read) if column is None else column for column in columns]
    if study.design.column is not None:  # whose column a node does without that lacks all that was ever set
        whole.append(next(read, np.zeros(len(records), dtype=records.dtype)))
    return np.stack(whole, axis=1)


def records_of(table: Table, path: Path | str, study: Study) -> Numbers:
    """`load_records` of a file that is read already, whatever the study says of scales. Errors as there."""
    path, columns = Path(path), table.columns
    if not study.columns.numeric and not study.columns.mixed:
        _check_complete(table, path, study)
        return _with_arms(_together(columns, study), table)
    must_vary = study.columns.must_vary
    if must_vary and table.size < len(columns):
        raise UsageError(
            f"{path} holds fewer records than the study has variables ({len(columns)}); more records are needed"
        )
    if must_vary:
        _check_complete(table, path, study)
        _check_varies(columns, table, path, study)
    scaled = [_scaled(values, v) for values, v in zip(columns, study.variables, strict=True)]
    _check_on_scale(table, scaled, path, study)
    if must_vary:
        _check_varies(scaled, table, path, study)
    return _with_arms(np.stack(scaled, axis=1), table)


def _scaled(column: Numbers, variable: Variable) -> Floats:
    """Numbers on the study's scale; places of categories as they are, blanks NaN."""
    if variable.is_number:
        return on_scale(column, variable)
    return np.where(column < 0, np.nan, column.astype(np.float64))


def _check_complete(table: Table, path: Path, study: Study) -> None:
    """Raises:
    UsageError: scores that take complete records alone would have fewer than there are variables.
    """
    if study.data.missing != "complete-rows":
        return
    blank = np.stack([is_blank(column) for column in table.columns])
    for group, needed in groups_of(study):
        complete = int((~blank[needed].any(0)).sum())
        if complete < len(needed):
            names = [study.variable_names[j] for j in group]
            raise UsageError(
                f"{path} has fewer records without a blank than the scores of {listed(names)} have columns ({len(needed)}); leave out of "
                "the study what is mostly blank, or say under [data] missing = 'impute'"
            )


def _with_arms(records: Numbers, table: Table) -> Numbers:
    return (
        records
        if table.arms is None
        else np.column_stack([records, np.asarray(table.arms, dtype=records.dtype)])
    )


def load_table(path: Path | str, study: Study) -> Table:
    """The file at `path` as it stands, with at least one record; an alignment as codes, a column a taxon.

    Raises:
        UsageError: as `load_bounded_records`, but a study without scales is none.
    """
    path = Path(path)
    if study.columns.alignment:
        codes = load_alignment(path, study.variable_names).codes.numpy()
        return Table(list(codes), [], "site", lambda: range(1, codes.shape[1] + 1))
    raw = read_bytes(path, "data file")
    table = (read_parquet if raw.startswith(parquet_file.MAGIC) else read_csv)(raw, path, study)
    if table.size == 0:
        raise UsageError(
            f"{path} holds no records; give a file with at least {len(table.columns)} rows below the header"
        )
    return table


class BoundedRecords(NamedTuple):
    """Records for a release with noise. `raw` (n, V) as the file has them (a category as a number that its name alone decides),
    `scaled` as `load_records` returns them, each number moved into its public bounds first."""

    raw: Numbers
    scaled: Numbers


def load_bounded_records(path: Path | str, study: Study) -> BoundedRecords:
    """The records in the file at `path` for a study whose nodes release with noise.

    Few records, a constant column, a number outside the domain of its transform, a cell that is blank or nothing that its variable takes,
    or a row of another length are no errors here, as in `load_records`: whether a release is made must not hang on what a record says.
    Such a cell counts as the middle of its variable's public bounds, or as the first category. A file that is no table still is an error.

    Raises:
        UsageError: the file is missing, unreadable, empty or of another form; a column is missing or doubled, or extra where the
            study refuses that; or half of a column or more cannot be read. No data value is in the message or its causes.
    """
    require_scales(study)
    return bounded_of(load_table(path, study), study)


def bounded_of(table: Table, study: Study) -> BoundedRecords:
    """`load_bounded_records` of a file that is read already; nothing in it is refused."""
    columns = table.columns
    if not study.columns.numeric:
        named = [_by_name(codes, v) for codes, v in zip(columns, study.variables, strict=True)]
        return BoundedRecords(np.stack(named, axis=1), _together(columns, study))
    pairs = zip(columns, study.variables, strict=True)
    scaled = [on_scale(np.clip(values, v.lower, v.upper), v) for values, v in pairs]
    return BoundedRecords(np.stack(columns, axis=1), np.stack(scaled, axis=1))


def of_persons(
    records: BoundedRecords, persons: Numbers, most: int, rng: np.random.Generator
) -> BoundedRecords:
    """At most `most` records of each of `persons` (n,), chosen at random; which are chosen of one hangs on nobody else's."""
    shuffled = rng.permutation(len(persons))
    order = shuffled[np.argsort(persons[shuffled], kind="stable")]
    _, first, count = np.unique(persons[order], return_index=True, return_counts=True)
    kept = np.sort(order[np.arange(len(order)) - np.repeat(first, count) < most])
    return BoundedRecords(records.raw[kept], records.scaled[kept])


def split_table(path: Path | str, parts: int, seed: int) -> list[pd.DataFrame]:
    """Cut a CSV table into `parts` row-disjoint tables of (nearly) equal size that together hold every row once.

    Rows are shuffled with `seed`; the same seed gives the same cut. Cells stay the text they were, so that writing the parts
    as CSV changes no digit.

    Raises:
        UsageError: the file is missing or is no CSV table, or there are fewer rows than parts.
    """
    path = Path(path)
    raw = read_bytes(path, "data file")
    try:
        table = pd.read_csv(io.BytesIO(raw), dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (
        ValueError
    ):  # pandas' parser errors and bad UTF-8 are ValueErrors, and may quote a line of the file
        raise UsageError(
            f"{path} is not a CSV table; save it as CSV (UTF-8, comma) with a header line"
        ) from None
    if not 1 <= parts <= len(table):
        raise UsageError(f"{path} cannot be cut into {parts} parts; choose 1 up to its number of rows")
    order = np.random.default_rng(seed).permutation(len(table))
    return [table.iloc[rows].reset_index(drop=True) for rows in np.array_split(order, parts)]


def _together(columns: list[Numbers], study: Study) -> Numbers:
    return columns[0] if study.columns.single else np.stack(columns, axis=1)


def _by_name(codes: Numbers, variable: Variable) -> Numbers:
    """Numbers that stay the same when a study lists its categories in another order, or more of them."""
    if variable.categories is None:
        return codes
    digests = [sha256_hex(name.encode("utf-8"))[:15] for name in variable.categories]
    return np.asarray(np.array([int(digest, 16) for digest in digests])[codes])


def _check_varies(columns: list[Numbers], table: Table, path: Path, study: Study) -> None:
    """A column may be constant whose variable was set in every row, perfectly: nothing is learned of its parents.

    Raises:
        UsageError: naming every column that is constant otherwise.
    """
    constant = [
        f"'{v.name}'"
        for c, v in zip(columns, study.variables, strict=True)
        if v.is_number and np.nanmin(c) == np.nanmax(c) and not is_set_throughout(study, v.name, table.arms)
    ]
    if constant:
        which = f"column {constant[0]} is" if len(constant) == 1 else f"columns {listed(constant)} are"
        raise UsageError(
            f"{path}: {which} constant; take {'it' if len(constant) == 1 else 'them'} out of the study or give records in which "
            f"{'it varies' if len(constant) == 1 else 'they vary'}"
        )


def _check_on_scale(table: Table, scaled: list[Floats], path: Path, study: Study) -> None:
    """Raises:
    UsageError: naming every number that the study's transform is not defined for, or makes too large.
    """
    blank = [is_blank(raw) for raw in table.columns]
    if all((np.isfinite(x) | none).all() for x, none in zip(scaled, blank, strict=True)):
        return
    faults, places = Faults(path, table.unit), np.asarray(table.places())
    for raw, x, variable in zip(table.columns, scaled, study.variables, strict=True):
        outside = (
            raw / variable.transform_scale <= 0 if variable.transform == "log" else np.zeros(len(x), bool)
        )
        faults.cells(variable.name, places[outside].tolist(), "positive")
        faults.cells(variable.name, places[~outside & ~np.isfinite(x) & ~is_blank(raw)].tolist(), "large")
    faults.check()
