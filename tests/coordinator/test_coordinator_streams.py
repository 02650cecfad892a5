"""A client that falls silent does not hold the coordinator's threads for ever."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from coordinator_client import FakeNode, InProcess, make_home, tiny_study
from epgfn import rpc
from epgfn.v1 import artifact_pb2_grpc
from epgfn_coordinator import main_loop as serve
from epgfn_coordinator.streams import StreamWatch


def test_a_stream_that_stops_moving_is_ended(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "StreamWatch", lambda: StreamWatch(stalled_after=0.2))
    home = make_home(tmp_path_factory.mktemp("coordinator") / "home", tiny_study())
    with InProcess(home), ThreadPoolExecutor(1) as pool:
        node = FakeNode.enrolled(home, "a")
        silent = threading.Event()
        credentials = rpc.channel_credentials(
            node.invitation["ca_pem"].encode(), node.tls.private_pem(), node.certificate
        )
        with grpc.secure_channel(node.invitation["address"], credentials) as channel:
            stub = artifact_pb2_grpc.ArtifactServiceStub(channel)
            call = pool.submit(stub.Upload, iter(silent.wait, True), timeout=300)
            with pytest.raises(grpc.RpcError) as ended:
                call.result()
            silent.set()
        assert ended.value.code() == grpc.StatusCode.CANCELLED
        assert node.study().study == tiny_study().raw
