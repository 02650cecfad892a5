"""What a monitoring system reads, from a real process: on loopback, off unless asked for, and the right numbers; its log for programs."""

from __future__ import annotations

import json
import urllib.request
from datetime import datetime
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from coordinator_client import FakeNode, InProcess, OwnProcess, make_home, reason_of, tiny_study
from epgfn.base.errors import EpgfnError
from epgfn_coordinator.journal import Journal
from epgfn_coordinator.main_loop import serve
from epgfn_coordinator.status import status


def scraped(address: str) -> dict[tuple[str, ...], float]:
    """Every sample by its name and the values of its labels, in the order of their names."""
    text = urllib.request.urlopen(address, timeout=10).read().decode()
    families = text_string_to_metric_families(text)
    return {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}


def test_a_round_as_its_metrics_tell_it(tmp_path: Path) -> None:
    study = tiny_study(deadline='deadline = "2100-01-01T00:00:00Z"')
    home = make_home(tmp_path / "home", study)
    with OwnProcess(home, options=["--metrics-port", "0", "--log-json"]) as server:
        address = server.serving["metrics"]
        assert address.startswith("http://127.0.0.1:")
        a, b = FakeNode.enrolled(home, "a"), FakeNode.enrolled(home, "b")
        upload = a.make_upload(study)
        bad = a.make_upload(study, model_size=1)
        assert reason_of(lambda: a.begin(bad.bundle))
        reason = reason_of(lambda: a.begin(bad.bundle))
        assert reason_of(lambda: a.status("nothing")) == "unknown-upload"
        a.send(upload)
        found = scraped(address)
        expected = {
            ("epgfn_round_state", "tiny", "open"): 1,
            ("epgfn_round_state", "tiny", "published"): 0,
            ("epgfn_nodes", "tiny", "roster"): 2,
            ("epgfn_nodes", "tiny", "enrolled"): 2,
            ("epgfn_nodes", "tiny", "accepted"): 1,
            ("epgfn_accepted_bytes", "tiny"): len(upload.sealed),
            ("epgfn_received_bytes_total",): len(upload.sealed),
            ("epgfn_calls_refused_total", "unknown-upload"): 1,
            ("epgfn_calls_refused_total", reason): 2,
            ("epgfn_models_refused", reason, "tiny"): 1,
            ("epgfn_ledger_entries", "tiny"): status(home)["ledger_size"],
            ("epgfn_ledger_held", "tiny"): 0,
            ("epgfn_deadline_timestamp_seconds", "tiny"): 4_102_444_800,
        }
        assert {name: found.get(name) for name in expected} == expected
        days = {name[1:]: value for name, value in found.items() if name[0] == "epgfn_certificate_days_left"}
        assert set(days) == {("", "authority"), ("", "server"), ("a", "node"), ("b", "node")}
        assert all(300 < left < 4000 for left in days.values())
        assert ("process_open_fds",) in found
        b.send(b.make_upload(study, seed=1))
        server.wait_for("published")
        model = b.download()
        found = scraped(address)
        assert found["epgfn_round_state", "tiny", "published"] == found["epgfn_global_models", "tiny"] == 1
        assert found["epgfn_training_step", "aggregating"] == found["epgfn_training_steps", "aggregating"] > 0
        assert found["epgfn_sent_bytes_total",] == len(model)
        server.process.terminate()
        _, said = server.process.communicate()
        assert server.process.returncode == 0
    told = [json.loads(line) for line in said.splitlines()]
    assert all(datetime.fromisoformat(line["time"]) and line["level"] and line["message"] for line in told)
    accepted = [line for line in told if line.get("phase") == "accepted"]
    assert [line["node"] for line in accepted] == ["a", "b"] and accepted[0]["size"] == len(upload.sealed)
    assert {"refused", "published"} <= {line.get("phase") for line in told}


def test_nothing_is_shown_unless_asked_for_and_a_port_in_use_is_told(tmp_path: Path) -> None:
    home, other = make_home(tmp_path / "home", tiny_study()), make_home(tmp_path / "other", tiny_study())
    with OwnProcess(home, options=["--metrics-port", "0"]) as server:
        port = int(server.serving["metrics"].split(":")[2].split("/")[0])
        with InProcess(other) as quiet:
            assert "metrics" not in quiet.events.wait_for("serving")
        with pytest.raises(EpgfnError, match="--metrics-port"):
            serve(other, Journal(quiet.events), metrics_port=port)
