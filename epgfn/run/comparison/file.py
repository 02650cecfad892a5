"""global/comparison.json: a comparison with the exact posterior, and the curves of the nodes' own training, in a file of their own.

Whoever runs `epgfn simulate` holds all records and every key, and writes it after the round is over. It is signed with the key of the
simulation's coordinator, so that what is read later is what the simulation found; who only took part in a round cannot know any of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from epgfn.base.canonical import parse_json
from epgfn.base.errors import UsageError
from epgfn.base.files import sha256_file, sha256_hex, write_atomic
from epgfn.run.comparison.graphs import Comparison
from epgfn.run.comparison.objects import ObjectComparison
from epgfn.run.layout import COMPARISON, GLOBAL, RunLayout
from epgfn.sealing.bundle import sign_statement
from epgfn.sealing.keys import SigningKey
from epgfn.sealing.predicates import COMPARISON as COMPARISON_TYPE
from epgfn.sealing.predicates import ComparisonPredicate
from epgfn.sealing.statement import make_statement
from epgfn.study import Study

AnyComparison = Comparison | ObjectComparison


class Compared(NamedTuple):
    """`local_histories`: each node's training steps, as it kept them."""

    comparison: AnyComparison
    local_histories: dict[str, list[Any]]


def write_comparison(
    run_dir: Path,
    study: Study,
    round_id: str,
    comparison: AnyComparison,
    local_histories: Mapping[str, list[Any]],
    key: SigningKey,
) -> None:
    """Put `comparison` beside the global model in `run_dir`, signed with the simulated coordinator's `key`.

    Raises:
        EpgfnError: there is no model, or the files cannot be written.
    """
    layout = RunLayout(run_dir)
    value = {"comparison": comparison.to_json(), "local_histories": dict(local_histories)}
    raw = (json.dumps(value) + "\n").encode()
    said = ComparisonPredicate(
        study_digest=study.digest, round_id=round_id, model_sha256=sha256_file(layout.model)
    )
    statement = make_statement({COMPARISON: sha256_hex(raw)}, COMPARISON_TYPE, said)
    write_atomic(layout.comparison, raw)
    write_atomic(layout.comparison_bundle, sign_statement(statement, key))


def read_comparison(raw: bytes, study: Study) -> Compared:
    """What `write_comparison` wrote, from bytes whose signature was verified.

    Raises:
        UsageError: they are of another form, or of another study's variables.
    """
    try:
        value = parse_json(raw)
        of = Comparison if study.kind.has_edges else ObjectComparison
        comparison: AnyComparison = of.from_json(value["comparison"])
        histories = {
            str(node): rows for node, rows in value["local_histories"].items() if isinstance(rows, list)
        }
        fits = not isinstance(comparison, Comparison) or comparison.variables == study.variable_names
        if not fits:
            raise ValueError("other variables")
        return Compared(comparison, histories)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UsageError(f"{GLOBAL}/{COMPARISON} is not a comparison of a run of this study") from None
