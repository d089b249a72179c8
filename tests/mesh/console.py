"""Clients of the debug console: its JSON lines over a socket, and `osm debug` on a terminal."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import termios
import time
from pathlib import Path
from typing import Any

from rig import until
from rig.daemon import build_dir


class Refused(RuntimeError):
    """What a console answers with "ok": false."""

    def __init__(self, err: dict[str, str]) -> None:
        super().__init__(f"{err['code']}: {err['msg']}")
        self.code, self.msg = err["code"], err["msg"]


class Console:
    """One session, in JSON lines."""

    def __init__(self, path: Path, timeout: float = 30.0) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(timeout)
        self.socket.connect(str(path))
        self.lines = self.socket.makefile("rb")
        self.last_id = 0

    def __enter__(self) -> Console:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.lines.close()
        self.socket.close()

    def send(self, **request: Any) -> int:
        """Sends one request; its id."""
        self.last_id += 1
        self.socket.sendall(json.dumps({"id": self.last_id, **request}).encode() + b"\n")
        return self.last_id

    def hear(self) -> dict[str, Any]:
        """The next message, whosever it is; {} when the session is over."""
        line = self.lines.readline()
        return json.loads(line) if line else {}

    def answer(self, to: int) -> Any:
        """The answer's data; in pages, put together. Refused is raised."""
        pages = ""
        while True:
            message = self.hear()
            assert message, "the daemon has closed the session"
            if message.get("id") not in (to, None) or "ok" not in message:
                continue
            if not message["ok"]:
                raise Refused(message["err"])
            if "page" not in message:
                return message["text"] if "text" in message else message["data"]
            pages += message["page"]
            if not message["more"]:
                return json.loads(pages)
            to = self.send(cmd="more")

    def ask(self, cmd: str, **args: Any) -> Any:
        """Asks by name."""
        return self.answer(self.send(cmd=cmd, args=args))

    def text(self, line: str) -> str:
        """What a person reads who types this."""
        return self.answer(self.send(line=line, render=True))

    def eval(self, code: str) -> str:
        """What the line of Lua says."""
        return self.ask("eval", code=code)["text"]


class Terminal:
    """`osm debug` as a person has it, on a terminal of 100 columns without cursor movement."""

    def __init__(self, socket_path: Path, state: Path, **more: str) -> None:
        environment = os.environ | {"XDG_STATE_HOME": str(state), "TERM": "dumb", "LC_ALL": "C.UTF-8", **more}
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            program = str(build_dir() / "osm")
            os.execve(program, ["osm", "--socket", str(socket_path), "debug"], environment)
        self.seen = b""

    def until(self, pattern: str, timeout: float = 20.0) -> str:
        """What is written up to the end of the pattern."""
        deadline = time.monotonic() + timeout
        wanted = re.compile(pattern.encode())
        while not (match := wanted.search(self.seen)):
            ready, _, _ = select.select([self.fd], [], [], max(0.0, deadline - time.monotonic()))
            data = b""
            with contextlib.suppress(OSError):  # the other side has closed
                data = os.read(self.fd, 65536) if ready else b""
            if not data:
                raise AssertionError(f"{pattern!r} did not come, but {self.seen.decode(errors='replace')!r}")
            self.seen += data
        found, self.seen = self.seen[: match.end()], self.seen[match.end() :]
        return found.decode().replace("\r", "")

    def type(self, keys: str, pattern: str) -> str:
        """Types, and waits for what is said then."""
        os.write(self.fd, keys.encode())
        return self.until(pattern)

    def resize(self, columns: int) -> None:
        """The window has another width, and its program is told."""
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def close(self) -> int:
        """^D; the exit code. Whoever does not end is killed, and that is an error."""
        os.write(self.fd, b"\x04")
        try:
            until(self._ended, "osm debug ends at ^D")
        except AssertionError:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            raise
        finally:
            os.close(self.fd)
        return self.exit

    def _ended(self) -> bool:
        ready, _, _ = select.select([self.fd], [], [], 0)
        if ready:
            with contextlib.suppress(OSError):
                os.read(self.fd, 65536)
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        self.exit = os.waitstatus_to_exitcode(status)
        return pid == self.pid


def osm_debug(
    socket_path: Path, *words: str, stdin: str | None = None, flags: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """`osm debug WORD...`, with something on its standard input."""
    command = [str(build_dir() / "osm"), "--socket", str(socket_path), *flags, "debug", *words]
    return subprocess.run(command, input=stdin or "", capture_output=True, text=True, timeout=60, check=False)
