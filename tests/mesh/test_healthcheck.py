"""osm-healthcheck, which answers the kubelet for a pod's tcpSocket probes: A-PRB-03."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from rig import free_port, until
from rig.daemon import build_dir


class Healthcheck:
    """The program on a port of its own."""

    def __init__(self) -> None:
        self.port = free_port("127.0.0.1")
        self.process = subprocess.Popen(
            [build_dir() / "osm-healthcheck", f"--listen=127.0.0.1:{self.port}", "--verbosity=debug"],
            stderr=subprocess.DEVNULL,
        )

    def listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def waits(self) -> int:
        """How many connections of its own are not made yet (SYN_SENT)."""
        own = set()
        for link in Path(f"/proc/{self.process.pid}/fd").iterdir():
            with suppress(OSError):
                own.add(os.readlink(link))
        lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return sum(words[3] == "02" and f"socket:[{words[9]}]" in own for words in lines)

    def begin(self, port: int) -> socket.socket:
        asker = socket.create_connection(("127.0.0.1", self.port))
        asker.sendall(b"GET /osm-healthcheck HTTP/1.1\r\nHost: x\r\nOriginal-Tcp-Port: %d\r\n\r\n" % port)
        return asker

    def ask(self, port: str | None, path: str = "/osm-healthcheck", timeout: float = 20) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request("GET", path, headers={} if port is None else {"Original-Tcp-Port": port})
            return connection.getresponse().status
        finally:
            connection.close()


@pytest.fixture(scope="module")
def check() -> Iterator[Healthcheck]:
    one = Healthcheck()
    try:
        until(one.listens, "osm-healthcheck listens")
        yield one
        one.process.send_signal(signal.SIGTERM)
        assert one.process.wait(10) == 0
    finally:
        one.process.kill()
        one.process.wait()


@pytest.fixture
def open_port() -> Iterator[int]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(64)
        yield server.getsockname()[1]


def test_a_prb_03_an_open_port_is_healthy(check: Healthcheck, open_port: int) -> None:
    assert check.ask(str(open_port)) == 200


def test_a_prb_03_07_a_closed_port_is_not(check: Healthcheck, open_port: int) -> None:
    assert check.ask(str(free_port("127.0.0.1"))) == 404
    assert check.ask(str(open_port)) == 200


@pytest.mark.parametrize("port", [None, "", "0", "65536", "70000", "-1", "+80", "80x", " ", "0x50", "123456789012"])
def test_a_prb_03_without_a_port_the_request_is_bad(check: Healthcheck, port: str | None) -> None:
    assert check.ask(port) == 400


def test_other_paths_are_unknown(check: Healthcheck, open_port: int) -> None:
    assert check.ask(str(open_port), "/") == 404


class StuckPort:
    """Its backlog is full: the kernel drops what comes, and nobody refuses."""

    def __init__(self, opened: ExitStack) -> None:
        self.server = opened.enter_context(socket.socket())
        self.server.bind(("127.0.0.1", 0))
        self.server.listen(0)
        self.number = self.server.getsockname()[1]
        for _ in range(8):
            filler = opened.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(self.server.getsockname())

    def accept_until(self, done: Callable[[], bool]) -> None:
        self.server.settimeout(0.1)
        while not done():
            with suppress(TimeoutError):
                self.server.accept()[0].close()


@pytest.fixture
def stuck_port() -> Iterator[StuckPort]:
    with ExitStack() as opened:
        yield StuckPort(opened)


def test_a_port_that_does_not_answer_is_waited_for_as_long_as_its_kubelet_does(
    check: Healthcheck, open_port: int, stuck_port: StuckPort
) -> None:
    """It gave up after a second, whatever the probe's timeoutSeconds."""
    with ThreadPoolExecutor(1) as pool:
        before = check.waits()
        asked = pool.submit(check.ask, str(stuck_port.number), timeout=2.5)
        until(lambda: check.waits() > before, "the port is asked")
        assert check.ask(str(open_port)) == 200, "nobody waits behind it"
        with pytest.raises(TimeoutError):
            asked.result()


def test_who_is_gone_is_not_waited_for(check: Healthcheck, stuck_port: StuckPort) -> None:
    before = check.waits()
    with check.begin(stuck_port.number) as asker:
        until(lambda: check.waits() > before, "the port is asked")
        asker.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, which is no half
    until(lambda: check.waits() <= before, "who has gone is not waited for", 5)


def test_few_wait_for_a_port_at_once(check: Healthcheck, stuck_port: StuckPort) -> None:
    """A kubelet that hangs up may still read, for all that is known."""
    before = check.waits()
    for _ in range(10):
        with pytest.raises(TimeoutError):
            check.ask(str(stuck_port.number), timeout=0.35)
    assert check.waits() <= before + 4


def test_a_port_that_answers_late_is_healthy(check: Healthcheck, stuck_port: StuckPort) -> None:
    before, begun = check.waits(), time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(check.ask, str(stuck_port.number))
        until(lambda: check.waits() > before, "the port is asked")
        until(lambda: time.monotonic() - begun > 1.5, "a second is over")
        stuck_port.accept_until(lambda: asked.done() or time.monotonic() - begun > 20)
        assert asked.result() == 200


def test_many_ask_at_once(check: Healthcheck, open_port: int) -> None:
    closed = free_port("127.0.0.1")
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda n: check.ask(str(open_port if n % 2 else closed)), range(100)))
    assert answers == [404, 200] * 50


def test_it_ends_at_once_while_asked(stuck_port: StuckPort) -> None:
    one = Healthcheck()
    try:
        until(one.listens, "osm-healthcheck listens")
        with one.begin(stuck_port.number):
            until(one.waits, "the port is asked")
            one.process.send_signal(signal.SIGTERM)
            assert one.process.wait(10) == 0
    finally:
        one.process.kill()
        one.process.wait()


def test_flags_that_are_wrong_are_named() -> None:
    for flags, part in (
        (["--verbosity=loud"], 'no level "loud"'),
        (["--listen=nowhere"], "--listen"),
        (["word"], "flags alone"),
        (["--host=localhost"], "--host"),
    ):
        done = subprocess.run([build_dir() / "osm-healthcheck", *flags], capture_output=True, text=True, timeout=10)
        assert done.returncode in (1, 2)
        assert part in done.stderr
        assert len(done.stderr.splitlines()) == 1, "no leak is reported"
