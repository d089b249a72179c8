"""The demo, as a person starts it: the story passes, and an end in the middle of it leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from rig import until
from rig.daemon import ROOT

pytestmark = pytest.mark.mesh


@pytest.fixture
def folder(run_folder: Path) -> Path:
    """A folder for temporary files that the sidecars' and applications' users can enter."""
    made = Path(tempfile.mkdtemp(prefix="demo-", dir=run_folder))
    made.chmod(0o711)
    return made


def _start(tmp: Path) -> subprocess.Popen[str]:
    """The story alone, in an isolation of its own."""
    env = {k: v for k, v in os.environ.items() if k != "OSM_RIG_RUN"} | {"TMPDIR": str(tmp)}
    command = [sys.executable, str(ROOT / "demo" / "story.py"), "--once"]
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


@pytest.mark.slow
def test_demo_plays_its_story_and_every_step_holds(folder: Path) -> None:
    """`story.py --once`: eight steps and the state of the Envoys, each ok, exit 0."""
    story = _start(folder)
    out, _ = story.communicate(timeout=300)
    assert story.returncode == 0, out
    assert out.count("\nok ") == 9, out
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
