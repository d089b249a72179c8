"""HTTP/2 by hand over TLS, for what no proper client would do: one connection to the discovery port, frame by frame."""

from __future__ import annotations

import socket
import ssl
import struct
from pathlib import Path

DATA, HEADERS, RST_STREAM, SETTINGS, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 7, 8, 9
END_HEADERS, ACK = 4, 1
INITIAL_WINDOW_SIZE = 4
SOTW = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
FRAME_MAX = 16384


def _literal(name: str, value: str) -> bytes:
    """One header field, in HPACK's plainest form."""

    def text(raw: bytes) -> bytes:
        n = len(raw)
        if n < 127:
            return bytes([n]) + raw
        rest, out = n - 127, bytearray([127])
        while rest >= 128:
            out.append(rest % 128 | 128)
            rest //= 128
        out.append(rest)
        return bytes(out) + raw

    return b"\0" + text(name.encode()) + text(value.encode())


class Connection:
    """A TLS connection with a proxy's certificate. `window`: what the server may send per stream before it is told
    that more is welcome."""

    def __init__(self, target: str, etc: Path, *, window: int = 65535, alpn: tuple[str, ...] = ("h2",)) -> None:
        host, _, port = target.rpartition(":")
        context = ssl.create_default_context(cafile=str(etc / "cacert.pem"))
        context.load_cert_chain(etc / "sds_cert.pem", etc / "sds_key.pem")
        if alpn:
            context.set_alpn_protocols(list(alpn))
        raw = socket.create_connection((host, int(port)), timeout=10)
        try:
            self.tls = context.wrap_socket(raw, server_hostname="ads.cluster.local")
        except BaseException:
            raw.close()
            raise
        self._window, self._next = window, 1

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.tls.close()

    def frame(self, kind: int, payload: bytes = b"", *, stream: int = 0, flags: int = 0) -> None:
        """Sends one frame."""
        self.tls.sendall(
            struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload
        )

    def greet(self) -> None:
        """The preface and our settings."""
        self.tls.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        self.frame(SETTINGS, struct.pack(">HI", INITIAL_WINDOW_SIZE, self._window))
        self.frame(SETTINGS, flags=ACK)

    def open(self, *extra: tuple[str, str]) -> int:
        """Opens a stream of the state of the world; its number."""
        stream, self._next = self._next, self._next + 2
        fields = [
            (":method", "POST"),
            (":scheme", "https"),
            (":path", SOTW),
            (":authority", "ads.cluster.local"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            *extra,
        ]
        block = b"".join(_literal(name, value) for name, value in fields)
        parts = [block[at : at + FRAME_MAX] for at in range(0, len(block), FRAME_MAX)]
        for n, part in enumerate(parts):
            last = END_HEADERS if n == len(parts) - 1 else 0
            self.frame(CONTINUATION if n else HEADERS, part, stream=stream, flags=last)
        return stream

    def message(self, stream: int, body: bytes, *, sent: int | None = None) -> None:
        """A gRPC message; with `sent`, only so many bytes of it."""
        whole = b"\0" + struct.pack(">I", len(body)) + body
        self.frame(DATA, whole if sent is None else whole[:sent], stream=stream)

    def closed(self) -> bool:
        """Reads until the server has nothing more to say; whether it has closed the connection."""
        try:
            while self.tls.recv(65536):
                pass
        except TimeoutError:
            return False
        except OSError:
            return True
        return True
