"""HTTP as a test needs it: plain requests, and bytes on a socket where a client would be too polite."""

from __future__ import annotations

import contextlib
import http.client
import json
import select
import socket
from typing import Any


class Answer:
    """What came back."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    @property
    def text(self) -> str:
        """The body, which is UTF-8."""
        return self.body.decode()

    def json(self) -> Any:
        """The body, which is JSON and says so."""
        assert self.headers["content-type"] == "application/json", self.headers
        return json.loads(self.body)


def ask(address: str, path: str, method: str = "GET", timeout: float = 20.0, **headers: str) -> Answer:
    """One request on a connection of its own."""
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=timeout)
    with contextlib.closing(connection):
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())


def get(address: str, path: str) -> Answer:
    """GET, which must answer 200."""
    answer = ask(address, path)
    assert answer.status == 200, f"{path}: {answer.status} {answer.body[:200]!r}"
    return answer


def dial(address: str, receive_buffer: int = 0, timeout: float = 20.0) -> socket.socket:
    """A bare connection."""
    host, _, port = address.rpartition(":")
    made = socket.socket()
    if receive_buffer:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    made.settimeout(timeout)
    made.connect((host, int(port)))
    return made


def read_answer(connection: socket.socket) -> Answer:
    """The next answer on a connection; status 0 where the peer has hung up instead."""
    response = http.client.HTTPResponse(connection)
    try:
        response.begin()
    except (http.client.BadStatusLine, ConnectionResetError):
        return Answer(0, {}, b"")
    return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())


def is_refused(address: str) -> bool:
    """Whether nobody listens there."""
    try:
        dial(address, timeout=2.0).close()
    except ConnectionRefusedError:
        return True
    return False


def is_cut_within(connection: socket.socket, seconds: float) -> bool:
    """Whether the peer resets the connection in time, without a byte of it being read."""
    poll = select.poll()
    poll.register(connection, 0)  # errors and hang-ups are told whatever is asked for
    return bool(poll.poll(seconds * 1000))
