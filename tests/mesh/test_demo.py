"""The demo, as a person starts it: the story passes, and an end in the middle of it leaves nothing behind. And its
screen, line by line, from a state that is given: every line has its place, and what is wrong is red."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rig import until
from rig.daemon import ROOT

sys.path.insert(0, str(ROOT / "demo"))

import directory
import plot
import screen
from story import once

pytestmark = pytest.mark.mesh

OK: dict[str, Any] = {
    "snapshot": 7,
    "proxies": [{}, {}],
    "missing": [],
    "source": {"state": "ok", "reason": "", "errors": []},
}


@pytest.fixture
def folder(run_folder: Path) -> Path:
    """A folder for temporary files that the sidecars' and applications' users can enter."""
    made = Path(tempfile.mkdtemp(prefix="demo-", dir=run_folder))
    made.chmod(0o711)
    return made


def _start(tmp: Path, *flags: str) -> subprocess.Popen[str]:
    """The story alone, in an isolation of its own."""
    env = {k: v for k, v in os.environ.items() if k != "OSM_RIG_RUN"} | {"TMPDIR": str(tmp)}
    command = [sys.executable, str(ROOT / "demo" / "story.py"), "--once", *flags]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _processes_of(tmp: Path) -> list[str]:
    """Command lines that mention a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if str(tmp) in line:
                found.append(line)
    return found


def test_a_acc_18_demo_plays_its_story_and_every_step_holds(folder: Path) -> None:
    """`story.py --once`: thirteen steps and the state of the Envoys, each ok, exit 0."""
    story = _start(folder)
    out, _ = story.communicate(timeout=300)
    assert story.returncode == 0, out
    assert out.count("\nok ") == 14, out
    assert "FAIL" not in out
    assert list(folder.iterdir()) == []
    assert _processes_of(folder) == []


@pytest.mark.kube
def test_a_acc_18_demo_plays_the_documents_story_from_an_api_server(folder: Path) -> None:
    """`story.py --once --kubernetes`: eleven steps, each ok, and the kubectl that a person is offered works from a
    terminal outside."""
    with _start(folder, "--kubernetes") as story:
        assert story.stdout
        out = ""
        for line in story.stdout:
            out += line
            if "ready in" in line:
                (kubectl,) = folder.glob("*/kubectl")
                found = subprocess.run(
                    [kubectl, "get", "-A", "deployments,meshconfigs", "-o", "name"],
                    capture_output=True,
                    text=True,
                    timeout=60,
                )
                assert found.returncode == 0, found.stderr
                assert "deployment.apps/bookthief" in found.stdout
                assert "meshconfig.config.openservicemesh.io/osm-mesh-config" in found.stdout
    assert story.returncode == 0, out
    assert out.count("\nok ") == 12, out
    assert "FAIL" not in out
    assert list(folder.iterdir()) == []
    assert _processes_of(folder) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_demo_that_is_interrupted_leaves_no_process(folder: Path, number: signal.Signals) -> None:
    """Ctrl-C ends it in order, SIGKILL at once: daemon, Envoys and applications go with it."""
    story = _start(folder)
    assert story.stdout
    said = []
    for line in story.stdout:
        said.append(line)
        if line.startswith("ok "):
            break
    assert said[-1].startswith("ok "), "".join(said)
    assert any("envoy" in line for line in _processes_of(folder))
    story.send_signal(number)
    story.wait(20)
    story.stdout.close()
    until(lambda: not _processes_of(folder), "all its processes have ended")
    assert story.returncode != 0
    if number == signal.SIGINT:
        assert list(folder.iterdir()) == []


