"""The load client of the benchmark, small: that it says what is so."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rig.daemon import ROOT, build_dir
from rig.waiting import until

sys.path.insert(0, str(ROOT / "tests" / "bench"))

import discovery

TOOL = build_dir() / "xds-load"
needs_tool = pytest.mark.skipif(not TOOL.exists(), reason="xds-load is not built: tests/bench/run builds it")


@needs_tool
@pytest.mark.parametrize("form", ["delta", "sotw"])
def test_sidecars_are_configured_hear_of_changes_and_come_again(tmp_path: Path, form: str) -> None:
    """Server and transport are measured alike; in delta nothing is sent twice."""
    figures: dict[str, Any] = discovery.measure(
        25, form, singles=3, changes=2, quiet_ms=500, record=tmp_path / "record"
    )
    assert (figures["sidecars"], figures["form"], figures["transport"]) == (25, form, "mtls")
    for side in ("server", "floor"):
        measured = figures[side]
        assert measured["alone_p50_ms"] > 0
        assert measured["among_p50_ms"] > 0
        assert measured["all_s"] > 0
        assert measured["endpoint_updates"] == 25 * 2  # one assignment each; the floor repeats what the server did
        assert measured["service_updates"] >= 25 * 2 * 3  # clusters, assignments, routes
        assert measured["all_responses"] >= 25 * 5  # one of each type
        assert (measured["again_bytes"] == 0) == (form == "delta")
    _plain(tmp_path, form)
    if form == "sotw":
        _lost(tmp_path)
    _killed(tmp_path, form)


def _killed(folder: Path, form: str) -> None:
    """Its own canned server ends with it, even by SIGKILL."""
    with _canned(folder) as (_, target):
        words = ["--target", target, "--proxies", str(folder / "proxies"), "--form", form, "--self-test"]
        words += ["--record", str(folder / "again"), "--singles", "1", "--changes", "0", "--quiet-ms", "500"]
        with subprocess.Popen([str(TOOL), *words], stdout=subprocess.DEVNULL) as client:
            children = Path(f"/proc/{client.pid}/task/{client.pid}/children")
            child = int(until(children.read_text, "its canned server", 60))
            handle = os.pidfd_open(child)
            client.kill()
        try:
            assert select.select([handle], [], [], 60)[0]
        finally:
            os.close(handle)


@contextlib.contextmanager
def _canned(folder: Path) -> Iterator[tuple[int, str]]:
    """The transport alone, without TLS; process and address."""
    serve = [str(TOOL), "--serve", "127.0.0.1:0", "--record", str(folder / "record")]
    with subprocess.Popen(serve, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout
            yield server.pid, server.stdout.readline().strip()
        finally:
            server.terminate()


def _lost(folder: Path) -> None:
    """A server that tells whoever comes again something else than it told before: a failure, not a figure."""
    with _canned(folder) as (pid, target):
        change = folder / "change"
        change.write_text(f"#!/bin/sh\nkill -USR1 {pid}\n")
        change.chmod(0o755)
        words = ["--target", target, "--proxies", str(folder / "proxies"), "--form", "sotw"]
        words += ["--singles", "1", "--changes", "1", "--change", str(change), "--quiet-ms", "200"]
        done = subprocess.run([str(TOOL), *words], capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 1
        assert "a change was lost" in done.stderr


def _plain(folder: Path, form: str) -> None:
    """The same transport without TLS, from what was recorded."""
    proxies = folder / "proxies"
    proxies.write_text("".join(f"{uuid.uuid4()} account load\n" for _ in range(10)))
    with _canned(folder) as (_, target):
        words = ["--target", target, "--proxies", str(proxies), "--form", form, "-o", "json"]
        words += ["--singles", "1", "--changes", "0", "--quiet-ms", "200"]
        done = subprocess.run([str(TOOL), *words], capture_output=True, text=True, check=True, timeout=60)
        figures = json.loads(done.stdout)
        assert figures["transport"] == "plain"
        assert figures["floor"] is None
        assert figures["server"]["all_responses"] >= 10 * 5


@needs_tool
@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "--target and --proxies"),
        (["--target", "127.0.0.1:1", "--proxies", "/nowhere"], "/nowhere"),
        (["--target", "nowhere", "--proxies", "PROXIES"], "expected HOST:PORT"),
        (["--target", "127.0.0.1:1", "--proxies", "PROXIES"], "refused"),
        (["--target", "127.0.0.1:1", "--proxies", "PROXIES", "--form", "other"], "delta or sotw"),
        (["--target", "127.0.0.1:1", "--proxies", "PROXIES", "--connecting", "0"], "1 or more"),
        (
            ["--target", "127.0.0.1:1", "--proxies", "PROXIES", "--server-pid", "2147483647", "--singles", "0"],
            "process",
        ),
    ],
)
def test_wrong_words_and_a_server_that_is_not_there(tmp_path: Path, arguments: list[str], text: str) -> None:
    """Each is named, and the exit status is not 0."""
    proxies = tmp_path / "proxies"
    proxies.write_text("1f3b0b5e-7d0c-4c55-9a5e-0d9b8a7c6f01 a b\n")
    words = [str(proxies) if word == "PROXIES" else word for word in arguments]
    done = subprocess.run([str(TOOL), *words], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode in (1, 2)
    assert text in done.stderr
