"""The words of `osm`: an option that a command has no use for is refused, and what could not be printed is not done."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from bundles import furnish
from rig import World
from rig.daemon import build_dir
from rig.objects import HTTP_8080


def osm(*words: str, socket: Path = Path("/nonexistent/control.sock")) -> subprocess.CompletedProcess[str]:
    """Runs it, with no daemon unless one is named."""
    command = [build_dir() / "osm", "--socket", socket, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


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
