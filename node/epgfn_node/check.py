"""What this node's records look like on the study's public scale, and what is odd: for its owner alone.

`epgfn-node check` shows it, `train` keeps it in local/check.json for `inspect`, and nothing of it is ever sent. A training that nobody
watches stops at a loud warning, unless it was told to accept them. Under differential privacy only `epgfn-node check` looks, so that
what the other commands do and print does not hang on what is odd.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from epgfn.base.canonical import canonical_json, parse_canonical_json
from epgfn.base.errors import EpgfnError, RefusedError
from epgfn.base.files import read_secret, remove, sha256_file, write_secret
from epgfn.study import Study
from epgfn.study.lacks import of_node
from epgfn_node.home import NodeHome

if TYPE_CHECKING:
    from epgfn.study.records.table import Table

FORMAT = "epgfn-records-check/v1"
MOST_NAMED = 6
PRIVATE = (
    "under differential privacy training does not look for what is odd in the records, and a cell that cannot be read counts as something "
    "public; for your eyes alone: epgfn-node check"
)
_DIGITS = 6
ACCEPT = "correct the file or the study, or add --accept-warnings (accept_warnings = true in node.toml) if they are as they should be"


def check(table: Table, data: Path, study: Study, node: str | None = None) -> dict[str, Any]:
    """Everything there is to know about the file, as JSON values, `table` being what `load_table` reads for `of_node(study, node)`. It is
    computed from the records, without noise."""
    from epgfn.study.records.examine import examine

    held = of_node(study, node)
    found = examine(table, held)
    columns = [
        {key: float(f"{v:.{_DIGITS}g}") if isinstance(v, float) else v for key, v in asdict(column).items()}
        for column in found.columns
    ]
    return {
        "format": FORMAT,
        "file": data.name,
        "sha256": sha256_file(data),
        "study_digest": study.digest,
        "records": found.records,
        "unit": found.unit,
        "columns": columns,
        "repeated_records": found.again,
        "notes": table.notes,
        "small_counts": _small_counts(table, held),
        "warnings": [{"loud": warned.loud, "text": warned.text} for warned in found.warnings],
    }


def _small_counts(table: Table, study: Study) -> dict[str, Any] | None:
    """Combinations of categories that few records show, of as many columns as the scores speak of together; None: there are none."""
    if study.columns.numeric or not study.target_kind.is_modular:
        return None
    import numpy as np

    from epgfn.study.records.small_counts import small_counts

    places = [place for place, variable in enumerate(study.variables) if not variable.is_number]
    if not places:
        return None
    categories = [len(study.variables[place].categories or ()) for place in places]
    columns_read = [table.columns[place] for place in places]
    whole = np.all([column >= 0 for column in columns_read], axis=0)  # no count is of what is blank
    if not whole.any():
        return None
    found = small_counts([column[whole] for column in columns_read], categories, study.space.max_parents + 1)
    if found is None:
        return None
    columns = [study.variable_names[places[place]] for place in found.columns]
    return {"columns": columns, "combinations": found.combinations, "smallest": found.smallest}


def loud(facts: dict[str, Any]) -> list[str]:
    """The sentences that nobody should train without having read."""
    return [str(warned["text"]) for warned in facts["warnings"] if warned["loud"]]


def require_nothing_loud(facts: dict[str, Any]) -> None:
    """Refuse to go on with records that give loud warnings where nobody looks.

    Raises:
        RefusedError: "warnings".
    """
    found = loud(facts)
    if not found:
        return
    more = f"; and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
    raise RefusedError(
        "warnings",
        f"{facts['file']} does not look as the study expects: {'; '.join(found[:MOST_NAMED])}{more}. Nothing was sent; look with "
        f"epgfn-node check, then {ACCEPT}",
    )


def keep(home: NodeHome, facts: dict[str, Any] | None) -> None:
    """Write local/check.json, 0600; None: there is nothing to keep.

    Raises:
        EpgfnError: it cannot be written.
    """
    if facts is None:
        remove(home.check)
    else:
        write_secret(home.check, canonical_json(facts) + b"\n")


def kept(home: NodeHome, study: Study) -> dict[str, Any] | None:
    """What was kept of the file that the model at hand was trained on; None: nothing, as before nodes looked."""
    try:
        facts = parse_canonical_json(read_secret(home.check).rstrip(b"\n"))
        trained_on = read_secret(home.records_digest).decode("ascii")
    except (EpgfnError, UnicodeDecodeError):
        return None
    fits = isinstance(facts, dict) and facts.get("format") == FORMAT
    return facts if fits and (facts["sha256"], facts["study_digest"]) == (trained_on, study.digest) else None


def in_words(facts: dict[str, Any]) -> str:
    """The facts as text for people: warnings first, loud ones before all others."""
    lines = [
        f"{facts['file']}: {facts['records']} {facts['unit']}s, {facts['repeated_records']} equal to an earlier one"
    ]
    lines += [f"Note: {note}." for note in facts["notes"]]
    numbers = [column for column in facts["columns"] if column["mean"] is not None]
    if numbers:
        width = max(8, *(len(column["name"]) for column in numbers))
        heads = ("count", "blanks", "mean", "sd", "smallest", "largest", "outside", "repeated")
        lines += [
            "",
            "On the study's scale, in its units (centre 0, ordinary spread 1)",
            f"  {'column':{width}}" + "".join(f"{h:>10}" for h in heads),
        ]
        for column in numbers:
            outside = "" if column["outside"] is None else f"{100 * column['outside']:.1f} %"
            cells = [str(column["count"]), str(column["blanks"])]
            cells += [f"{column[key]:.3g}" for key in ("mean", "sd", "smallest", "largest")]
            cells += [outside, f"{100 * column['repeated']:.1f} %"]
            lines.append(f"  {column['name']:{width}}" + "".join(f"{cell:>10}" for cell in cells))
        lines.append("  outside: beyond the public bounds; repeated: share of the most frequent value")
    rest = [column for column in facts["columns"] if column["mean"] is None]
    lines += [
        f"  {column['name']}: {column['different']} different, the most frequent in {100 * column['repeated']:.0f} %"
        for column in rest
        if facts["unit"] == "record"
    ]
    lines.append("")
    lines += said(facts)
    return "\n".join(lines)


def said(facts: dict[str, Any]) -> list[str]:
    """The warnings, one a line."""
    if not facts["warnings"]:
        return ["Nothing odd was found."]
    return [f"{'WARNING' if warned['loud'] else 'Note'}: {warned['text']}" for warned in facts["warnings"]]
