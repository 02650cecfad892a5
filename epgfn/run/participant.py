"""A participant's copy of a run directory: what a node gets to see of a result that it took part in.

It holds what the coordinator has published and what everybody has signed. It does not hold what other nodes sent sealed, nor models
without a single node, which with the global one would tell that node's records. `participant.json` says whose copy it is; nobody signs
that, since it only says which files are missing.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

from epgfn.base.canonical import canonical_json, parse_canonical_json
from epgfn.base.errors import EpgfnError, RefusedError, UsageError
from epgfn.base.files import read_bytes
from epgfn.run.layout import PARTICIPANT, RESULT, RunLayout
from epgfn.study import Study

FORMAT: Final = "epgfn-participant/v1"
MAX_BYTES: Final = 4096
_OF_A_HOME: Final = ("trust/ledger.vkey", "round.sigstore.json")
"""What a node's home has, and a run directory in these places has not, or not both."""


def mark_of(node: str) -> bytes:
    """What `participant.json` holds in the copy of `node`."""
    return canonical_json({"format": FORMAT, "node": node})


def owner_of(run_dir: Path, study: Study) -> str | None:
    """Whose copy of a run `run_dir` is; None where it is a whole run directory.

    Raises:
        RefusedError: "malformed": the file that says so is none, or names no node of the study.
    """
    path = run_dir / PARTICIPANT
    if not os.path.lexists(path):
        return None
    try:
        said: Any = parse_canonical_json(read_bytes(path, "note whose copy this is", MAX_BYTES))
        if said["format"] == FORMAT and said["node"] in study.roster:
            return str(said["node"])
    except (EpgfnError, KeyError, TypeError):
        pass
    raise RefusedError(
        "malformed", f"{PARTICIPANT} does not name a node of the study; fetch the result again"
    )


def run_directory(path: Path) -> Path:
    """`path`, or where that is a node's home, the result that it has fetched.

    Raises:
        UsageError: it is the home of a node that has not fetched the whole result.
    """
    inside = path / RESULT
    if RunLayout(inside).study.is_file():
        return inside
    if all((path / name).is_file() for name in _OF_A_HOME):
        raise UsageError(
            f"{path} is the home of a node that has no whole result, at most the global model; run epgfn-node fetch --home {path} once it "
            "is published"
        )
    return path
