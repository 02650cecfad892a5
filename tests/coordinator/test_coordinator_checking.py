"""A model whose check outlasts any call: the node is told, asks again, and gets its receipt; the round does not close over it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from coordinator_client import Events, FakeNode, InProcess, make_home, reason_of, tiny_study
from epgfn.base.addresses import parse_address
from epgfn.base.errors import RefusedError
from epgfn.rpc.diagnosis import Target
from epgfn.rpc.hello import Identity
from epgfn.study import Study
from epgfn_coordinator import checking
from epgfn_coordinator.home import Home
from epgfn_coordinator.status import status
from epgfn_coordinator.verify import Verifier
from epgfn_node.client import Coordinator
from epgfn_node.submit import _commit


@pytest.fixture
def study() -> Study:
    return tiny_study(quorum=1)


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory, study: Study) -> Home:
    return make_home(tmp_path_factory.mktemp("coordinator") / "home", study)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Checks end when this is set; calls do not wait for them."""
    gate, model = threading.Event(), Verifier.model

    def slow(self: Verifier, *arguments: Any) -> Any:
        gate.wait()
        return model(self, *arguments)

    monkeypatch.setattr(Verifier, "model", slow)
    monkeypatch.setattr(checking, "PATIENCE", 0.05)
    yield gate
    gate.set()


def _whole(node: FakeNode, study: Study, seed: int = 0) -> str:
    """An upload that lacks nothing but its commit."""
    upload = node.make_upload(study, seed=seed)
    name: str = node.begin(upload.bundle).upload_id
    node.upload(name, upload.sealed)
    return name


def test_a_node_is_told_that_its_model_is_being_checked_and_gets_its_receipt(
    home: Home, study: Study, gate: threading.Event
) -> None:
    with InProcess(home):
        node, other = FakeNode.enrolled(home, "a"), FakeNode.enrolled(home, "b")
        name, others = _whole(node, study), _whole(other, study, seed=1)
        assert not node.status(name).checking
        assert reason_of(lambda: node.commit(name)) == "checking"
        assert node.status(name).checking and not node.status(name).accepted
        assert reason_of(lambda: node.commit(name)) == "checking"
        assert reason_of(lambda: other.commit(others)) == "checking"  # it waits for its turn
        gate.set()
        events = Events()
        invitation = node.invitation
        own = Identity(node.tls.private_pem(), node.certificate)
        target = Target(parse_address(invitation["address"]), invitation["ca_pem"].encode(), own)
        with Coordinator(target, events) as client:
            answer = _commit(name, client, events)
        assert answer.receipt == node.commit(name).receipt
        assert node.status(name).accepted and not node.status(name).checking


def test_what_is_refused_in_the_background_is_told_to_whoever_asks(
    home: Home, study: Study, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    with InProcess(home):
        node = FakeNode.enrolled(home, "a")
        upload = node.make_upload(study, tensors={"x": torch.zeros(1)})
        name = node.begin(upload.bundle).upload_id
        node.upload(name, upload.sealed)
        assert reason_of(lambda: node.commit(name)) == "checking"
        gate.set()
        monkeypatch.setattr(checking, "PATIENCE", 60)
        assert reason_of(lambda: node.commit(name)) == "tensor-names"
        assert reason_of(lambda: node.commit(name)) == "tensor-names"  # and stays so
        assert not list(home.artifacts.iterdir())


def test_another_statement_takes_the_place_of_one_that_is_being_checked(
    home: Home, study: Study, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    with InProcess(home):
        node = FakeNode.enrolled(home, "a")
        first = _whole(node, study)
        assert reason_of(lambda: node.commit(first)) == "checking"
        second = _whole(node, study, seed=1)
        assert reason_of(lambda: node.commit(second)) == "checking"
        gate.set()
        monkeypatch.setattr(checking, "PATIENCE", 60)
        assert reason_of(lambda: node.status(first)) == "unknown-upload"
        while not node.status(second).accepted:
            with contextlib.suppress(RefusedError):  # "checking", while the first is
                node.commit(second)
        assert status(home)["accepted"] == ["a"]


def test_a_round_does_not_close_over_a_model_that_is_being_checked(
    home: Home, study: Study, gate: threading.Event
) -> None:
    with InProcess(home) as server:
        nodes = [FakeNode.enrolled(home, name) for name in ("a", "b")]
        uploads = [_whole(node, study, seed) for seed, node in enumerate(nodes)]
        for node, name in zip(nodes, uploads, strict=True):
            assert reason_of(lambda node=node, name=name: node.commit(name)) == "checking"  # type: ignore[misc]
        gate.set()
        server.events.wait_for("published", "ended")
        assert status(home)["accepted"] == ["a", "b"]
