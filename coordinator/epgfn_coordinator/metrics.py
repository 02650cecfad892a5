"""What a monitoring system reads while `serve` runs, in Prometheus' text format, on a port of loopback and nowhere else.

`counting.py` counts what happens; where the round stands is read from the state whenever somebody asks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

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
from epgfn_coordinator.store import TROUBLE_FACT, Store

LOOPBACK: Final = "127.0.0.1"
STATES: Final = (OPEN, AGGREGATING, PUBLISHED, WAITING, FAILED, ABANDONED)


class Standing(NamedTuple):
    """A round by its name, and where to read how it stands."""

    name: str
    study: Study
    store: Store


@contextlib.contextmanager
def served(home: Home, rounds: Callable[[], list[Standing]], port: int | None) -> Iterator[str]:
    """Answer to http://127.0.0.1:<port>/metrics meanwhile; the address, or nothing where `port` is None. 0 picks a port.

    Raises:
        EpgfnError: the port is in use.
    """
    if port is None:
        yield ""
        return
    standing = _Collected(home, rounds)
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


class _Collected(Collector):
    """Where all rounds stand, read from their states."""

    def __init__(self, home: Home, rounds: Callable[[], list[Standing]]) -> None:
        self._home, self._rounds = home, rounds

    def describe(self) -> Iterable[Metric]:
        """Nothing is read when the process starts."""
        return []

    def collect(self) -> Iterable[Metric]:
        """Each fact by itself: one that cannot be read now is left out, and the others are told."""
        found = _Families()
        for standing in self._rounds():
            for read in (_state_of, _nodes_of, _ledger_of, _deadline_of):
                _if_readable(read, standing, found)
        yield from found.all()
        yield from self._certificates()

    def _certificates(self) -> list[Metric]:
        left = GaugeMetricFamily(
            "epgfn_certificate_days_left", "Days until a certificate ends.", labels=["of", "node"]
        )
        own = {"authority": self._home.ca, "server": self._home.key(keys.TLS_CERTIFICATE)}
        try:
            raw = {(of, ""): read_bytes(path, "certificate") for of, path in own.items()}
            for standing in self._rounds():
                for row in standing.store.rows("SELECT node_id, certificate FROM nodes"):
                    raw["node", row["node_id"]] = bytes(row["certificate"])
        except EpgfnError:
            return []
        for labels, pem in raw.items():
            ends = x509.load_pem_x509_certificate(pem).not_valid_after_utc
            left.add_metric(labels, (ends - clock.now()).total_seconds() / 86_400)
        return [left]


class _Families:
    """Metrics by name, each with a label for the round."""

    def __init__(self) -> None:
        self._of: dict[str, GaugeMetricFamily] = {}

    def add(self, name: str, what: str, of: str, value: float, **labels: str) -> None:
        """One value of the round called `of`."""
        names = ["round", *labels]
        family = self._of.setdefault(name, GaugeMetricFamily(name, what, labels=names))
        family.add_metric([of, *labels.values()], value)

    def all(self) -> list[GaugeMetricFamily]:
        """All of them."""
        return list(self._of.values())


def _if_readable(read: Callable[[Standing, _Families], None], standing: Standing, found: _Families) -> None:
    with contextlib.suppress(EpgfnError):
        read(standing, found)


def _state_of(at: Standing, found: _Families) -> None:
    now = round_state(at.store)
    held = float(bool(why_held(at.store, at.study.roster)))
    for name in STATES:
        found.add(
            "epgfn_round_state",
            "1 for the state that the round is in.",
            at.name,
            float(name == now),
            state=name,
        )
    found.add("epgfn_ledger_held", "1 after restore, while nothing may be entered.", at.name, held)
    stopped = float(at.store.fact(TROUBLE_FACT) is not None)
    found.add(
        "epgfn_round_stopped", "1 while nothing is decided in the round, since that failed.", at.name, stopped
    )
    found.add("epgfn_global_models", "Signed global models.", at.name, places.count(at.store))


def _nodes_of(at: Standing, found: _Families) -> None:
    counts = {
        "roster": len(at.study.roster),
        "enrolled": at.store.count("nodes"),
        "uploading": at.store.count("uploads"),
        "accepted": len(accepted_nodes(at.store)),
        "excluded": len(excluded_nodes(at.store)),
    }
    for step, count in counts.items():
        found.add("epgfn_nodes", "Nodes that have come so far.", at.name, count, step=step)
    size = at.store.rows("SELECT COALESCE(SUM(sealed_size), 0) AS size FROM artifacts")[0]["size"]
    found.add("epgfn_accepted_bytes", "Bytes of the models that were accepted.", at.name, size)


def _ledger_of(at: Standing, found: _Families) -> None:
    found.add("epgfn_ledger_entries", "Entries of the ledger.", at.name, at.store.entries_size())
    what = "Models refused under keys that count, by reason."
    for row in at.store.rows("SELECT reason, COUNT(*) AS size FROM refusals GROUP BY reason"):
        found.add("epgfn_models_refused", what, at.name, row["size"], reason=row["reason"])


def _deadline_of(at: Standing, found: _Families) -> None:
    deadline = deadline_of(at.study, at.store)
    if deadline is not None:
        what = "The round's deadline."
        found.add("epgfn_deadline_timestamp_seconds", what, at.name, deadline.timestamp())
