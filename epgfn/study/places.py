"""An open roster: places for nodes that are added after the start, up to a largest number that the study says.

    roster = ["north", "south"]
    largest_roster = 4              # two further nodes, added-3 and added-4

The places are part of the roster from the beginning: N is the largest number, of which every node's share of the prior is 1/N, and a place
that nobody takes is a node that is absent from the product, whose share is settled at the close. So who comes changes no model of those
who were there before.
"""

from __future__ import annotations

import re
from typing import Any, Final

PLACE: Final = re.compile(r"added-[1-9][0-9]*")
"""What a place in the roster is called: its number in the roster, counted from 1."""


def with_places(values: Any) -> Any:
    """The tables of a study file with a roster as long as it may become; anything malformed is left for the study to refuse."""
    if not isinstance(values, dict):
        return values
    roster, largest = values.get("roster"), values.get("largest_roster")
    if not isinstance(roster, list) or not isinstance(largest, int) or not len(roster) < largest <= 1024:
        return values
    places = [f"added-{number}" for number in range(len(roster) + 1, largest + 1)]
    return {**values, "roster": [*roster, *places]}
