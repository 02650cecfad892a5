"""Consent, once for a study in which all sites share their parameters, to a statistic of the records that leaves beside the policy, or
under masks in its place."""

from __future__ import annotations

from epgfn.base.errors import WaitingError
from epgfn.base.files import write_atomic
from epgfn.study import Study
from epgfn.study.parameters import is_masked, is_shared, statistic_in_words
from epgfn_node.home import NodeHome

FLAG = "--accept-statistic"


def concerns(study: Study) -> bool:
    """Whether a statistic leaves that no noise was added to. With noise it is what the policy is made of, and tells nothing more."""
    return is_shared(study) and not study.privacy.is_private


def accepted(home: NodeHome, study: Study) -> bool:
    """Whether the operator has accepted that for this very study."""
    path = home.accepted_statistic
    return path.exists() and path.read_text().strip() == study.digest


def require_consent(home: NodeHome, study: Study, given: bool) -> None:
    """Refuse to approve a model with a statistic beside it, until somebody has said once that it may leave. `given`: somebody says so now.

    Raises:
        WaitingError: "statistic".
        EpgfnError: the operator's word cannot be written down.
    """
    if not concerns(study) or accepted(home, study):
        return
    if not given and is_masked(study):
        raise WaitingError(
            "statistic",
            f"this study asks for a statistic of your records under masks, for the coordinator to read its total over nodes: "
            f"{statistic_in_words(study)}. Look with epgfn-node inspect --home {home.root}, which says what that rests on; if it may "
            f"leave, add {FLAG} to approve or run (accept_statistic = true in node.toml)",
        )
    if not given:
        raise WaitingError(
            "statistic",
            f"beside the model this study asks for a statistic of your records, for the coordinator to read: {statistic_in_words(study)}. "
            f"Look with epgfn-node inspect --home {home.root}; if it may leave, add {FLAG} to approve or run (accept_statistic = true in "
            "node.toml), or ask for a study with target.parameters = 'own' or a privacy mode",
        )
    write_atomic(home.accepted_statistic, study.digest.encode("ascii") + b"\n")
