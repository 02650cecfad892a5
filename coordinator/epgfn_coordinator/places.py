"""Which signed models there are, by place: the folder each lies in, here and in a run directory.

global                    everybody who had sent when the round closed; never changed again
aggregates/2, 3, …        everybody so far, one more each time late models have come; a study may allow it
leave-one-out/<node>      everybody in the first but that node; a study may ask for it
"""

from __future__ import annotations

from sqlite3 import Row

from epgfn.run.layout import AGGREGATES, GLOBAL, LEAVE_ONE_OUT
from epgfn_coordinator.store import Store


def later(number: int) -> str:
    """The place of the aggregate with that number; the first has number 1."""
    return GLOBAL if number == 1 else f"{AGGREGATES}/{number}"


def without(node_id: str) -> str:
    """The place of the model that leaves this node out."""
    return f"{LEAVE_ONE_OUT}/{node_id}"


def made(store: Store, place: str) -> Row | None:
    """Bundle and ledger position of a signed model, and `size`: uploads before that ledger index are in it."""
    return store.row("SELECT * FROM aggregates WHERE place = ?", place)


def all_made(store: Store) -> list[str]:
    """Places of all signed models in the order of their ledger entries."""
    return [row["place"] for row in store.rows("SELECT place FROM aggregates ORDER BY position")]


def count(store: Store) -> int:
    """How many global models there are, the first and later ones."""
    return sum(not place.startswith(LEAVE_ONE_OUT) for place in all_made(store))


def late_nodes(store: Store) -> list[str]:
    """Nodes whose accepted model is in no global model yet although the first is made; sorted."""
    newest = store.row("SELECT MAX(size) AS size FROM aggregates WHERE place NOT LIKE 'leave-one-out/%'")
    if newest is None or newest["size"] is None:
        return []
    rows = store.rows(
        "SELECT node_id FROM artifacts WHERE position >= ? AND node_id NOT IN (SELECT node_id FROM exclusions) ORDER BY node_id",
        newest["size"],
    )
    return [row["node_id"] for row in rows]
