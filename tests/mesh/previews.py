"""What tests of previews ask with: `osm diff` and `osm policy diff` of a daemon, and what they answer."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from console import Console
from rig import World
from rig.daemon import ROOT, build_dir

SHIPPED = ROOT / "policies"
NOTHING, ERROR, USAGE, SOMETHING = 0, 1, 2, 3  # exit codes


def run(world: World, *arguments: str | Path, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """`osm ARGUMENT...`, whatever its exit code."""
    command = [str(build_dir() / "osm"), "--socket", str(world.daemon.socket), *map(str, arguments)]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=60)


def told(world: World, *arguments: str | Path, exit: int = SOMETHING, text: str | None = None) -> dict[str, Any]:
    """The answer as JSON, with the exit code that it must have."""
    done = run(world, *arguments, "-o", "json", text=text)
    assert done.returncode == exit, done.stdout + done.stderr
    return json.loads(done.stdout)


def fields(diff: dict[str, Any], proxy: str, kind: str) -> dict[str, tuple[Any, Any]]:
    """Of what changes in this proxy's resources of a type: path -> before, after. Whole resources: name -> change."""
    found: dict[str, Any] = {}
    for group in diff["groups"]:
        for resource in group["resources"] if proxy in group["proxies"] else []:
            if resource["type"] != kind:
                continue
            if resource["change"] != "changed":
                found[resource["name"]] = resource["change"]
            for field in resource["fields"] if resource["change"] == "changed" else []:
                found[field["path"]] = (field.get("before"), field.get("after"))
    return found


def is_ready(world: World) -> bool:
    """Whether an engine is kept that nobody uses."""
    with Console(world.daemon.socket) as console:
        return console.ask("mem")["preview_ready"]


def write(folder: Path, **modules: str) -> Path:
    """An overlay of modules `acme/NAME.lua`."""
    (folder / "acme").mkdir(parents=True, exist_ok=True)
    for name, text in modules.items():
        (folder / "acme" / f"{name}.lua").write_text(text)
    return folder
