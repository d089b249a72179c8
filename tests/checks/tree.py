"""What the checks share: the files of a tree, C without comments and strings, and one way to report."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

SKIPPED_FOLDERS = {".git", "build", "__pycache__", ".pytest_cache", ".ruff_cache", ".venv", "node_modules"}

_C_TOKEN = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.DOTALL)
_LUA_TEXT = r'"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'|\[\[.*?\]\]'
_LUA_TOKEN = re.compile(rf"--\[\[.*?\]\]|--[^\n]*|(?P<text>{_LUA_TEXT})", re.DOTALL)


def root() -> Path:
    """The tree to look at: the first argument, else the repository that this file is in."""
    return Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).resolve().parents[2])


def files(top: Path, folders: list[str], suffixes: tuple[str, ...] = ()) -> Iterator[Path]:
    """Every file below the folders (where they exist) with one of the suffixes, sorted."""
    for folder in folders:
        for here, below, names in os.walk(top / folder):
            below[:] = sorted(d for d in below if d not in SKIPPED_FOLDERS)
            for name in sorted(names):
                path = Path(here) / name
                if (not suffixes or name.endswith(suffixes)) and path.is_file():
                    yield path


def _blank(text: str) -> str:
    return re.sub(r"[^\n]", " ", text)


def c_code(text: str) -> str:
    """C with comments and the insides of literals blanked; lines keep their numbers. #include lines keep their name."""

    def replace(match: re.Match[str]) -> str:
        start = text.rfind("\n", 0, match.start()) + 1
        if match.group().startswith('"') and text[start : match.start()].replace(" ", "") == "#include":
            return match.group()
        return _blank(match.group())

    return _C_TOKEN.sub(replace, text)


def lua_code(text: str) -> str:
    """Lua with comments blanked; strings stay, since names in them are names of fields."""
    return _LUA_TOKEN.sub(lambda m: m.group() if m.group("text") else _blank(m.group()), text)


class Report:
    """Collects findings; the exit code is 1 when there is one."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.lines: list[str] = []

    def add(self, path: Path, line: int, message: str) -> None:
        self.lines.append(f"{path.relative_to(self.top)}:{line}: {message}")

    def finish(self, looked_at: int) -> int:
        """A check that saw no file has checked nothing."""
        for line in self.lines:
            print(line)
        if not looked_at:
            print(f"{self.top}: holds no file that this check looks at")
        return 1 if self.lines or not looked_at else 0
