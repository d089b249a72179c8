"""The applications of the pods, in one program without dependencies: `apps.py ROLE=PORT...`, several roles in one
process.

Roles: http (a subset of httpbin), bookstore, bookbuyer, bookthief, bookwarehouse (the bookstore demo), echo (TCP,
answers `echo response: <line>`, and its
pod's name to `who`), greeter (TCP, speaks first). All bind 0.0.0.0 unless BIND says otherwise.
Environment: POD_NAME, IDENTITY, BOOKSTORE (host:port), BOOKWAREHOUSE (host:port), LOOP_S (pause between two rounds
of a buyer), BUY_DELAY_MS (low-high).

Every HTTP role adds the header `pod`, and tells at /_/counters what reached it; questions under /_/ are not
counted.
"""

from __future__ import annotations

import asyncio
import base64
import collections
import contextlib
import hashlib
import html
import json
import os
import random
import sys
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


class HttpBin(HttpRole):
    """/get, /status/N, /headers, /delay/N, /anything..., and 200 for all other paths; tells the request back."""

    def serve(self, request: Request) -> Response | Awaitable[Response]:
        """Answers a request."""
        kind, _, value = request.path.lstrip("/").partition("/")
        about = {
            "method": request.method,
            "path": request.path,
            "host": request.headers.get("host", ""),
            "headers": request.headers,
            "pod": POD,
        }
        if kind == "status" and value.isdigit() and 200 <= int(value) <= 599:
            return Response(int(value))
        if kind == "delay":
            with contextlib.suppress(ValueError):
                return self._later(min(float(value), 60.0), about)
        return Response(body=about)

    @staticmethod
    async def _later(seconds: float, about: dict) -> Response:
        await asyncio.sleep(seconds)
        return Response(body=about)


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


def _place(variable: str) -> tuple[str, int]:
    host, _, port = os.environ[variable].partition(":")
    return host, int(port)


class Bookstore(HttpRole):
    """Sells books, and tells the warehouse how many to restock."""

    def __init__(self) -> None:
        super().__init__()
        self.sold = 0
        self._to_restock = asyncio.Event()
        self._owed = 0
        low, _, high = os.environ.get("BUY_DELAY_MS", "150-750").partition("-")
        self._delay = (int(low), int(high or low))

    def serve(self, request: Request) -> Response | Awaitable[Response]:
        """Answers a request."""
        if request.path == "/buy-a-book/new" and request.method == "GET":
            return self._sell()
        if request.path == "/books-bought":
            if request.method == "POST":
                with contextlib.suppress(ValueError):
                    self.sold = int(request.body)
            return self._answer({"booksSold": self.sold})
        if request.path == "/raw":
            return self._answer({"booksSold": self.sold})
        if request.path == "/reset":
            self.sold = 0
            return self._answer({"booksSold": 0})
        if request.path in ("/liveness", "/readiness", "/startup"):
            return self._answer({})
        if request.path == "/":
            name = html.escape(os.environ.get("IDENTITY", POD))
            return self._answer(f"<!doctype html><title>{name}</title><h1>{name}</h1><p>books sold: {self.sold}</p>")
        return Response(404)

    def _answer(self, body: dict | str) -> Response:
        return Response(200, body, {"identity": os.environ.get("IDENTITY", POD), "booksbought": str(self.sold)})

    async def _sell(self) -> Response:
        if self._delay[1]:
            await asyncio.sleep(random.uniform(*self._delay) / 1000)
        self.sold += 1
        self._owed += 1
        self._to_restock.set()
        return self._answer({"booksSold": self.sold})

    async def run(self) -> None:
        """Restocks, as often as the warehouse answers."""
        if "BOOKWAREHOUSE" not in os.environ:
            return
        client = HttpClient(*_place("BOOKWAREHOUSE"))
        while True:
            await self._to_restock.wait()
            self._to_restock.clear()
            owed, self._owed = self._owed, 0
            try:
                good = (await client.request("POST", "/restock-books", body=str(owed).encode())).status == 200
            except (TimeoutError, OSError):
                good = False
            if not good:
                self._owed += owed
                await asyncio.sleep(0.2)


