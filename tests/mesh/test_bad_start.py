"""A daemon that cannot start says why in one line, ends at once, and leaves what it found as it was."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from rig import Daemon, free_port, isolate
from rig.daemon import build_dir

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mounts")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon with an empty source, not started."""
    source = tmp_path / "objects"
    source.mkdir()
    made = Daemon(tmp_path / "controller", source, ads=f"127.0.0.1:{free_port('127.0.0.1')}")
    yield made
    if made.alive():
        made.stop()


def _refused(daemon: Daemon) -> str:
    """Starts a daemon that is to refuse: the reason, from its last record."""
    daemon.start(ready=False)
    assert daemon.wait_exit(10) not in (0, None)
    records = [json.loads(line) for line in daemon.log().splitlines()]
    fatal = [r for r in records if str(r.get("level", "")).lower() == "fatal"]
    assert fatal, daemon.log()
    return str(fatal[-1]["error"])


def _content(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir() if p.is_file()}


def test_port_in_use_is_named(daemon: Daemon) -> None:
    """Somebody else listens there."""
    host, port = daemon.ads.split(":")
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind((host, int(port)))
        other.listen(1)
        assert daemon.ads in _refused(daemon)


def test_second_daemon_on_one_port_is_refused_and_the_first_serves_on(daemon: Daemon, tmp_path: Path) -> None:
    """Two servers must not share a port in silence."""
    daemon.start()
    second = Daemon(tmp_path / "second", daemon.source, ads=daemon.ads)
    assert daemon.ads in _refused(second)
    assert daemon.status()["mesh"] == "osm"


@needs_root
def test_state_directory_that_is_read_only_is_named(daemon: Daemon) -> None:
    """A read-only mount: no root can be made."""
    daemon.state.mkdir()
    isolate.bind(daemon.state, daemon.state)
    isolate.mount("none", str(daemon.state), None, 0x1000 | 0x20 | 0x1)  # bind, remount, read-only
    try:
        assert str(daemon.state) in _refused(daemon)
        assert _content(daemon.state) == {}
    finally:
        subprocess.run(["umount", str(daemon.state)], check=True)


@needs_root
def test_state_directory_that_is_full_is_named(daemon: Daemon) -> None:
    """No half a root stays behind."""
    daemon.state.mkdir()
    isolate.mount("none", str(daemon.state), "tmpfs", 0, "size=4k,nr_inodes=64,mode=0700")
    try:
        (daemon.state / "filler").write_bytes(b"x" * 4096)
        assert str(daemon.state) in _refused(daemon)
        assert [p.name for p in daemon.state.iterdir()] == ["filler"]
    finally:
        subprocess.run(["umount", str(daemon.state)], check=True)


def _made(daemon: Daemon) -> Path:
    """A state directory with a root."""
    daemon.start()
    assert daemon.stop() == 0
    assert (daemon.state / "ca.crt").exists()
    return daemon.state


def test_root_is_made_once_and_kept(daemon: Daemon) -> None:
    """A second start finds the first one's root; modes are tight."""
    state = _made(daemon)
    before = _content(state)
    assert _made(daemon) == state
    assert {k: v for k, v in _content(state).items() if k in ("ca.crt", "private.key")} == {
        k: v for k, v in before.items() if k in ("ca.crt", "private.key")
    }
    assert state.stat().st_mode & 0o777 == 0o700
    assert (state / "private.key").stat().st_mode & 0o777 == 0o600


def test_key_of_another_root_is_refused_and_no_new_root_is_made(daemon: Daemon) -> None:
    """The key does not match the certificate: never a silent new root."""
    state = _made(daemon)
    other = subprocess.run(
        ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
        capture_output=True,
        check=True,
    ).stdout
    (state / "private.key").write_bytes(other)
    before = _content(state)
    reason = _refused(daemon)
    assert "private.key" in reason
    assert "ca.crt" in reason
    assert "does not belong" in reason
    assert {k: v for k, v in _content(state).items() if k in before} == before


@pytest.mark.parametrize("missing", ["ca.crt", "private.key"])
def test_half_a_root_is_refused_and_not_completed(daemon: Daemon, missing: str) -> None:
    """One of the two files is gone: the reason names it, and it is not made anew."""
    state = _made(daemon)
    (state / missing).unlink()
    assert missing in _refused(daemon)
    assert not (state / missing).exists()


@pytest.mark.parametrize("text", ["", "garbage\n"])
def test_root_that_cannot_be_read_is_refused(daemon: Daemon, text: str) -> None:
    """An empty or spoilt certificate."""
    state = _made(daemon)
    (state / "ca.crt").write_text(text)
    assert "ca.crt" in _refused(daemon)
    assert (state / "ca.crt").read_text() == text


def test_key_that_others_can_read_is_refused(daemon: Daemon) -> None:
    """Modes are checked, not mended."""
    state = _made(daemon)
    (state / "private.key").chmod(0o644)
    assert "private.key" in _refused(daemon)


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(build_dir() / "osm-controller"), *arguments], capture_output=True, text=True, timeout=10, check=False
    )


def test_unknown_flag_is_an_error_with_a_hint() -> None:
    """The nearest flag is named."""
    done = _run("--stat-dir", "/x")
    assert done.returncode == 2
    assert "--state-dir" in done.stderr


def test_missing_flag_and_missing_source_are_named(tmp_path: Path) -> None:
    """What is needed, and a source that is not there."""
    done = _run("--state-dir", str(tmp_path / "s"))
    assert done.returncode == 2
    assert "--source" in done.stderr
    absent = Daemon(tmp_path / "controller", tmp_path / "absent", ads=f"127.0.0.1:{free_port('127.0.0.1')}")
    assert "absent" in _refused(absent)


def test_a_drain_time_that_envoy_would_not_take_is_refused(tmp_path: Path) -> None:
    """Zero would cut every request off, and hours let whoever is out stay in."""
    needed = ("--state-dir", str(tmp_path / "s"), "--source", f"dir:{tmp_path}", "--policies", str(tmp_path))
    for wrong in ("0s", "2h", "45"):
        done = _run(*needed, "--sidecar-drain-time", wrong)
        assert done.returncode == 2
        assert f"--sidecar-drain-time {wrong}: expected" in done.stderr


def test_sigterm_ends_it_cleanly(daemon: Daemon) -> None:
    """Status 0 within five seconds, socket removed, every line of the log one JSON record."""
    daemon.start()
    assert daemon.stop(5.0) == 0
    assert not daemon.socket.exists()
    for line in daemon.log().splitlines():
        assert json.loads(line)["level"]
