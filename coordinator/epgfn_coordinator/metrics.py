"""What a monitoring system reads while `serve` runs, in Prometheus' text format, on a port of loopback and nowhere else.

`counting.py` counts what happens; where the round stands is read from the state whenever somebody asks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from cryptography import x509
from prometheus_client import start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from epgfn.base.errors import EpgfnError
from epgfn.base.files import read_bytes
from epgfn.run.layout import ABANDONED, AGGREGATING, FAILED, OPEN, PUBLISHED, WAITING
from epgfn.study import Study
from epgfn_coordinator import clock, keys, places
from epgfn_coordinator.continuity import why_held
from epgfn_coordinator.counting import REGISTRY
from epgfn_coordinator.home import Home
from epgfn_coordinator.round import accepted_nodes, excluded_nodes, round_state
from epgfn_coordinator.schedule import deadline_of
from epgfn_coordinator.store import Store

LOOPBACK: Final = "127.0.0.1"
STATES: Final = (OPEN, AGGREGATING, PUBLISHED, WAITING, FAILED, ABANDONED)


@contextlib.contextmanager
def served(home: Home, study: Study, store: Store, port: int | None) -> Iterator[str]:
    """Answer to http://127.0.0.1:<port>/metrics meanwhile; the address, or nothing where `port` is None. 0 picks a port.

    Raises:
        EpgfnError: the port is in use.
    """
    if port is None:
        yield ""
        return
    standing = _Standing(home, study, store)
    REGISTRY.register(standing)
    try:
        server, thread = start_http_server(port, LOOPBACK, REGISTRY)
    except OSError as error:
        REGISTRY.unregister(standing)
        raise EpgfnError(
            f"cannot serve metrics on {LOOPBACK}:{port}: {error.strerror}; choose another --metrics-port"
        ) from None
    try:
        yield f"{LOOPBACK}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        REGISTRY.unregister(standing)


class _Standing(Collector):
    """Where the round stands, read from the state."""

    def __init__(self, home: Home, study: Study, store: Store) -> None:
        self._home, self._study, self._store = home, study, store

    def describe(self) -> Iterable[Metric]:
        """Nothing is read when the process starts."""
        return []

    def collect(self) -> Iterable[Metric]:
        """Each fact by itself: one that cannot be read now is left out, and the others are told."""
        for read in (self._round, self._nodes, self._ledger, self._deadline, self._certificates):
            yield from _readable(read)

    def _round(self) -> Iterable[Metric]:
        state = GaugeMetricFamily(
            "epgfn_round_state", "1 for the state that the round is in.", labels=["state"]
        )
        now = round_state(self._store)
        for name in STATES:
            state.add_metric([name], float(name == now))
        held = float(bool(why_held(self._store, self._study.roster)))
        yield state
        yield GaugeMetricFamily("epgfn_ledger_held", "1 after restore, while nothing may be entered.", held)
        yield GaugeMetricFamily("epgfn_global_models", "Signed global models.", places.count(self._store))

    def _nodes(self) -> Iterable[Metric]:
        nodes = GaugeMetricFamily("epgfn_nodes", "Nodes that have come so far.", labels=["step"])
        counts = {
            "roster": len(self._study.roster),
            "enrolled": self._store.count("nodes"),
            "uploading": self._store.count("uploads"),
            "accepted": len(accepted_nodes(self._store)),
            "excluded": len(excluded_nodes(self._store)),
        }
        for step, count in counts.items():
            nodes.add_metric([step], count)
        yield nodes
        size = self._store.rows("SELECT COALESCE(SUM(sealed_size), 0) AS size FROM artifacts")[0]["size"]
        yield GaugeMetricFamily("epgfn_accepted_bytes", "Bytes of the models that were accepted.", size)

    def _ledger(self) -> Iterable[Metric]:
        yield GaugeMetricFamily(
            "epgfn_ledger_entries", "Entries of the ledger.", self._store.count("entries")
        )
        refused = GaugeMetricFamily(
            "epgfn_models_refused", "Models refused under keys that count, by reason.", labels=["reason"]
        )
        for row in self._store.rows("SELECT reason, COUNT(*) AS size FROM refusals GROUP BY reason"):
            refused.add_metric([row["reason"]], row["size"])
        yield refused

    def _deadline(self) -> Iterable[Metric]:
        deadline = deadline_of(self._study, self._store)
        if deadline is not None:
            yield GaugeMetricFamily(
                "epgfn_deadline_timestamp_seconds", "The round's deadline.", deadline.timestamp()
            )

    def _certificates(self) -> Iterable[Metric]:
        left = GaugeMetricFamily(
            "epgfn_certificate_days_left", "Days until a certificate ends.", labels=["of", "node"]
        )
        own = {"authority": self._home.ca, "server": self._home.key(keys.TLS_CERTIFICATE)}
        raw = {(of, ""): read_bytes(path, "certificate") for of, path in own.items()}
        for row in self._store.rows("SELECT node_id, certificate FROM nodes"):
            raw["node", row["node_id"]] = bytes(row["certificate"])
        for labels, pem in raw.items():
            ends = x509.load_pem_x509_certificate(pem).not_valid_after_utc
            left.add_metric(labels, (ends - clock.now()).total_seconds() / 86_400)
        yield left


def _readable(read: Callable[[], Iterable[Metric]]) -> list[Metric]:
    try:
        return list(read())
    except EpgfnError:
        return []
