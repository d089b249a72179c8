"""The pages of the applications on this machine's loopback, for a browser: they lie in networks of their own.

The sockets are made before the process moves into its isolation, so they stay where a browser is; what comes to them
is handed on to the application inside its pod, past no sidecar.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plot import Store

# application, the port that the original demo forwarded
PAGES = {
    "bookbuyer": 8080,
    "bookthief": 8083,
    "bookstore-v1": 8084,
    "bookstore-v2": 8082,
    "bookwarehouse": 8085,
}
_LATER = b"<!doctype html><meta http-equiv=refresh content=2><title>not there yet</title><p>not there yet"


class Pages:
    """Listens at once; serves from serve() on. Where a port is taken, another one is used."""

    def __init__(self) -> None:
        self._sockets = {application: self._listen(port) for application, port in PAGES.items()}

    @staticmethod
    def _listen(port: int) -> socket.socket:
        for wanted in (port, 0):
            listening = socket.socket()
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                listening.bind(("127.0.0.1", wanted))
                listening.listen(16)
                return listening
            listening.close()
        raise RuntimeError("no port of 127.0.0.1 is free")

    def addresses(self) -> dict[str, str]:
        """Application -> URL."""
        return {
            application: f"http://127.0.0.1:{listening.getsockname()[1]}/"
            for application, listening in self._sockets.items()
        }

    def serve(self, store: Store, port: int) -> None:
        """Hands connections on to this port of the pods, until the process ends."""
        for application, listening in self._sockets.items():
            threading.Thread(target=self._accept, args=(store, application, listening, port), daemon=True).start()

    def _accept(self, store: Store, application: str, listening: socket.socket, port: int) -> None:
        while True:
            connection, _ = listening.accept()
            threading.Thread(target=self._hand_on, args=(store, application, connection, port), daemon=True).start()

    @staticmethod
    def _hand_on(store: Store, application: str, connection: socket.socket, port: int) -> None:
        with connection, contextlib.suppress(OSError):
            found = store.pod(application)
            if not found or not found.started:
                connection.recv(65536)
                head = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-type: text/html\r\n"
                connection.sendall(head + b"content-length: %d\r\n\r\n" % len(_LATER) + _LATER)
                return
            with found.netns.socket() as inside, selectors.DefaultSelector() as both:
                inside.connect(("127.0.0.1", port))
                both.register(connection, selectors.EVENT_READ, inside)
                both.register(inside, selectors.EVENT_READ, connection)
                while True:
                    for key, _ in both.select():
                        assert isinstance(key.fileobj, socket.socket)
                        piece = key.fileobj.recv(65536)
                        if not piece:
                            return
                        key.data.sendall(piece)
