"""The applications of the pods, one program without dependencies: `apps.py ROLE=PORT...`, several roles in one process.

Roles: http (a subset of httpbin), https (the same with TLS; certificate and key are in the file TLS), bookstore,
bookbuyer, bookthief, bookwarehouse, bookdb (app_bookstore.py), echo (TCP, answers `echo response: <line>`, and its
pod's name to `who`), greeter (TCP, speaks first). All bind 0.0.0.0 unless BIND says otherwise. Environment: POD_NAME,
and what app_bookstore.py says.

Every HTTP role adds the header `pod`, and tells at /_/counters what reached it; questions under /_/ are not counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import sys
from collections.abc import Awaitable, Callable

from app_bookstore import Bookstore, Bookwarehouse, Buyer, database
from app_http import POD, HttpConnection, HttpRole, Request, Response


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
    "https": HttpBin,
    "bookstore": Bookstore,
    "bookwarehouse": Bookwarehouse,
    "bookbuyer": lambda: Buyer("Bought"),
    "bookthief": lambda: Buyer("Stolen"),
}
TCP_ROLES = {"echo": _echo, "greeter": _greet, "bookdb": database}


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
        tls = None
        if name == "https":
            tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            tls.load_cert_chain(os.environ["TLS"])
        await loop.create_server(lambda role=role: HttpConnection(role), bind, int(port), backlog=1024, ssl=tls)
        jobs.append(loop.create_task(role.run()))
    print("ready", flush=True)
    await asyncio.gather(*jobs)  # a role that fails ends the program with its traceback
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
