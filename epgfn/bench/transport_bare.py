"""What `epgfn bench transport` compares with: a gRPC server over the same mTLS that takes the same stream and only counts its bytes.

python -m epgfn.bench.transport_bare KEY CERTIFICATE CA prints its address and serves until it is ended.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

from epgfn import rpc
from epgfn.v1 import artifact_pb2, artifact_pb2_grpc


class Counter(artifact_pb2_grpc.ArtifactServiceServicer):
    """Takes an upload and keeps nothing."""

    def Upload(self, pieces: Iterable[Any], context: grpc.ServicerContext) -> Any:
        """How many bytes there were."""
        return artifact_pb2.UploadResponse(offset=sum(len(piece.data) for piece in pieces))


def main(key: str, certificate: str, ca: str) -> None:
    """Serve on a free port of loopback."""
    server = grpc.server(ThreadPoolExecutor(4), options=rpc.SERVER_OPTIONS)
    artifact_pb2_grpc.add_ArtifactServiceServicer_to_server(Counter(), server)  # type: ignore[no-untyped-call]
    credentials = rpc.server_credentials(*(Path(path).read_bytes() for path in (key, certificate, ca)))
    print(f"127.0.0.1:{server.add_secure_port('127.0.0.1:0', credentials)}", flush=True)
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main(*sys.argv[1:4])
