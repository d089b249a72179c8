#!/usr/bin/env python3
"""What no committed file may say, and how long a source file may be.

Usage: names.py [ROOT]

No path of one machine, no host of a package registry (mirrors are the machine's affair), no postponed work left in the
text, no source file over MAX_LINES (it is probably two).
"""

from __future__ import annotations

import re
import sys

from tree import Report, files, root

MAX_LINES = 700
SOURCE = (".c", ".h", ".cc", ".py", ".lua", ".sh")
BINARY = (".png", ".ico", ".gz", ".pb", ".woff2")

# Joined from halves, so that this file passes its own check.
_RULES = [
    (r"(?<![\w.$}~-])/" + r"work/", "path of one machine"),
    (r"/tmp/" + r"(?:wt|venv\w*|agents)\b", "path of one machine"),
    (r"(?<![\w.])/" + r"home/\w+/", "path of one machine"),
    (r"(?:pypi|pythonhosted|npmjs|crates|rubygems|luarocks)" + r"\.(?:org|io|com)\b", "host of a package registry"),
    (r"(?:proxy\.golang|sum\.golang)" + r"\.org\b", "host of a package registry"),
    (r"(?:deb|security|ftp)\." + r"debian\.org\b", "host of a package registry"),
    (r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X)\b(?!-)", "postponed work; do it, or say what is not supported"),
]
RULES = [(re.compile(pattern), why) for pattern, why in _RULES]


def main() -> int:
    top = root()
    report = Report(top)
    count = 0
    for path in files(top, ["."]):
        if path.name.endswith(BINARY) or path.name == ".git" or path.is_symlink():
            continue
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            report.add(path, 1, "is not UTF-8 text")
            continue
        count += 1
        lines = text.splitlines()
        for number, line in enumerate(lines, 1):
            for pattern, why in RULES:
                match = pattern.search(line)
                if match:
                    report.add(path, number, f"'{match.group()}': {why}")
        if (path.suffix in SOURCE or text.startswith("#!")) and len(lines) > MAX_LINES:
            report.add(path, len(lines), f"{len(lines)} lines; a source file has at most {MAX_LINES}")
    return report.finish(count)


if __name__ == "__main__":
    sys.exit(main())
