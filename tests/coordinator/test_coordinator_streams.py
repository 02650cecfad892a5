"""A client that falls silent does not hold the coordinator's threads for ever."""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from coordinator_client import FakeNode, InProcess, make_home, tiny_study
from epgfn import rpc
from epgfn.v1 import artifact_pb2, artifact_pb2_grpc
from epgfn_coordinator import live_round, main_loop
from epgfn_coordinator.streams import StreamWatch


def test_a_stream_that_stops_moving_is_ended(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (main_loop, live_round):  # before a stream has said which round it is for, and afterwards
        monkeypatch.setattr(module, "StreamWatch", lambda: StreamWatch(stalled_after=0.2))
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


def test_of_a_stream_all_is_kept_up_to_the_damaged_piece_and_up_to_where_it_broke_off(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    study = tiny_study(hidden=200, limit=16 << 20)
    home = make_home(tmp_path_factory.mktemp("coordinator") / "home", study)
    with InProcess(home):
        node = FakeNode.enrolled(home, "a")
        upload = node.make_upload(study)
        name = node.begin(upload.bundle).upload_id
        size = 1000
        credentials = rpc.channel_credentials(
            node.invitation["ca_pem"].encode(), node.tls.private_pem(), node.certificate
        )

        def pieces(first: int, count: int) -> Iterator[Any]:
            for number in range(first, first + count):
                data = upload.sealed[number * size : (number + 1) * size]
                yield artifact_pb2.UploadRequest(
                    upload_id=name, offset=number * size, data=data, crc32=zlib.crc32(data)
                )

        def damaged() -> Iterator[Any]:
            yield from pieces(0, 3)
            (bad,) = pieces(3, 1)
            bad.crc32 ^= 1
            yield bad
            yield from pieces(4, 1)

        def breaking_off() -> Iterator[Any]:
            yield from pieces(3, 4)
            over.wait()

        over = threading.Event()
        with grpc.secure_channel(node.invitation["address"], credentials) as channel:
            stub = artifact_pb2_grpc.ArtifactServiceStub(channel)
            with pytest.raises(grpc.RpcError) as refused:
                stub.Upload(damaged(), timeout=60)
            assert refused.value.code() == grpc.StatusCode.DATA_LOSS
            assert node.status(name).offset == 3 * size
            call = stub.Upload.future(breaking_off())
            time.sleep(1)
            call.cancel()
            until = time.monotonic() + 60
            while node.status(name).offset < 7 * size:
                assert time.monotonic() < until
                time.sleep(0.05)
            over.set()
        assert node.send(upload).receipt
