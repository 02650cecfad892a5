"""What can be computed from this node's model, tried on that very file before it leaves: for its owner's eyes alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from epgfn.sealing.model_header import ITEM_BYTES, Form, order_of
from epgfn.study import Study
from epgfn.study.exposure import exposure_of

TABLE = "score_table"
LEAST_VARIABLES = 5
"""Of fewer the scores do not tell all."""


def exposed(study: Study, raw: bytes, forms: Mapping[str, Form]) -> dict[str, Any]:
    """`words`: what whoever opens the model file `raw` has; `records`: the number of records that were computed from it just now, and
    `correlation`: names of two variables and the absolute value of theirs; None where they do not come out, or nothing tries to."""
    found: dict[str, Any] = {"words": exposure_of(study), "records": None, "correlation": None}
    table = _table(study, raw, forms)
    if table is None:
        return found
    import numpy as np  # here: most of what is inspected needs none

    from epgfn.privacy.attacks.score_table import from_bge

    target, v = study.target, len(study.variables)
    recovered = from_bge(table, alpha_w=target.alpha_w or v + 2.0, t=target.t or 1.0)
    if recovered is not None:
        names = study.variable_names
        strongest = np.triu(recovered.correlations, 1)  # of the first variables
        i, j = (int(x) for x in np.unravel_index(int(strongest.argmax()), strongest.shape))
        found["records"] = recovered.n
        found["correlation"] = [names[i], names[j], round(float(recovered.correlations[i, j]), 6)]
    return found


def in_words(found: Mapping[str, Any]) -> list[str]:
    """The same as lines for people; none under differential privacy."""
    if not found["words"]:
        return []
    lines = [f"  {found['words']}"]
    if found["records"] is not None:
        one, other, value = found["correlation"]
        lines += [
            f"  Tried on this very file just now, without your records: there are {found['records']} of them, in which {one} and {other} "
            f"correlate by {value:.6f},",
            "  up to the sign. Compare that with your file.",
        ]
    return lines


def _table(study: Study, raw: bytes, forms: Mapping[str, Form]) -> Any:
    """(V, K) of a study whose scores somebody could solve for the records; None of any other."""
    target = study.target
    solvable = (
        len(study.variables) >= LEAST_VARIABLES
        and not study.privacy.is_private
        and study.kind.carries_scores
        and study.prior.kind == "uniform"
        and target.kind == "bge"
        and target.mean == "unknown"
        and not target.alpha_mu
    )
    if not solvable or forms.get(TABLE, ("", ()))[0] != "F64":
        return None
    import numpy as np

    order = order_of(forms)
    sizes = {name: math.prod(shape) * ITEM_BYTES[dtype] for name, (dtype, shape) in forms.items()}
    begin = len(raw) - sum(sizes.values()) + sum(sizes[name] for name in order[: order.index(TABLE)])
    return np.frombuffer(raw, "<f8", sizes[TABLE] // 8, begin).reshape(forms[TABLE][1])