class Ends:
    """Is interrupted while it ends."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000):
            pass


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_demo_heeds_an_interruption_that_python_passes_over(capsys: pytest.CaptureFixture[str]) -> None:
    """The step under way is the last one."""
    played = []
    steps = [
        SimpleNamespace(title="first", do=lambda _: [Ends()].clear(), check=lambda _: (True, "")),
        SimpleNamespace(title="second", do=lambda _: played.append("second"), check=lambda _: (True, "")),
    ]
    before = signal.getsignal(signal.SIGINT)
    store: Any = SimpleNamespace(world=SimpleNamespace(wait=lambda: played.append("first")))
    with pytest.raises(KeyboardInterrupt):
        once(store, steps)  # type: ignore[arg-type]
    assert played == ["first"]  # its step went on
    assert "ok" not in capsys.readouterr().out
    assert signal.getsignal(signal.SIGINT) == before


def test_demo_offers_the_applications_pages(folder: Path) -> None:
    """On loopback, each a page that asks for its counters, which rise; one that is not there yet says so."""

    def fetch(url: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(url, timeout=10) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    with _start(folder, "--browse") as story:
        try:
            assert story.stdout
            addresses: dict[str, str] = {}
            for line in story.stdout:
                if found := re.fullmatch(r"   (\S+) +(http://127[.]0[.]0[.]1:\d+/)\n", line):
                    addresses[found[1]] = found[2]
                if line.startswith("ok "):
                    break
            assert addresses.keys() == {"bookbuyer", "bookthief", "bookstore-v1", "bookstore-v2", "bookwarehouse"}
            assert fetch(addresses["bookstore-v2"])[0] == 503
            for name in ("bookbuyer", "bookthief", "bookstore-v1", "bookwarehouse"):
                status, page = fetch(addresses[name])
                assert status == 200
                assert "<!doctype html>" in page
                assert name in page
            first = json.loads(fetch(addresses["bookbuyer"] + "raw")[1])["booksBought"]
            until(
                lambda: json.loads(fetch(addresses["bookbuyer"] + "raw")[1])["booksBought"] > first,
                "the counters rise",
                60,
            )
        finally:
            story.kill()


@pytest.fixture
def view(tmp_path: Path) -> screen.Show:
    """A screen of two Envoys with a long diff, under paths that are too long for it."""
    files = tmp_path / ("deep-" * 20) / "objects"
    files.mkdir(parents=True)
    world = SimpleNamespace(files=files, pods={}, daemon=SimpleNamespace(socket=files / "control.sock"))
    store = directory.Directory(quick=True, world=world)
    made = screen.Show(store, directory.STEPS)
    made.status = OK
    made.samples.append((time.monotonic(), plot.Counters()))
    made.applied = screen.Applied("half and half", [f"+line {n} \t{'世' * n}\x1b[2J" for n in range(60)])
    return made


def _plain(lines: list[str]) -> list[str]:
    return [re.sub("\x1b\\[[0-9;]*m", "", line) for line in lines]


def _line(lines: list[str], part: str) -> str:
    found = [line for line in lines if part in line]
    assert len(found) == 1, (part, lines)
    return found[0]


RED = "\x1b[31m"


def _columns(line: str) -> int:
    return sum(2 if c == "世" else 1 for c in line)


@pytest.mark.parametrize(("width", "height"), [(79, 24), (129, 42), (79, 12), (40, 24), (200, 24)])
def test_screen_keeps_its_footer_and_its_width(view: screen.Show, width: int, height: int) -> None:
    """Whatever the diff is, the last lines say what comes next, and nothing wraps or scrolls."""
    lines = _plain(view.lines(width, height))
    assert len(lines) <= height
    assert max(_columns(line) for line in lines) <= width
    assert all(line.isprintable() for line in lines)
    assert [line.split()[0] for line in lines[-5:] if line] == ["next", "or", "or", "Enter"]
    assert lines[-4].endswith(f"objects/{directory.STEPS[1].edit}")
    assert ("…" in lines[-4]) == (len(str(view.store.world.files / directory.STEPS[1].edit)) > width - 18)


def test_screen_gives_the_diff_what_is_left_and_counts_the_rest(view: screen.Show) -> None:
    """At 24 rows a few lines of it, at 42 more, and all of a short one."""
    for height in (24, 42):
        lines = _plain(view.lines(79, height))
        shown = sum(line.startswith("      +line") for line in lines)
        assert shown > 0
        assert len(lines) == height
        assert _line(lines, "more lines") == f"   ... {60 - shown} more lines"
    view.applied.lines = ["+one", "-two"]
    lines = _plain(view.lines(79, 24))
    assert "      +one" in lines
    assert "      -two" in lines
    assert not any("more lines" in line for line in lines)


def test_screen_is_green_only_while_the_daemon_answers(view: screen.Show) -> None:
    """After a second of silence the head is red and says how long, instead of the last snapshot."""
    assert "\x1b[32msnapshot 7 · 2 of 2" in view.lines(79, 24)[0]
    view.answered -= 12
    head = view.lines(79, 24)[0]
    assert f"{RED}the daemon does not answer · 12 s" in head
    assert "snapshot" not in head


def test_screen_says_in_red_that_the_source_has_failed(view: screen.Show) -> None:
    """State and reason, as `osm status` gives them."""
    why = f"{view.store.world.files}: No such file or directory"
    view.status = OK | {"source": {"state": "failed", "reason": why, "errors": []}}
    lines = view.lines(79, 24)
    assert f"{RED}snapshot" in lines[0]
    assert RED in _line(lines, "the source has failed: …/objects: No such file or directory")


def test_screen_does_not_take_a_lost_directory_for_an_edit(view: screen.Show) -> None:
    """Nobody edited anything; and a step must not make the directory anew."""
    files = view.store.world.files
    (files / "access.yaml").write_text("kind: TrafficTarget\n")
    assert list(view._changes()) == [files / "access.yaml"]
    away = files.rename(files.with_name("away"))
    assert view._changes() == {}
    view.next()
    assert not files.exists()
    assert RED in _line(view.lines(79, 24), "not applied: the directory is not there")
    away.rename(files)
    assert view._changes() == {}


def test_screen_calls_an_edit_applied_only_when_it_was() -> None:
    """A file in error and a failed source are no plain "applied"."""
    assert screen.outcome(OK["source"], 0.0124) == ("applied by every Envoy in 12 ms", True)
    error = {"file": "/x/access.yaml", "line": 1, "column": 2, "message": "?", "kept": True}
    degraded = {"state": "degraded", "reason": "1 error in its files", "errors": [error]}
    said = "applied, but access.yaml is in error: its last good objects serve"
    assert screen.outcome(degraded, 0.1) == (said, False)
    failed = {"state": "failed", "reason": "gone", "errors": []}
    assert screen.outcome(failed, 0.1) == ("not applied: the source has failed: gone", False)


def test_screen_tells_the_reason_without_the_command() -> None:
    """What `osm` said on stderr is the news, not how it was called."""
    done = subprocess.CompletedProcess([], 1, "", "osm: not applied: the source has failed: gone\n")
    error = screen.CommandError(["osm", "--socket", "/x/control.sock", "wait"], done)
    assert screen.reason(error) == "not applied: the source has failed: gone"
    assert screen.reason(OSError("disk full")) == "not applied: disk full"
