"""A coordinator that lies: it serves over real mTLS and has its true keys, but what it answers is altered on its way out."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import grpc

from coordinator_client import FakeNode, InProcess, make_home
from epgfn.base.canonical import canonical_json, parse_canonical_json
from epgfn.ledger.log import TileLog
from epgfn.ledger.note import NoteSigner
from epgfn.sealing.bundle import read_unverified, sign_statement
from epgfn.sealing.keys import SigningKey
from epgfn.study import Study
from epgfn_coordinator import grpc_servers
from epgfn_coordinator.invitation import invite
from epgfn_coordinator.store import Store
from parties import Node

Lie = Callable[[Any, Callable[[], Any], grpc.ServicerContext], Any]
"""From a request, what gives the true answer (of a stream, an iterator of answers) and the call to the answer that is given."""


class Liar(InProcess):
    """The coordinator of one round. `lies` by the method's name, such as "GetStudy"."""

    def __init__(self, folder: Path, study: Study) -> None:
        self.lies: dict[str, Lie] = {}
        self.calls: list[tuple[str, int]] = []
        """Each method that was called, with the bytes of its request, of a stream of all its requests."""
        self.folder, self.study = folder, study
        super().__init__(make_home(folder / "coordinator", study))
        self.key = SigningKey.load(self.home.key("signing.key"))
        self.ledger = NoteSigner.load(self.home.key("ledger.key"))
        self._forked: list[TileLog] = []
        self.others: Any = None  # the receipt of another node, as Commit answers

    def __enter__(self) -> Liar:
        def lying(*arguments: Any, **options: Any) -> grpc.Server:
            return grpc.server(*arguments, **options, interceptors=[_Interceptor(self)])

        with mock.patch.object(grpc_servers, "grpc", mock.Mock(wraps=grpc, server=lying)):
            super().__enter__()
        return self

    @contextlib.contextmanager
    def telling(self, **lies: Lie) -> Iterator[None]:
        """Lie so for a while."""
        self.calls.clear()
        self.lies = lies
        try:
            yield
        finally:
            self.lies = {}

    def invited(self, node: str) -> Path:
        """An invitation file for `node`."""
        store = Store(self.home.state)
        try:
            raw = invite(self.home, store, node)
        finally:
            store.close()
        path = self.folder / f"{node}.invitation.json"
        path.write_bytes(raw)
        path.chmod(0o600)
        return path

    def node(self, name: str, *, processes: bool = False) -> Node:
        """One that is initialised and not enrolled."""
        node = Node(self.folder / name, processes=processes)
        node.ok("init")
        return node

    def fake(self, name: str) -> FakeNode:
        """One that sends whatever is asked of it."""
        return FakeNode.enrolled(self.home, name)

    def signed(self, bundle: bytes, **changes: Any) -> bytes:
        """A statement that the coordinator has signed, again with `changes` to its predicate, whether or not they make sense."""
        said = parse_canonical_json(read_unverified(bundle)[0])
        said["predicate"] |= changes
        return sign_statement(canonical_json(said), self.key)

    def entries(self) -> list[bytes]:
        """The ledger's, in order."""
        store = Store(self.home.state)
        try:
            return [bytes(entry) for entry in store.entries()]
        finally:
            store.close()

    def fork(self, entries: list[bytes]) -> TileLog:
        """Another history, signed with the ledger's own key."""
        log = TileLog(self.folder / f"fork-{len(self._forked)}", self.ledger)
        log.publish(entries)
        self._forked.append(log)
        return log


class _Interceptor(grpc.ServerInterceptor):  # type: ignore[misc]
    def __init__(self, liar: Liar) -> None:
        self._liar = liar

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        handler, name = continuation(details), details.method.rpartition("/")[2]
        if handler is None or "Health" in details.method:
            return handler

        def counted(requests: Iterator[Any]) -> Iterator[Any]:
            self._liar.calls.append((name, 0))
            at = len(self._liar.calls) - 1
            for request in requests:
                self._liar.calls[at] = (name, self._liar.calls[at][1] + request.ByteSize())
                yield request

        def answer(request: Any, context: grpc.ServicerContext) -> Any:
            lie = self._liar.lies.get(name)
            if handler.request_streaming:
                request = counted(request)
            else:
                self._liar.calls.append((name, request.ByteSize()))
            behaviour = handler.unary_stream or handler.stream_unary or handler.unary_unary
            return (
                behaviour(request, context)
                if lie is None
                else lie(request, lambda: behaviour(request, context), context)
            )

        serializers = {
            "request_deserializer": handler.request_deserializer,
            "response_serializer": handler.response_serializer,
        }
        if handler.request_streaming:
            return grpc.stream_unary_rpc_method_handler(answer, **serializers)
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(answer, **serializers)
        return grpc.unary_unary_rpc_method_handler(answer, **serializers)
