"""Masked sums: which studies can have them. [aggregation] `sums`; what they are is docs/formats/masked-sum.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from epgfn.study.mistakes import Mistake, require_none

if TYPE_CHECKING:
    from epgfn.study import Study

LEAST: Final = 3
"""Nodes that a total has to be of: of two, each knows the other's numbers from it."""
MOST: Final = 100
"""Nodes: each keeps a share of every other, and reads a message of so many shares from each."""


def check_sums(study: Study) -> None:
    """Raises:
    Mistakes: a study that cannot have masked sums.
    """
    rules, found = study.aggregation, []
    if rules.sums == "plain":
        return
    nodes = len(study.roster)
    if getattr(study.target, "parameters", "own") != "shared":
        found.append("needs target.parameters = 'shared', whose score takes nothing but what adds up")
    if study.privacy.is_private:
        found.append("is of exact numbers; take privacy.mode out, or sums")
    if study.largest_roster is not None:
        found.append("needs a closed roster; take largest_roster out")
    if nodes > MOST:
        found.append(f"takes at most {MOST} nodes")
    if rules.quorum < LEAST:
        found.append(
            f"needs aggregation.quorum of at least {LEAST}: of a total of two nodes, each knows the other's numbers"
        )
    if 2 * rules.quorum <= nodes:
        found.append(
            f"needs aggregation.quorum of more than half of the roster, here {max(LEAST, nodes // 2 + 1)} of {nodes}: else a coordinator "
            "that lies could have two totals, and their difference"
        )
    if rules.close_when != "all":
        found.append("waits for every node that takes part, or its operator; take aggregation.close_when out")
    if rules.late != "refuse":
        found.append("has one total, and a second would tell what came between; take aggregation.late out")
    if rules.leave_one_out:
        found.append("has one total, and no model without one node; take aggregation.leave_one_out out")
    if study.transport.keep_round_key:
        found.append(
            "leaves nothing that an auditor could read with the round key; take transport.keep_round_key out"
        )
    require_none(Mistake("", f"aggregation.sums = 'masked' {what}") for what in found)
