"""Requests from inside a pod: the real curl, whose exit codes are the faces of a blocked call, and a fast
keep-alive client for statistics and load."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from .net import APP_UID, Netns


@dataclasses.dataclass
class Reply:
    """What curl saw: its exit code (0: an HTTP response came), and the response."""

    exit: int
    status: int = 0
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    body: str = ""
    error: str = ""

    @property
    def face(self) -> str:
        """`200`, `403`, `exit 7`: the outcome in a word."""
        return str(self.status) if self.exit == 0 else f"exit {self.exit}"

    def __str__(self) -> str:
        return f"{self.face} {self.error or self.body[:80]!r}"


def curl(
    netns: Netns,
    url: str,
    *,
    method: str = "GET",
    headers: dict[str, str] | None = None,
    body: str | None = None,
    timeout: float = 10.0,
    uid: int = APP_UID,
    extra: tuple[str, ...] = (),
) -> Reply:
    """One request by the real curl, in a pod, under the application's uid."""
    command = ["curl", "-sS", "-i", "--max-time", str(timeout), "-X", method, *extra]
    for key, value in (headers or {}).items():
        command += ["-H", f"{key}: {value}"]
    if body is not None:
        command += ["--data-binary", body]
    done = subprocess.run(netns.command(uid, *command, url), capture_output=True, check=False, timeout=timeout + 10)
    error = done.stderr.decode(errors="replace").strip()
    if done.returncode != 0:
        return Reply(done.returncode, error=error)
    head, _, rest = done.stdout.partition(b"\r\n\r\n")
    while head.split(b" ", 2)[1:2] == [b"100"]:
        head, _, rest = rest.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    got = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
    return Reply(0, int(first.split(" ")[1]), got, rest.decode(errors="replace"))


class Connection:
    """A keep-alive HTTP/1.1 connection from a pod's network, resolved by the caller's table, not by DNS."""

    def __init__(self, netns: Netns, address: str, port: int, host: str, timeout: float = 10.0) -> None:
        self._where = (netns, address, port, timeout)
        self._host = host
        self._socket: socket.socket | None = None
        self._buffer = b""

    def _open(self) -> socket.socket:
        if self._socket is None:
            netns, address, port, timeout = self._where
            self._socket = netns.socket()
            self._socket.settimeout(timeout)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                self._socket.connect((address, port))
            except OSError:
                self.close()
                raise
            self._buffer = b""
        return self._socket

    def get(self, path: str, headers: dict[str, str] | None = None) -> tuple[int, dict[str, str], bytes]:
        """(status, headers, body). OSError when there is no response."""
        return self.pipeline([path], headers)[0]

    def pipeline(
        self, paths: list[str], headers: dict[str, str] | None = None
    ) -> list[tuple[int, dict[str, str], bytes]]:
        """Several requests in one go; the responses in order."""
        connection = self._open()
        extra = "".join(f"{k}: {v}\r\n" for k, v in (headers or {}).items())
        try:
            connection.sendall(
                "".join(f"GET {p} HTTP/1.1\r\nhost: {self._host}\r\n{extra}\r\n" for p in paths).encode()
            )
            return [self._response(connection) for _ in paths]
        except OSError:
            self.close()
            raise

    def _response(self, connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
        while b"\r\n\r\n" not in self._buffer:
            self._more(connection)
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
        if headers.get("transfer-encoding") == "chunked":
            body = self._chunks(connection)
        else:
            body = self._take(connection, int(headers.get("content-length", "0")))
        if headers.get("connection") == "close":
            self.close()
        return int(first.split(" ")[1]), headers, body

    def _take(self, connection: socket.socket, length: int) -> bytes:
        while len(self._buffer) < length:
            self._more(connection)
        taken, self._buffer = self._buffer[:length], self._buffer[length:]
        return taken

    def _chunks(self, connection: socket.socket) -> bytes:
        pieces = []
        while True:
            while b"\r\n" not in self._buffer:
                self._more(connection)
            size, _, self._buffer = self._buffer.partition(b"\r\n")
            piece = self._take(connection, int(size, 16) + 2)[:-2]
            if not piece:
                return b"".join(pieces)
            pieces.append(piece)

    def _more(self, connection: socket.socket) -> None:
        chunk = connection.recv(1 << 18)
        if not chunk:
            raise ConnectionError("closed before the response")
        self._buffer += chunk

    def close(self) -> None:
        """Drops the connection; the next request makes a new one."""
        if self._socket:
            self._socket.close()
            self._socket = None
        self._buffer = b""


def split_url(url: str) -> tuple[str, int, str, str]:
    """(host, port, Host header, path) of an http URL."""
    parts = urlsplit(url)
    assert parts.scheme == "http" and parts.hostname, url
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return parts.hostname, parts.port or 80, parts.netloc, path


def tally(netns: Netns, address: str, url: str, n: int, batch: int = 20) -> collections.Counter[str]:
    """Makes n requests and counts the answering pods; other statuses than 200 are counted as `status N`."""
    _, port, host, path = split_url(url)
    connection = Connection(netns, address, port, host)
    seen: collections.Counter[str] = collections.Counter()
    try:
        while n > 0:
            paths = [path] * min(batch, n)
            n -= len(paths)
            for status, headers, _ in connection.pipeline(paths):
                seen[headers.get("pod", "?") if status == 200 else f"status {status}"] += 1
    finally:
        connection.close()
    return seen


class Load:
    """Requests in the background at a steady rate, each on a fresh connection, until stopped; everything but a 200
    is kept."""

    def __init__(self, netns: Netns, address: Callable[[], str], url: str, rate: float) -> None:
        _, self._port, self._host, self._path = split_url(url)
        self._netns, self._address, self._rate = netns, address, rate
        self.sent = 0
        self.pods: collections.Counter[str] = collections.Counter()
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)
        self._start = time.monotonic()
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(max(0.0, self._start + self.sent / self._rate - time.monotonic())):
            self.sent += 1
            connection = Connection(self._netns, self._address(), self._port, self._host)
            at = time.monotonic() - self._start
            try:
                status, headers, body = connection.get(self._path)
                self.pods[headers.get("pod", "?")] += 1
                if status != 200:
                    self.failures.append(f"{at:.2f} s: {status} {body[:60]!r}")
            except OSError as error:
                self.failures.append(f"{at:.2f} s: {type(error).__name__}: {error}")
            finally:
                with contextlib.suppress(OSError):
                    connection.close()

    def stop(self) -> Load:
        """Ends the load; the figures stand."""
        self._stop.set()
        self._thread.join()
        return self
