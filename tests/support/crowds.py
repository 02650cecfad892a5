"""Bad neighbours in number: connections that say nothing, tokens that are guesses, a refused node that does not stop. Used by a test and by
`make soak`, which has more of them."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc

from coordinator_client import FakeNode, OwnProcess, ledger_kinds, make_home, tiny_study
from epgfn import rpc
from epgfn.base.addresses import parse_address
from epgfn.base.errors import EpgfnError, RefusedError
from epgfn.v1 import artifact_pb2, artifact_pb2_grpc, enrollment_pb2, enrollment_pb2_grpc
from epgfn_coordinator.home import Home
from epgfn_coordinator.refusals import MAX_RECORDED

LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, ({0}, {0}))
from epgfn_coordinator.cli import main
sys.argv = ["epgfn-coordinator", *sys.argv[1:]]
main()
"""
PATIENCE = 120.0  # seconds that an honest node tries again, as `--wait` has it


def raise_own_limit(wanted: int) -> None:
    """Enough descriptors for the crowd itself."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))


def open_files(pid: int) -> int:
    """Descriptors that a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def persistently(call: Callable[[], object]) -> None:
    """`call`, again where the connection broke off, as a node does that was told to wait, or where there was no room."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            call()
            return
        except EpgfnError as error:
            if isinstance(error, RefusedError) and error.reason not in ("no-space", "checking"):
                raise
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


@contextlib.contextmanager
def crowd(addresses: list[str], size: int, stop_at: str) -> Iterator[list[socket.socket]]:
    """`size` connections to each address that never end what they began, opened again as they are closed.

    `stop_at`: "connected": they say nothing, "hello": they begin a TLS handshake, "trickle": they send a byte of one now and then.
    """
    hello = client_hello()
    over = threading.Event()
    held: list[socket.socket] = []

    def come(address: str) -> socket.socket:
        at = parse_address(address)
        each = socket.create_connection((at.host, at.port), timeout=10)
        if stop_at == "hello":
            each.sendall(hello)
        each.setblocking(False)
        return each

    def keep_coming(address: str) -> None:
        mine: list[socket.socket] = []
        while not over.is_set():
            for each in [one for one in mine if is_closed(one)]:
                each.close()
                mine.remove(each)
            with contextlib.suppress(OSError):
                while len(mine) < size and not over.is_set():
                    mine.append(come(address))
                    held.append(mine[-1])
            if stop_at == "trickle":
                for each in mine:
                    with contextlib.suppress(OSError):
                        each.send(b"\x16")
            over.wait(0.2)
        for each in mine:
            each.close()

    threads = [threading.Thread(target=keep_coming, args=(address,)) for address in addresses]
    for thread in threads:
        thread.start()
    try:
        until = time.monotonic() + 60
        while len(held) < size * len(addresses) and time.monotonic() < until:
            time.sleep(0.05)
        yield held
    finally:
        over.set()
        for thread in threads:
            thread.join()


def is_closed(connection: socket.socket) -> bool:
    """Whether the other end has ended it."""
    try:
        return connection.recv(1 << 16) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def client_hello() -> bytes:
    """How a TLS handshake begins."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing).do_handshake()
    return outgoing.read()


def a_round_in_a_crowd(folder: Path, size: int, limit: int, stop_at: str) -> tuple[int, int, float]:
    """Two nodes enrol and submit to a `serve` with `limit` descriptors while `size` connections crowd each port. The most descriptors that
    it had open, how many connections it saw, and the seconds that the nodes took."""
    raise_own_limit(4 * size + 1000)
    study = tiny_study()
    home = make_home(folder / "home", study)
    with OwnProcess(home, program=LIMITED.format(limit)) as server:
        nodes = [FakeNode.invited(home, node) for node in study.roster]
        addresses = [nodes[0].invitation[name] for name in ("address", "enroll_address")]
        with crowd(addresses, size, stop_at) as held:
            most = open_files(server.process.pid)
            begun = time.monotonic()
            for node in nodes:
                persistently(node.enroll)
                most = max(most, open_files(server.process.pid))
                upload = _made(node, study)
                persistently(lambda node=node, upload=upload: node.send(upload))  # type: ignore[misc]
                most = max(most, open_files(server.process.pid))
            took = time.monotonic() - begun
            server.wait_for("published")
            assert server.process.poll() is None
            persistently(nodes[0].result)
            seen = len(held)
    kinds = ledger_kinds(home)
    assert [kinds.count(kind) for kind in ("enrolled", "accepted", "refused", "global")] == [2, 2, 0, 1]
    return most, seen, took


def _made(node: FakeNode, study: object) -> object:
    found: list[object] = []
    persistently(lambda: found.append(node.make_upload(study)))  # type: ignore[arg-type]
    return found[0]


def guess_tokens(home: Home, guesses: int) -> tuple[FakeNode, float]:
    """`guesses` bad tokens, 8 at once, while the node a enrols, and the seconds that took it. It has to be served already."""
    other = FakeNode.invited(home, "a")
    credentials = rpc.channel_credentials(other.invitation["ca_pem"].encode())
    left = iter(range(guesses))

    def guess() -> None:
        while next(left, None) is not None:
            with grpc.secure_channel(other.invitation["enroll_address"], credentials) as channel:
                enroll = enrollment_pb2_grpc.EnrollmentServiceStub(channel).Enroll
                for _ in range(50):
                    with contextlib.suppress(grpc.RpcError):
                        enroll(enrollment_pb2.EnrollRequest(token="a-guess"), timeout=30)
                    if next(left, None) is None:
                        return

    threads = [threading.Thread(target=guess) for _ in range(8)]
    for thread in threads:
        thread.start()
    begun = time.monotonic()
    persistently(other.enroll)
    took = time.monotonic() - begun
    for thread in threads:
        thread.join()
    return other, took


@contextlib.contextmanager
def calling_without_pause(node: FakeNode, threads: int = 6) -> Iterator[list[str]]:
    """A node beyond its limit of refusals goes on calling in several threads; what it was told, by reason."""
    for number in range(MAX_RECORDED):
        with contextlib.suppress(EpgfnError):
            node.begin(b"junk %d" % number)
    credentials = rpc.channel_credentials(
        node.invitation["ca_pem"].encode(), node.tls.private_pem(), node.certificate
    )
    over = threading.Event()
    told: list[str] = []

    def call() -> None:
        with grpc.secure_channel(node.invitation["address"], credentials) as channel:
            begin = artifact_pb2_grpc.ArtifactServiceStub(channel).Begin
            while not over.is_set():
                try:
                    begin(artifact_pb2.BeginRequest(bundle=os.urandom(64)), timeout=30)
                except grpc.RpcError as error:
                    failure = rpc.as_error(error, "")
                    told.append(
                        failure.reason
                        if isinstance(failure, RefusedError)
                        else f"{error.code()} {error.details()}"
                    )

    callers = [threading.Thread(target=call) for _ in range(threads)]
    for caller in callers:
        caller.start()
    try:
        yield told
    finally:
        over.set()
        for caller in callers:
            caller.join()
