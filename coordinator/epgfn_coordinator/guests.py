"""Who may be connected at once: pure bookkeeping, which makes no difference between a lie and a mistake.

A connection is a stranger until a call over it has shown which node it is of. Strangers make room for one another: where there are too
many, the oldest of the address that holds the most has to go. So whoever opens thousands turns out nobody but himself, and an honest
node at the same address still has all the time that it takes for the others to be replaced. Nodes only make room for newer connections
of the same node.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

PER_NODE: Final = 6  # one command has one; those of a link that broke are still there for a while
_NETWORK_BITS: Final = 64  # of an IPv6 address, which are those of one customer


@dataclass(frozen=True)
class Bounds:
    """How many connections may be open: in all, of one address, of one node."""

    total: int
    per_address: int
    per_node: int = PER_NODE

    @classmethod
    def of(cls, total: int) -> Bounds:
        """Half of all for one address: many nodes may share one, behind a proxy."""
        return cls(total, max(1, total // 2))


def origin(host: str) -> str:
    """What counts as one address: an IPv4 address, or the network of an IPv6 one."""
    try:
        ip = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ipaddress.ip_network((ip, _NETWORK_BITS), strict=False))


class Guests:
    """The connections of one port, by number. Not for several threads at once."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._of: dict[int, str] = {}  # the origin of each
        self._by_origin: dict[str, int] = {}
        self._strangers: dict[str, OrderedDict[int, None]] = {}  # oldest first
        self._nodes: dict[str, OrderedDict[int, None]] = {}
        self._node_of: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._of)

    def victim(self, origin: str) -> int | None:
        """Which connection has to go before another one of `origin` may come; None: none has to, -1: it may not come."""
        if self._by_origin.get(origin, 0) >= self._bounds.per_address:
            return self._oldest(origin)
        if len(self._of) < self._bounds.total:
            return None
        most = max(self._strangers, key=lambda each: len(self._strangers[each]), default="")
        return self._oldest(most)

    def oldest_stranger(self) -> int | None:
        """The one that would have to go now; None if there is none."""
        most = max(self._strangers, key=lambda each: len(self._strangers[each]), default="")
        found = self._oldest(most)
        return None if found < 0 else found

    def enter(self, number: int, origin: str) -> None:
        """A stranger of `origin` has come."""
        self._of[number] = origin
        self._by_origin[origin] = self._by_origin.get(origin, 0) + 1
        self._strangers.setdefault(origin, OrderedDict())[number] = None

    def recognise(self, number: int, node_id: str) -> int | None:
        """It is of this node; which older connection of the node has to go for it, if any."""
        if number not in self._of or number in self._node_of:
            return None
        self._drop(self._strangers, self._of[number], number)
        self._node_of[number] = node_id
        own = self._nodes.setdefault(node_id, OrderedDict())
        own[number] = None
        return next(iter(own)) if len(own) > self._bounds.per_node else None

    def leave(self, number: int) -> None:
        """It is gone."""
        origin = self._of.pop(number, None)
        if origin is None:
            return
        self._by_origin[origin] -= 1
        if not self._by_origin[origin]:
            del self._by_origin[origin]
        node_id = self._node_of.pop(number, None)
        if node_id is None:
            self._drop(self._strangers, origin, number)
        else:
            self._drop(self._nodes, node_id, number)

    def is_stranger(self, number: int) -> bool:
        """Whether nobody knows whose it is."""
        return number in self._of and number not in self._node_of

    def _oldest(self, origin: str) -> int:
        return next(iter(self._strangers.get(origin, ())), -1)

    @staticmethod
    def _drop(groups: dict[str, OrderedDict[int, None]], name: str, number: int) -> None:
        group = groups.get(name)
        if group is not None:
            group.pop(number, None)
            if not group:
                del groups[name]
