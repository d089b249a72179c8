"""osm-healthcheck, which answers the kubelet for a pod's tcpSocket probes: A-PRB-03."""

from __future__ import annotations

import http.client
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

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

    def ask(self, port: str | None, path: str = "/osm-healthcheck") -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
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


@pytest.fixture
def stuck_port() -> Iterator[int]:
    """One whose backlog is full: the kernel drops what comes, and nobody refuses."""
    with ExitStack() as opened:
        server = opened.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(8):
            filler = opened.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(server.getsockname())
        yield server.getsockname()[1]


def test_a_port_that_does_not_answer_is_not_waited_for(check: Healthcheck, stuck_port: int) -> None:
    begun = time.monotonic()
    assert check.ask(str(stuck_port)) == 404
    assert 0.5 < time.monotonic() - begun < 5


def test_many_ask_at_once(check: Healthcheck, open_port: int) -> None:
    closed = free_port("127.0.0.1")
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda n: check.ask(str(open_port if n % 2 else closed)), range(100)))
    assert answers == [404, 200] * 50


def test_it_ends_at_once_while_asked(stuck_port: int) -> None:
    one = Healthcheck()
    try:
        until(one.listens, "osm-healthcheck listens")
        with socket.create_connection(("127.0.0.1", one.port)) as asker:
            asker.sendall(b"GET /osm-healthcheck HTTP/1.1\r\nHost: x\r\nOriginal-Tcp-Port: %d\r\n\r\n" % stuck_port)
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
