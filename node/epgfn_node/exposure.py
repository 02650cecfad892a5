"""What can be computed from this node's model, tried on that very file before it leaves: for its owner's eyes alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from epgfn.sealing.model_header import ITEM_BYTES, Form, order_of
from epgfn.study import Study
from epgfn.study.exposure import exposure_of
from epgfn.study.knowledge import knowledge_of

TABLE = "score_table"


def exposed(study: Study, raw: bytes, forms: Mapping[str, Form], told: int | None = None) -> dict[str, Any]:
    """What whoever opens the model file `raw` has: `words`, and what was computed from that file just now, without the records.

    `records`: their number. `correlation` (of numbers): names of two variables and the absolute value of theirs. `combinations` (of
    categories): `columns` whose table came out, `is_all` of them or not, how many combinations of their values are `shown` by a record
    and how many by one `alone`; `tried` says up to how many records there is no other such table, `was_told` that the attack was given
    the number of records `told`. None where something does not come out, or nothing tries to.
    """
    found: dict[str, Any] = {
        "words": "" if study.privacy.is_private else exposure_of(study),
        "records": None,
        "correlation": None,
        "combinations": None,
    }
    table = _table(study, raw, forms)
    if table is not None:
        found |= _ATTACKS[study.target.kind](study, table, told)
    return found


def in_words(found: Mapping[str, Any]) -> list[str]:
    """The same as lines for people; none under differential privacy."""
    if not found["words"]:
        return []
    lines, tried = (
        [f"  {found['words']}"],
        "  Tried on this very file just now, without your records: there are",
    )
    if found["correlation"] is not None:
        one, other, value = found["correlation"]
        lines += [
            f"{tried} {found['records']} of them, in which {one} and {other} correlate by {value:.6f},",
            "  up to the sign. Compare that with your file.",
        ]
    if (made := found["combinations"]) is not None:
        columns = (
            f"all {len(made['columns'])} columns"
            if made["is_all"]
            else f"columns {', '.join(made['columns'])}"
        )
        begin = (
            f"  Tried on this very file just now, told nothing but that you have {found['records']} records:"
            if made["was_told"]
            else f"{tried} {found['records']} of them, and"
        )
        shown = (
            "1 combination of values occurs"
            if made["shown"] == 1
            else f"{made['shown']} combinations of values occur"
        )
        lines += [
            f"{begin} in {columns} {shown}, each as often as was computed, up to the",
            f"  names of the values; {_alone(made['alone'])}. Compare that with your file.",
        ]
    return lines


def _alone(number: int) -> str:
    if number == 0:
        return "none of them belongs to one record alone"
    return f"{number} of them belong{'s' if number == 1 else ''} to one record alone"


def _gaussian(study: Study, table: Any, told: int | None) -> dict[str, Any]:
    import numpy as np  # here: most of what is inspected needs none

    from epgfn.privacy.attacks.score_table import from_bge

    target, v = study.target, len(study.variables)
    if target.mean != "unknown" or target.alpha_mu:
        return {}
    recovered = from_bge(table, alpha_w=target.alpha_w or v + 2.0, t=target.t or 1.0)
    if recovered is None:
        return {}
    names = study.variable_names
    strongest = np.triu(recovered.correlations, 1)  # of the first variables
    i, j = (int(x) for x in np.unravel_index(int(strongest.argmax()), strongest.shape))
    strength = round(float(recovered.correlations[i, j]), 6)
    return {"records": recovered.n, "correlation": [names[i], names[j], strength]}


def _categorical(study: Study, table: Any, told: int | None) -> dict[str, Any]:
    from epgfn.privacy.attacks.count_table import from_bdeu

    categories = [len(variable.categories or ()) for variable in study.variables]
    was_told = False
    found = from_bdeu(table, categories, sample_size=study.target.sample_size)
    if found is None and told is not None:  # others often know it, as from a publication
        was_told, found = True, from_bdeu(table, categories, sample_size=study.target.sample_size, n=told)
    if found is None:
        return {}
    places = max(found.tables, key=lambda key: int((found.tables[key] > 0).sum()))
    columns = [study.variable_names[found.variables[i]] for i in sorted(places)]
    return {
        "records": found.n,
        "combinations": {
            "columns": columns,
            "is_all": len(columns) == len(categories),
            "shown": found.shown(),
            "alone": int((found.tables[places] == 1).sum()),
            "tried": found.tried,
            "was_told": was_told,
        },
    }


_ATTACKS = {"bge": _gaussian, "bdeu": _categorical}


def _table(study: Study, raw: bytes, forms: Mapping[str, Form]) -> Any:
    """(V, K) of a study whose scores somebody could solve for the records; None of any other."""
    solvable = (
        not study.privacy.is_private
        and study.kind.carries_scores
        and not study.prior.model_dump(
            exclude_defaults=True
        )  # public, and in the scores: nothing here takes it out
        and not study.prior.edge_probabilities
        and study.data.missing == "refuse"  # whose scores are of other rows, or of filled-in ones
        and study.design.column is None  # whose scores are of other rows for each variable
        and not study.data.lacks  # some of whose nodes have scores over fewer variables
        and knowledge_of(study) is None  # else only some of the scores are there
        and study.target.kind in _ATTACKS
    )
    return exposed_table(raw, forms) if solvable else None


def exposed_table(raw: bytes, forms: Mapping[str, Form]) -> Any:
    """The (V, K) scores that a model file carries, as they are in it, or those of the admissible sets, (M,), of a study that rules graphs
    out; None where it carries none in float64."""
    if forms.get(TABLE, ("", ()))[0] != "F64":
        return None
    import numpy as np

    order = order_of(forms)
    sizes = {name: math.prod(shape) * ITEM_BYTES[dtype] for name, (dtype, shape) in forms.items()}
    begin = len(raw) - sum(sizes.values()) + sum(sizes[name] for name in order[: order.index(TABLE)])
    return np.frombuffer(raw, "<f8", sizes[TABLE] // 8, begin).reshape(forms[TABLE][1])
