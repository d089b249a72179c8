#!/usr/bin/env python3
"""clang-tidy with the checks of .clang-tidy over the sources of src/, as they are compiled in build/dev.

Usage: tidy.py [ROOT]

A file that was clean is not read again until it, a header of src/ below it, or the checks change: build/dev/tidy
holds a stamp for each. Findings are shown without the path that leads to them; to see it: clang-tidy -p build/dev FILE
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tree import files, root

HELPER = Path(__file__).resolve().parent / "analyzer.h"
# A quarter of the analyser's default budget per function: a third of the time, and no finding less in this tree.
ANALYSER = ["-Xclang", "-analyzer-config", "-Xclang", "max-nodes=60000"]
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*"([^"]+)"', re.MULTILINE)
FINDING = re.compile(r": (?:error|warning): ")


def needs(top: Path, path: Path, seen: set[Path]) -> set[Path]:
    """The file and every header of src/ below it."""
    if path not in seen and path.is_file():
        seen.add(path)
        for name in INCLUDE.findall(path.read_text()):
            needs(top, top / "src" / name, seen)
    return seen


def digest(top: Path, path: Path, command: dict[str, str]) -> str:
    parts = [(top / ".clang-tidy").read_bytes(), HELPER.read_bytes(), Path(__file__).read_bytes()]
    parts.append(json.dumps(command, sort_keys=True).encode())
    parts += [p.as_posix().encode() + b"\0" + p.read_bytes() for p in sorted(needs(top, path, set()))]
    return hashlib.sha256(b"\0".join(hashlib.sha256(p).digest() for p in parts)).hexdigest()


def look(top: Path, path: Path, commands: dict[Path, dict[str, str]]) -> list[str]:
    """What is wrong with one file; a stamp where nothing is."""
    name = path.relative_to(top).as_posix()
    command = commands.get(path.resolve())
    if not command:
        return [f"{name}:1: is not compiled in build/dev; build again"]
    stamp = top / "build/dev/tidy" / name.replace("/", "_")
    want = digest(top, path, command)
    if stamp.is_file() and stamp.read_text() == want:
        return []
    extra = list(ANALYSER)
    if path.suffix == ".c" and name != "src/base/err.c":  # it defines what the helper describes
        extra += ["-include", str(HELPER)]
    line = ["clang-tidy", "-p", "build/dev", "--quiet", "--warnings-as-errors=*"]
    line += [f"--extra-arg={e}" for e in extra] + [name]
    done = subprocess.run(line, cwd=top, capture_output=True, text=True)
    if done.returncode == 0:
        stamp.write_text(want)
        return []
    found = {s.removeprefix(f"{top}{os.sep}") for s in done.stdout.splitlines() if FINDING.search(s)}
    return sorted(found) or [f"{name}:1: clang-tidy failed: {done.stdout}{done.stderr}"]


def main() -> int:
    top = root().resolve()
    database = top / "build/dev/compile_commands.json"
    if not shutil.which("clang-tidy"):
        print("clang-tidy: not installed; tests/setup installs it")
        return 1
    if not database.is_file():
        print(f"{database}: not there; configure first: tests/setup")
        return 1
    commands = {}
    for c in json.loads(database.read_text()):
        commands[(Path(c["directory"]) / c["file"]).resolve()] = c
    (top / "build/dev/tidy").mkdir(exist_ok=True)
    sources = list(files(top, ["src"], (".c", ".cc")))
    if not sources:
        print(f"{top}: holds no source in src/")
        return 1
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        found = [line for lines in pool.map(lambda p: look(top, p, commands), sources) for line in lines]
    print("\n".join(dict.fromkeys(found)), end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
