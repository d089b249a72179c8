"""The words of `osm`: an option that a command has no use for is refused, and what could not be printed is not done."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from bundles import furnish
from rig import World
from rig.daemon import build_dir
from rig.objects import HTTP_8080


def osm(
    *words: str | bytes, socket: Path = Path("/nonexistent/control.sock"), **options: Any
) -> subprocess.CompletedProcess[str]:
    """Runs it, with no daemon unless one is named."""
    command = [build_dir() / "osm", "--socket", socket, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, **options)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("policy reload --canary 5%", "policy reload takes no --canary, which is for: policy apply"),
        ("policy reload --soak 5m", "policy reload takes no --soak, which is for: policy apply"),
        ("policy activate --canary label=a=b", "policy activate takes no --canary, which is for: policy apply"),
        ("policy rollback --force", "policy rollback takes no --force, which is for: policy init, policy reload"),
        ("policy diff mine --policies theirs", "policy diff takes no --policies, which is for: policy init"),
        ("policy why red/a LDS --path /x", "policy why takes no --path, which is for: policy why-not"),
        ("status --timeout 1s", "status takes no --timeout, which is for: wait"),
        ("status --json", "status takes no --json, which is for: debug"),
        ("proxy get config red/a --out /tmp/x", "proxy get config takes no --out, which is for: proxy bootstrap"),
        ("debug wait --connected", "debug takes no --connected; `osm debug -- COMMAND --connected`"),
        ("status -o yaml", "-o yaml: status writes: table json"),
        ("proxy get config red/a -o table", "-o table: proxy get config writes: yaml json"),
        ("policy list -o jsn", "-o jsn: policy list writes: table json"),
        ("policy test mine -o json", "policy test takes no -o"),
    ],
)
def test_an_option_of_another_command_is_refused(words: str, said: str) -> None:
    """Who asks for a canary where there is none must not be given all proxies."""
    done = osm(*words.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"osm: {said}"), done.stderr


def test_what_could_not_be_written_is_not_done(tmp_path: Path) -> None:
    """On a full disk, also where the answer is longer than a buffer."""
    with World(real=False) as world:
        furnish(world)
        for n in range(10):
            world.service("blue", f"more-{n}", HTTP_8080, {"app": "shop"})
        world.wait()
        (tmp_path / "new.yaml").write_text("{apiVersion: v1, kind: Service, metadata: {name: n, namespace: blue}}")
        for words in (
            "status",
            "status -o json",
            "proxy get config blue/shop",
            "proxy get config blue/shop -o json",
            "policy list",
            f"diff -f {tmp_path}/new.yaml",
            "version",
            "--help",
        ):
            with Path("/dev/full").open("w") as full:
                command = [build_dir() / "osm", "--socket", world.daemon.socket, *words.split()]
                done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
            assert (done.returncode, done.stderr) == (1, "osm: the output cannot be written\n"), words


def test_a_canary_that_is_refused_was_not_said_to_serve(tmp_path: Path) -> None:
    """Until it does, it is what was asked for."""
    with World(real=False) as world:
        world.wait()
        done = osm("policy", "apply", str(tmp_path), "--canary", "101%", socket=world.daemon.socket)
    assert done.returncode == 1
    assert "serves" not in done.stderr


@pytest.mark.parametrize(
    "words", ["policy activate", "policy rollback", "policy why-not red/caller", "proxy get config"]
)
def test_what_is_no_text_is_not_asked(words: str) -> None:
    """Nor is the same asked without it: `policy activate` would take whatever is held."""
    with World(real=False) as world:
        furnish(world)
        world.wait()
        done = osm(*words.split(), b"red/\xff", socket=world.daemon.socket)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "osm: what is asked is no text in UTF-8\n")


def test_a_line_that_is_no_text_does_not_end_a_console() -> None:
    """A paste from a terminal of another encoding is one wrong line."""
    with World(real=False) as world:
        world.wait()
        lines = "eval '\udce9'\nhelp help\n"
        done = osm("debug", socket=world.daemon.socket, input=lines, errors="surrogateescape")
    assert done.returncode == 1
    assert done.stderr == "error: is no text in UTF-8\n"
    assert done.stdout.startswith("help [COMMAND]")
