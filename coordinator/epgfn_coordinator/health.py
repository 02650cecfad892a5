"""`health`: asks the serving coordinator over mutual TLS whether it serves; for a container's health check."""

from __future__ import annotations

from dataclasses import replace

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from epgfn import rpc
from epgfn.base.addresses import parse_listening
from epgfn.base.errors import EpgfnError
from epgfn.base.files import read_bytes, read_secret
from epgfn.rpc.diagnosis import Target, diagnose
from epgfn.rpc.hello import Identity
from epgfn_coordinator.home import Config, Home
from epgfn_coordinator.keys import HEALTH_CERTIFICATE, HEALTH_KEY

TIMEOUT = 5.0  # seconds


def require_healthy(home: Home) -> str:
    """The address that answers "serving".

    Raises:
        EpgfnError: nothing answers there, or it is not serving.
    """
    home.require()
    config = Config.load(home.config)
    address = parse_listening(config.effective_address or config.address)
    if address.is_wildcard:
        # Whatever it listens on, it is on this machine, and its certificate names localhost.
        address = replace(address, host="127.0.0.1")
    own = Identity(read_secret(home.key(HEALTH_KEY)), read_bytes(home.key(HEALTH_CERTIFICATE), "certificate"))
    target = Target(address, read_bytes(home.ca, "certificate"), own, direct=True)
    credentials = rpc.channel_credentials(target.ca_pem, own.key_pem, own.certificate_pem)
    with rpc.open_channel(target.address, credentials, direct=True) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=TIMEOUT
            )
        except grpc.RpcError as error:
            raise diagnose(target).error or rpc.as_error(error, str(address)) from None
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        raise EpgfnError(f"the coordinator at {address} answers but does not serve; look at its log")
    return str(address)
