"""gRPC in a pod, by grpcio, for what only real HTTP/2 shows. A program of its own: it must not share a process with the
tests, which are outside of the pod's network.

    grpc_app.py serve PORT [CHAIN KEY]      every method of every service echoes; says "ready"
    grpc_app.py authorize PORT WORD         Envoy's external authorization: lets through what has WORD in it
    grpc_app.py call HOST:PORT METHOD TEXT [ROOTS]    one call; prints the answer, or the status and its details
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc

OK, DENIED = b"", bytes([0x0A, 2, 8, 7])  # CheckResponse: nothing, which is status 0; status.code 7


class _Anything(grpc.GenericRpcHandler):
    """One function for every method, over bytes."""

    def __init__(self, answer: Callable[[str, bytes], bytes]) -> None:
        self._answer = answer

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """grpcio: who handles this call."""
        method = handler_call_details.method
        return grpc.unary_unary_rpc_method_handler(lambda request, _: self._answer(method, request))


def _serve(port: str, answer: Callable[[str, bytes], bytes], *pair: str) -> None:
    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((_Anything(answer),))
    if pair:
        chain, key = (Path(name).read_bytes() for name in pair)
        server.add_secure_port(f"0.0.0.0:{port}", grpc.ssl_server_credentials([(key, chain)]))
    else:
        server.add_insecure_port(f"0.0.0.0:{port}")
    server.start()
    print("ready", flush=True)
    server.wait_for_termination()


def _call(target: str, method: str, text: str, roots: str = "") -> None:
    made = grpc.ssl_channel_credentials(Path(roots).read_bytes()) if roots else None
    with grpc.secure_channel(target, made) if made else grpc.insecure_channel(target) as channel:
        try:
            answer = channel.unary_unary(method)(text.encode(), timeout=10)
            print(answer.decode())
        except grpc.RpcError as error:
            print(f"{error.code().name}: {error.details()}")


def main(mode: str, *arguments: str) -> None:
    """See the file's head."""
    if mode == "serve":
        port, *pair = arguments
        _serve(port, lambda method, request: f"{method} {request.decode()}".encode(), *pair)
    elif mode == "authorize":
        port, word = arguments
        _serve(port, lambda _, request: OK if word.encode() in request else DENIED)
    else:
        _call(*arguments)


if __name__ == "__main__":
    main(*sys.argv[1:])
