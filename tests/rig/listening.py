"""Servers of a test's own inside a pod's network, on threads of the test."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable

from .pod import Pod


class Listener:
    """Hands each connection to a function, on a thread of its own, until close(). An OSError in there is the client's
    business."""

    def __init__(self, pod: Pod, port: int, serve: Callable[[socket.socket], None], address: str = "0.0.0.0") -> None:
        self._serve = serve
        self._socket = pod.netns.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((address, port))
        self._socket.listen(8)
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._handle, args=(connection,), daemon=True).start()

    def _handle(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            self._serve(connection)

    def close(self) -> None:
        """Takes no more connections."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()
