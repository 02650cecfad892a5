"""What both ends of a call share: credentials, limits, and errors that say what happened and what to do.

Every channel is TLS with P-256 certificates; there is no plaintext variant to fall back to. gRPC's own words are never shown and
never read: a status tells what the coordinator said, and why nobody said anything is found out by `diagnosis`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final, NoReturn

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # before gRPC is loaded: its log lines are not for users

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from epgfn.base.addresses import Address
from epgfn.base.errors import EpgfnError, RefusedError, WaitingError
from epgfn.rpc.proxies import channel_options, proxy_for

MAX_PIECE: Final = 1 << 20  # bytes of data in one streamed message; the default message limit of 4 MiB stays
PIECE: Final = 256 << 10
UNARY_DEADLINE: Final = 30.0  # seconds
ENROLLMENT_LABEL: Final = b"epgfn enrollment v1\n"
ERROR_DOMAIN: Final = "epgfn"
WAITING_REASONS: Final = (
    "not-published",
    "aggregating",
    "waiting",
    "checking",
    "restored",
)  # a "not yet": the same call again later

SERVER_OPTIONS: Final = [
    ("grpc.so_reuseport", 0),  # a second server on the port must fail, not share it
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
]
CHANNEL_OPTIONS: Final = [
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.enable_retries", 0),  # retried by hand, only where a call is idempotent
    ("grpc.min_reconnect_backoff_ms", 10_000),  # how long connecting may take, TLS included
]


def server_credentials(
    key_pem: bytes, certificate_pem: bytes, ca_pem: bytes | None
) -> grpc.ServerCredentials:
    """TLS for a server; with `ca_pem` every client must hold a certificate of that authority (mTLS)."""
    return grpc.ssl_server_credentials(
        [(key_pem, certificate_pem)], root_certificates=ca_pem, require_client_auth=ca_pem is not None
    )


def changing_server_credentials(
    read: Callable[[], tuple[bytes, bytes, bytes | None]], *, with_clients: bool
) -> grpc.ServerCredentials:
    """The same for a server whose certificates change while it serves: `read` gives key, certificate and authority of now, and is asked at
    every connection. `with_clients`: every client must hold a certificate of that authority."""
    shown = read()

    def configuration(key_pem: bytes, certificate_pem: bytes, ca_pem: bytes | None) -> Any:
        return grpc.ssl_server_certificate_configuration(
            [(key_pem, certificate_pem)], root_certificates=ca_pem
        )

    def fetch() -> Any:
        nonlocal shown
        now = read()
        if now == shown:
            return None  # no change
        shown = now
        return configuration(*now)

    return grpc.dynamic_ssl_server_credentials(
        configuration(*shown), fetch, require_client_authentication=with_clients
    )


def channel_credentials(
    ca_pem: bytes, key_pem: bytes | None = None, certificate_pem: bytes | None = None
) -> grpc.ChannelCredentials:
    """TLS for a client that trusts `ca_pem` only; with key and certificate it identifies itself (mTLS)."""
    return grpc.ssl_channel_credentials(
        root_certificates=ca_pem, private_key=key_pem, certificate_chain=certificate_pem
    )


def open_channel(
    address: Address,
    credentials: grpc.ChannelCredentials,
    options: list[tuple[str, Any]] | None = None,
    *,
    direct: bool = False,
) -> grpc.Channel:
    """A channel to `address`, through the proxy of the environment if there is one for it and it is not to be `direct`.

    Raises:
        UsageError: the environment names a proxy that is none.
    """
    proxied = channel_options(None if direct else proxy_for(address))
    return grpc.secure_channel(
        str(address), credentials, options=[*CHANNEL_OPTIONS, *proxied, *(options or [])]
    )


def abort(context: grpc.ServicerContext, code: grpc.StatusCode, reason: str, sentence: str) -> NoReturn:
    """End a call with a google.rpc.Status: a sentence for people, a stable `reason` for programs."""
    status = status_pb2.Status(code=code.value[0], message=sentence)
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, domain=ERROR_DOMAIN))
    context.abort_with_status(rpc_status.to_status(status))
    raise AssertionError("abort_with_status returns never")


def abort_with(context: grpc.ServicerContext, error: EpgfnError) -> NoReturn:
    """`abort` with the sentence of `error`; a refusal is FAILED_PRECONDITION, anything else INTERNAL."""
    if isinstance(error, RefusedError):
        abort(context, grpc.StatusCode.FAILED_PRECONDITION, error.reason, str(error))
    abort(context, grpc.StatusCode.INTERNAL, "internal", str(error))


def as_error(error: grpc.RpcError, address: str) -> EpgfnError:
    """What a failed call to `address` says by its status alone; a `RefusedError` where the server gave a reason, a
    `WaitingError` where that may pass."""
    call: Any = error  # grpc's client errors are also calls; its types do not say so
    if (given := _given(call)) is not None:
        return given
    if call.code() == grpc.StatusCode.UNAVAILABLE:
        return EpgfnError(
            f"the connection to the coordinator at {address} broke off; run again, and tell its operator if it keeps breaking"
        )
    if call.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
        return EpgfnError(
            f"the coordinator at {address} did not answer in time; run again, and tell its operator if it persists"
        )
    return EpgfnError(
        f"the call to the coordinator at {address} failed ({call.code().name.lower()}); run again, and tell its operator if it persists"
    )


def _given(call: Any) -> RefusedError | None:
    """The refusal with a reason that came with a failed call; None if none came, or none that can be read."""
    try:
        status = rpc_status.from_call(call)
        for detail in status.details if status is not None else ():
            info = error_details_pb2.ErrorInfo()
            if detail.Unpack(info) and info.domain == ERROR_DOMAIN and status is not None:
                kind = WaitingError if info.reason in WAITING_REASONS else RefusedError
                return kind(info.reason, status.message)
    except (ValueError, DecodeError):
        # Details that contradict the call's own status, or are no message: whoever sent them says nothing that counts.
        return None
    return None


def is_transient(error: grpc.RpcError) -> bool:
    """Whether an idempotent call may simply be made again."""
    call: Any = error
    return call.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
