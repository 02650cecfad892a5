"""What a command of `epgfn-node` works with: its home, held by it alone, and a connection. Imports no more than help needs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from epgfn.base.console import Reporter, make_reporter
from epgfn_node.home import NodeHome

if TYPE_CHECKING:
    from epgfn_node.enroll import Connection


@contextmanager
def session(home: Path, events: bool = False) -> Iterator[tuple[NodeHome, Reporter]]:
    """The home, held by this command alone, and a reporter that is closed whatever happens."""
    node_home = NodeHome(home)
    report = make_reporter(party_of(node_home), events)
    try:
        with node_home.locked():
            yield node_home, report
    finally:
        report.close()


def party_of(home: NodeHome) -> str:
    """What this node is called in what it reports."""
    return f"{home.base.name}/{home.root.name}" if home.is_joined else home.root.name or "node"


def connect(home: NodeHome, report: Reporter | None = None) -> Connection:
    """What it takes to call the coordinator; that a certificate ends soon is told to `report`."""
    from epgfn_node.enroll import Connection
    from epgfn_node.renew import warning_of
    from epgfn_node.settings import NodeSettings

    home.require_enrolled()
    connection = Connection.load(home, NodeSettings.of(home))
    if report is not None and (sentence := warning_of(connection)):
        report.event("certificate", sentence)
    return connection
