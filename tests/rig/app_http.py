"""HTTP/1.1 for the applications of the pods, server and client, without dependencies."""

from __future__ import annotations

import asyncio
import base64
import collections
import hashlib
import json
import os
from collections.abc import Awaitable, Callable

POD = os.environ.get("POD_NAME", "")
REASONS = {
    200: "OK",
    204: "No Content",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    503: "Service Unavailable",
}
MAX_BODY = 1 << 20


class Request:
    """One HTTP request."""

    __slots__ = ("body", "headers", "method", "path", "query")

    def __init__(self, method: str, target: str, headers: dict[str, str], body: bytes) -> None:
        self.method, self.headers, self.body = method, headers, body
        self.path, _, self.query = target.partition("?")


class Response:
    """One HTTP response."""

    __slots__ = ("body", "headers", "status")

    def __init__(
        self, status: int = 200, body: bytes | str | dict = b"", headers: dict[str, str] | None = None
    ) -> None:
        if isinstance(body, dict):
            body = json.dumps(body)
        self.status, self.headers = status, headers or {}
        self.body = body.encode() if isinstance(body, str) else body


Handler = Callable[[Request], "Response | Awaitable[Response]"]


class HttpConnection(asyncio.Protocol):
    """HTTP/1.1 with keep-alive; requests of one connection are answered in order."""

    def __init__(self, role: HttpRole) -> None:
        self._role = role
        self._buffer = b""
        self._busy: asyncio.Task | None = None
        self._upgraded = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: a client has connected."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the client has gone."""
        if self._busy:
            self._busy.cancel()

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes have come."""
        if self._upgraded:
            assert self._transport is not None
            self._transport.write(data)
            return
        self._buffer += data
        if not self._busy:
            self._work()

    def _work(self) -> None:
        assert self._transport is not None
        while not self._transport.is_closing():
            head, found, rest = self._buffer.partition(b"\r\n\r\n")
            if not found:
                if len(head) > 65536:
                    self._transport.close()
                return
            try:
                first, *lines = head.decode("latin-1").split("\r\n")
                method, target, _version = first.split(" ")
                headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
                length = int(headers.get("content-length", "0"))
            except ValueError:
                self._transport.close()
                return
            if length > MAX_BODY or "transfer-encoding" in headers:
                self._transport.close()
                return
            if len(rest) < length:
                return
            self._buffer = rest[length:]
            if headers.get("upgrade", "").lower() == "websocket":
                self._upgrade(headers.get("sec-websocket-key", ""))
                return
            answer = self._role.handle(Request(method, target, headers, rest[:length]))
            if not isinstance(answer, Response):
                self._busy = asyncio.ensure_future(self._finish(answer))
                return
            self._send(answer)

    def _upgrade(self, key: str) -> None:
        """Switches to websocket; from then on every byte comes back as it went."""
        assert self._transport is not None
        digest = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode(), usedforsecurity=False).digest()
        accept = base64.b64encode(digest).decode()
        lines = ["HTTP/1.1 101 Switching Protocols", "upgrade: websocket", "connection: Upgrade"]
        lines += [f"sec-websocket-accept: {accept}", f"pod: {POD}", "", ""]
        self._transport.write("\r\n".join(lines).encode())
        self._upgraded = True

    async def _finish(self, answer: Awaitable[Response]) -> None:
        response = await answer
        self._busy = None
        self._send(response)
        self._work()

    def _send(self, response: Response) -> None:
        assert self._transport is not None
        lines = [f"HTTP/1.1 {response.status} {REASONS.get(response.status, 'Status')}"]
        lines += [f"{k}: {v}" for k, v in response.headers.items()]
        lines.append(f"pod: {POD}\r\ncontent-length: {len(response.body)}\r\n\r\n")
        if not self._transport.is_closing():
            self._transport.write("\r\n".join(lines).encode("latin-1") + response.body)


class HttpRole:
    """Base of the HTTP roles: counts, and answers questions about the counts."""

    def __init__(self) -> None:
        self.counts: collections.Counter[str] = collections.Counter()

    def handle(self, request: Request) -> Response | Awaitable[Response]:
        """Answers a request."""
        if request.path == "/_/counters":
            return Response(body={"total": sum(self.counts.values()), "paths": dict(self.counts)})
        self.counts[request.path] += 1
        return self.serve(request)

    def serve(self, request: Request) -> Response | Awaitable[Response]:
        """The role's own part."""
        raise NotImplementedError

    async def run(self) -> None:
        """What the role does by itself."""


class HttpClient:
    """One keep-alive connection to a service, made again when it breaks."""

    def __init__(self, host: str, port: int, timeout: float = 5.0) -> None:
        self._host, self._port, self._timeout = host, port, timeout
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def request(
        self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b""
    ) -> Response:
        """Sends one request. OSError when there is no answer."""
        try:
            return await asyncio.wait_for(self._request(method, path, headers or {}, body), self._timeout)
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
            self.close()
            raise ConnectionError(f"no answer: {error}") from None
        except (TimeoutError, OSError):
            self.close()
            raise

    async def _request(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Response:
        if not self._streams:
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        lines = [f"{method} {path} HTTP/1.1", f"host: {self._host}:{self._port}", f"content-length: {len(body)}"]
        lines += [f"{k}: {v}" for k, v in headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *rest = head.strip().split("\r\n")
        got = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in rest)}
        response = Response(int(first.split(" ")[1]), headers=got)
        response.body = await reader.readexactly(int(got.get("content-length", "0")))
        if got.get("connection") == "close":
            self.close()
        return response

    def close(self) -> None:
        """Drops the connection; the next request makes a new one."""
        if self._streams:
            self._streams[1].close()
            self._streams = None
