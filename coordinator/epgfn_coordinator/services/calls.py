"""What every handler shares: who calls, and how a call ends when it cannot be answered."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, TypeVar

import grpc

from epgfn import rpc
from epgfn.base.errors import EpgfnError, NoRoomError, RefusedError
from epgfn_coordinator.counting import count_ended
from epgfn_coordinator.journal import LOG, caused_by

Response = TypeVar("Response")
NO_SPACE = "the coordinator has no room for this now (disk full?); tell its operator, then run the same command again"


class CallError(RefusedError):
    """A refusal with a gRPC status other than FAILED_PRECONDITION."""

    def __init__(self, code: grpc.StatusCode, reason: str, message: str) -> None:
        super().__init__(reason, message)
        self.code = code


def guarded(method: Callable[[Any, Any, Any], Response]) -> Callable[[Any, Any, Any], Response]:
    """A handler whose errors reach the caller as a status with a reason, and never as text of ours it should not see."""

    @functools.wraps(method)
    def handler(service: Any, request: Any, context: grpc.ServicerContext) -> Response:
        try:
            return method(service, request, context)
        except Exception as error:
            failure = error
        # Outside the block above: grpc ends a call by raising a bare Exception, which must not be caught there.
        _end(context, failure, method.__qualname__)

    return handler


def guarded_stream(
    method: Callable[[Any, Any, Any], Iterator[Response]],
) -> Callable[[Any, Any, Any], Iterator[Response]]:
    """The same for a handler that streams its answer."""

    @functools.wraps(method)
    def handler(service: Any, request: Any, context: grpc.ServicerContext) -> Iterator[Response]:
        try:
            yield from method(service, request, context)
            return
        except Exception as error:
            failure = error
        _end(context, failure, method.__qualname__)

    return handler


def _end(context: grpc.ServicerContext, error: Exception, where: str) -> NoReturn:
    count_ended(error)
    if isinstance(error, CallError):
        rpc.abort(context, error.code, error.reason, str(error))
    if isinstance(error, RefusedError):
        rpc.abort_with(context, error)
    if isinstance(error, NoRoomError):
        LOG.error("no room: %s: %s", where, error, extra=caused_by(where))
        rpc.abort(context, grpc.StatusCode.RESOURCE_EXHAUSTED, "no-space", NO_SPACE)
    if isinstance(error, EpgfnError):
        # Our own trouble: the sentence is for our operator.
        LOG.error("call failed: %s: %s", where, error, extra=caused_by(where))
    elif not context.is_active():
        LOG.info("call ended by the caller: %s", where, extra=caused_by(where))
    else:
        # Its text may quote what was sent, so only the type is logged.
        LOG.error("unexpected %s in %s", type(error).__name__, where, extra=caused_by(where))
    rpc.abort(
        context,
        grpc.StatusCode.INTERNAL,
        "internal",
        "the coordinator cannot do this now and its log says why; tell its operator, then try again",
    )
