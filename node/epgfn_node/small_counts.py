"""Consent, once for a study, to a model that tells of combinations of categories which few records show."""

from __future__ import annotations

from typing import Any

from epgfn.base.errors import WaitingError
from epgfn.base.files import write_atomic
from epgfn.study import Study
from epgfn.study.records.small_counts import SMALL
from epgfn_node.check import kept
from epgfn_node.home import NodeHome

UNKNOWN = "how many records show each combination of values was not counted when this model was trained"
FLAG = "--accept-small-counts"


def concerns(study: Study) -> bool:
    """Whether its models tell how often combinations of categories occur, without noise."""
    return study.target_kind.is_modular and not study.columns.numeric and not study.privacy.is_private


def accepted(home: NodeHome, study: Study) -> bool:
    """Whether the operator has accepted small counts for this very study."""
    path = home.accepted_small_counts
    return path.exists() and path.read_text().strip() == study.digest


def accept(home: NodeHome, study: Study) -> None:
    """Remember the operator's word.

    Raises:
        EpgfnError: it cannot be written.
    """
    write_atomic(home.accepted_small_counts, study.digest.encode("ascii") + b"\n")


def found(home: NodeHome, study: Study) -> str:
    """What is small, in words for the records' owner; empty where nothing is. A model that was trained before anybody counted may tell
    small counts."""
    if not concerns(study):
        return ""
    facts = kept(home, study)
    if facts is None or "small_counts" not in facts:
        return UNKNOWN
    return in_words(facts["small_counts"])


def in_words(small: dict[str, Any] | None) -> str:
    """What `epgfn_node.check` counted, as the end of a sentence; empty where nothing is small."""
    if small is None:
        return ""
    many = small["combinations"]
    what = "1 combination of values occurs" if many == 1 else f"{many} combinations of values occur"
    rarest = "" if many == 1 else f", the rarest in {small['smallest']}"
    fewer = f"in {small['smallest']}" if many == 1 else f"in fewer than {SMALL}"
    return f"of {', '.join(small['columns'])} {what} {fewer} of your records{rarest}"


def require_consent(home: NodeHome, study: Study, given: bool) -> None:
    """Refuse to approve a model that tells small counts, until somebody has said once that it may. `given`: somebody says so now.

    Raises:
        WaitingError: "small-counts".
    """
    if not (what := found(home, study)) or accepted(home, study):
        return
    if not given:
        raise WaitingError(
            "small-counts",
            f"{what}, and whoever opens the model can compute such counts: rules for releasing tables hold back counts below {SMALL}. "
            f"Look with epgfn-node inspect --home {home.root}; if it may leave all the same, add {FLAG} to approve or run "
            "(accept_small_counts = true in node.toml), or ask for a study with a privacy mode",
        )
    accept(home, study)
