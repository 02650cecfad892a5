"""The gate before a gRPC server: accepts connections, bounds them, and passes their bytes on unread. TLS goes through it from end to end.

gRPC takes every connection there is, until the process has no descriptor left to write its state with. So it listens on a socket of
this machine alone, and a thread here does the accepting. What a connection may not do: stay without a first byte for `HELLO` seconds
(gRPC itself ends a handshake that takes longer), stay a stranger for `STRANGER`, or be silent for `IDLE` (clients of ours ping twice in
that time). A stranger is a connection over which no call has been made that named a node. How many there may be: `guests`.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import selectors
import socket
import struct
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Final

from epgfn_coordinator.descriptors import SPENT
from epgfn_coordinator.guests import Bounds, Guests, origin
from epgfn_coordinator.journal import LOG, caused_by

HELLO: Final = 10.0  # seconds to the first byte
STRANGER: Final = 30.0  # seconds to the first call that names a node
IDLE: Final = 60.0  # seconds without a byte in either direction
REST: Final = 0.2  # seconds without accepting where the system has no descriptor left
TELL_EVERY: Final = 60.0
_LOOK_EVERY: Final = 0.5
_AT_ONCE: Final = 64  # connections accepted before others get their turn
_PIECE: Final = 1 << 18
_ABRUPTLY: Final = struct.pack(
    "ii", 1, 0
)  # SO_LINGER: nothing is left behind of a connection that is thrown out


@dataclass(frozen=True)
class Patience:
    """Seconds, see above."""

    hello: float = HELLO
    stranger: float = STRANGER
    idle: float = IDLE


class _Half:
    """One of the two sockets of a connection, and what waits to be written to it."""

    __slots__ = ("asked", "other", "owner", "socket", "waiting")

    def __init__(self, owner: _Connection, connection: socket.socket) -> None:
        self.owner, self.socket = owner, connection
        self.waiting: memoryview = memoryview(b"")
        self.asked = 0  # what the selector is asked to watch for
        self.other: _Half | None = None


class _Connection:
    """A connection from outside, with the one to gRPC as soon as it has said something."""

    __slots__ = ("came", "inner", "moved", "name", "number", "outer")

    def __init__(self, number: int, outer: socket.socket, now: float) -> None:
        self.number, self.came, self.moved = number, now, now
        self.outer = _Half(self, outer)
        self.inner: _Half | None = None
        self.name = ""


class Gate:
    """Passes connections to `listening` on to the socket `inner` of this machine. Methods may be called from any thread."""

    def __init__(
        self,
        what: str,
        listening: list[socket.socket],
        inner: str,
        bounds: Bounds,
        patience: Patience | None = None,
    ) -> None:
        """`what`: the name of the port in the log; `inner`: the path of a Unix socket."""
        self._what, self._listening, self._inner = what, listening, inner
        self._patience = patience or Patience()
        self._guests = Guests(bounds)
        self._connections: dict[int, _Connection] = {}
        self._numbers = itertools.count()
        self._named: dict[str, int] = {}
        self._recognised: deque[tuple[int, str]] = deque()
        self._selector = selectors.DefaultSelector()
        self._piece = memoryview(bytearray(_PIECE))
        self._prefix = f"epgfn-{os.getpid()}-{os.urandom(8).hex()}"
        self._accepting = self._ending = False
        self._rests_until = self._told = self._looked = 0.0
        self._turned_away: dict[str, int] = {}
        self._wake_in, self._wake_out = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name=f"gate {what}", daemon=True)

    def start(self) -> None:
        """Accept connections from now on."""
        for end in (self._wake_in, self._wake_out):
            end.setblocking(False)
        self._selector.register(self._wake_in, selectors.EVENT_READ, None)
        for each in self._listening:
            each.setblocking(False)
        self._accept_again()
        self._thread.start()

    def recognise(self, peer: str, node_id: str) -> None:
        """A call has come from the node `node_id`; `peer` is what gRPC calls the other end of its connection."""
        number = self._named.get(peer.rpartition(":")[2].rpartition("/")[2])
        if number is not None and self._guests.is_stranger(number):
            self._recognised.append((number, node_id))
            self._wake()

    def stop_accepting(self) -> None:
        """Nobody new."""
        self._ending = True
        self._wake()

    def close(self) -> None:
        """Nobody at all."""
        self._ending = True
        with contextlib.suppress(OSError):
            self._wake_out.close()
        if self._thread.is_alive():
            self._thread.join(10)
        for each in [*self._listening, self._wake_in]:
            each.close()

    @property
    def count(self) -> int:
        """Connections that are open."""
        return len(self._connections)

    def _wake(self) -> None:
        with contextlib.suppress(OSError):
            self._wake_out.send(b"\0")

    def _run(self) -> None:
        while True:
            for key, events in self._selector.select(_LOOK_EVERY):
                if key.data is None:
                    with contextlib.suppress(BlockingIOError):
                        if not self._wake_in.recv(4096):
                            self._end()
                            return
                elif isinstance(key.data, _Half):
                    self._guarded(key.data, events)
                elif self._accepting:
                    self._accept(key.data)
            self._look_around()

    def _guarded(self, half: _Half, events: int) -> None:
        """What one connection does, whatever happens, is nothing to the others."""
        if not half.asked:
            return  # closed in this very round
        try:
            if events & selectors.EVENT_WRITE:
                self._write(half)
            if events & selectors.EVENT_READ and half.asked:
                self._read(half)
        except Exception as error:
            if not isinstance(error, OSError):
                LOG.error(
                    "unexpected %s at the gate of the %s port",
                    type(error).__name__,
                    self._what,
                    extra=caused_by("gate"),
                )
            self._close(half.owner)

    # -- coming

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            try:
                outer, address = listening.accept()
            except OSError as error:
                if error.errno in SPENT:
                    self._rest()
                return
            self._admit(outer, origin(str(address[0])))

    def _admit(self, outer: socket.socket, origin: str) -> None:
        victim = self._guests.victim(origin)
        if victim is not None:
            self._turned_away[origin] = self._turned_away.get(origin, 0) + 1
            if victim < 0:
                _throw_out(outer)
                return
            self._close(self._connections[victim], abruptly=True)
        connection = _Connection(next(self._numbers), outer, time.monotonic())
        try:
            outer.setblocking(False)
            outer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._ask(connection.outer, selectors.EVENT_READ)
        except OSError:
            outer.close()
            return
        self._connections[connection.number] = connection
        self._guests.enter(connection.number, origin)

    def _rest(self) -> None:
        """No descriptor is left: one stranger goes, and nobody comes for a moment."""
        oldest = self._guests.oldest_stranger()
        if oldest is not None:
            self._close(self._connections[oldest], abruptly=True)
        self._rests_until = time.monotonic() + REST
        for each in self._listening:
            self._selector.unregister(each)
        self._accepting = False

    def _accept_again(self) -> None:
        for each in self._listening:
            self._selector.register(each, selectors.EVENT_READ, each)
        self._accepting = True

    def _pass_on(self, connection: _Connection) -> bool:
        """Connect it to gRPC; whether that was possible."""
        inner = socket.socket(socket.AF_UNIX)
        name = f"{self._prefix}-{connection.number}"
        try:
            inner.setblocking(False)
            if sys.platform == "linux":  # the name by which gRPC will know it
                inner.bind(f"\0{name}")
                inner.connect(self._inner)
            else:
                path = os.path.join(os.path.dirname(self._inner), name)
                inner.bind(path)
                try:
                    inner.connect(self._inner)
                finally:
                    os.unlink(path)
        except OSError:
            inner.close()
            return False
        connection.name, connection.inner = name, _Half(connection, inner)
        connection.inner.other, connection.outer.other = connection.outer, connection.inner
        self._named[name] = connection.number
        self._ask(connection.inner, selectors.EVENT_READ)
        return True

    # -- bytes

    def _read(self, half: _Half) -> None:
        if half.other is None and not self._pass_on(half.owner):
            self._close(half.owner)
            return
        other = half.other
        assert other is not None
        if other.waiting:
            return
        try:
            count = half.socket.recv_into(self._piece)
        except (BlockingIOError, InterruptedError):
            return
        half.owner.moved = time.monotonic()
        if not count:
            self._close(
                half.owner
            )  # whatever was read before has been written: reading stops where writing does
            return
        try:
            sent = other.socket.send(self._piece[:count])
        except (BlockingIOError, InterruptedError):
            sent = 0
        if sent < count:
            other.waiting = memoryview(bytes(self._piece[sent:count]))
            self._ask(half, half.asked & ~selectors.EVENT_READ)
            self._ask(other, other.asked | selectors.EVENT_WRITE)

    def _write(self, half: _Half) -> None:
        try:
            sent = half.socket.send(half.waiting)
        except (BlockingIOError, InterruptedError):
            return
        half.owner.moved = time.monotonic()
        half.waiting = half.waiting[sent:]
        if not half.waiting:
            other = half.other
            assert other is not None
            self._ask(half, half.asked & ~selectors.EVENT_WRITE)
            self._ask(other, other.asked | selectors.EVENT_READ)

    def _ask(self, half: _Half, events: int) -> None:
        """Have the selector watch for `events` on it, which may be none."""
        if half.asked == events:
            return
        if not half.asked:
            self._selector.register(half.socket, events, half)
        elif not events:
            self._selector.unregister(half.socket)
        else:
            self._selector.modify(half.socket, events, half)
        half.asked = events

    # -- going

    def _close(self, connection: _Connection, *, abruptly: bool = False) -> None:
        if self._connections.pop(connection.number, None) is None:
            return
        self._guests.leave(connection.number)
        self._named.pop(connection.name, None)
        for half in filter(None, (connection.outer, connection.inner)):
            with contextlib.suppress(OSError, KeyError, ValueError):
                self._ask(half, 0)
            half.asked = 0
            if abruptly and half is connection.outer:
                _throw_out(half.socket)
            else:
                half.socket.close()

    def _look_around(self) -> None:
        while self._recognised:
            number, node_id = self._recognised.popleft()
            older = self._guests.recognise(number, node_id)
            if older is not None:
                self._close(self._connections[older], abruptly=True)
        if self._ending and self._accepting:
            for each in self._listening:
                self._selector.unregister(each)
                each.close()
            self._accepting = False
        now = time.monotonic()
        if now - self._looked < _LOOK_EVERY:
            return
        self._looked = now
        if not self._accepting and not self._ending and now >= self._rests_until:
            self._accept_again()
        for connection in [each for each in self._connections.values() if self._is_over(each, now)]:
            self._close(connection, abruptly=True)
        self._tell(now)

    def _is_over(self, connection: _Connection, now: float) -> bool:
        patience, came = self._patience, now - connection.came
        if connection.inner is None and came > patience.hello:
            return True
        if came > patience.stranger and self._guests.is_stranger(connection.number):
            return True
        return now - connection.moved > patience.idle

    def _tell(self, now: float) -> None:
        """A line a minute at most, however many were turned away."""
        if not self._turned_away or now - self._told < TELL_EVERY:
            return
        self._told = now
        most = max(self._turned_away, key=lambda each: self._turned_away[each])
        LOG.warning(
            "crowded: %d connections to the %s port were turned away or made room for others, most of them from %s",
            sum(self._turned_away.values()),
            self._what,
            most,
        )
        self._turned_away.clear()

    def _end(self) -> None:
        for connection in list(self._connections.values()):
            self._close(connection)
        self._selector.close()


def _throw_out(outer: socket.socket) -> None:
    with contextlib.suppress(OSError):
        outer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABRUPTLY)
    outer.close()