class Bookwarehouse(HttpRole):
    """Counts what is restocked."""

    def __init__(self) -> None:
        super().__init__()
        self.restocked = 0

    def serve(self, request: Request) -> Response:
        """Answers a request."""
        if request.path in ("/", "/restock-books") and request.method == "POST":
            try:
                self.restocked += int(request.body)
            except ValueError:
                return Response(400, "the body is not a number")
            return Response(body={"restocked": self.restocked})
        if request.path == "/raw":
            return Response(body={"restocked": self.restocked})
        return Response(404)


class Buyer(HttpRole):
    """Buys (or steals) books in a loop, and counts where they came from."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self._what = what  # "Bought" or "Stolen"
        self.total = 0
        self.by_version: collections.Counter[str] = collections.Counter()
        self.failed = 0
        self.last = ""

    def serve(self, request: Request) -> Response:
        """Answers a request."""
        if request.path in ("/raw", "/"):
            name = "books" + self._what
            return Response(
                body={
                    name: self.total,
                    name + "V1": self.by_version["v1"],
                    name + "V2": self.by_version["v2"],
                    "failed": self.failed,
                    "last": self.last,
                }
            )
        if request.path == "/reset":
            self.total = self.failed = 0
            self.by_version.clear()
            return Response(body={})
        return Response(404)

    async def run(self) -> None:
        """Buys for ever."""
        await asyncio.gather(*(self._buy() for _ in range(int(os.environ.get("CLIENTS", "1")))))

    async def _buy(self) -> None:
        pause = float(os.environ.get("LOOP_S", "1"))
        client = HttpClient(*_place("BOOKSTORE"))
        headers = {"client-app": "bookbuyer", "user-agent": "Go-http-client/1.1"}
        while True:
            try:
                looked = await client.request("GET", "/books-bought", headers)
                bought = await client.request("GET", "/buy-a-book/new", headers) if looked.status == 200 else looked
                self.last = str(bought.status)
                if bought.status == 200:
                    self.total += 1
                    identity = bought.headers.get("identity", "")
                    self.by_version["v2" if identity.startswith("bookstore-v2") else "v1"] += 1
                else:
                    self.failed += 1
            except (TimeoutError, OSError) as error:
                self.failed += 1
                self.last = type(error).__name__
            await asyncio.sleep(pause)


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while line := await reader.readline():
            writer.write(POD.encode() + b"\n" if line == b"who\n" else b"echo response: " + line)
            await writer.drain()
        writer.close()


async def _greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        writer.write(b"hello from " + POD.encode() + b"\n")
        await writer.drain()
        await reader.read()
        writer.close()


HTTP_ROLES: dict[str, Callable[[], HttpRole]] = {
    "http": HttpBin,
    "bookstore": Bookstore,
    "bookwarehouse": Bookwarehouse,
    "bookbuyer": lambda: Buyer("Bought"),
    "bookthief": lambda: Buyer("Stolen"),
}
TCP_ROLES = {"echo": _echo, "greeter": _greet}


async def main(arguments: list[str]) -> None:
    """Starts the roles and says `ready` on standard output."""
    loop = asyncio.get_running_loop()
    bind = os.environ.get("BIND", "0.0.0.0")
    jobs = []
    for argument in arguments:
        name, _, port = argument.partition("=")
        if name in TCP_ROLES:
            await asyncio.start_server(TCP_ROLES[name], bind, int(port))
            continue
        role = HTTP_ROLES[name]()
        await loop.create_server(lambda role=role: HttpConnection(role), bind, int(port), backlog=1024)
        jobs.append(loop.create_task(role.run()))
    print("ready", flush=True)
    await asyncio.gather(*jobs)  # a role that fails ends the program with its traceback
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
