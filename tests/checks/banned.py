#!/usr/bin/env python3
"""Functions that this project does not call.

Usage: banned.py [ROOT]

Comments and strings do not count. Each rule says why, where it holds, and which files are spared.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from fnmatch import fnmatch

from tree import Report, c_code, files, lua_code, root


@dataclass(frozen=True)
class Rule:
    names: str
    why: str
    spared: tuple[str, ...] = ()
    tests_too: bool = False


_LUA_LOADERS = "luaL_openlibs luaL_dofile luaL_loadfile luaL_loadfilex luaL_dostring"
_MEMORY = "malloc calloc realloc reallocarray free strdup strndup asprintf vasprintf"

C_RULES = [
    Rule("strcpy strncpy stpcpy strcat strncat sprintf vsprintf gets", "no bound: use base/buf.h", (), True),
    Rule("strtok", "keeps state between calls: write a loop", (), True),
    Rule("atoi atol atoll atof strtol sscanf", "hides errors and overflow: use a parser that says so", (), True),
    Rule("rand srand random", "predictable: use OpenSSL's or getrandom"),
    Rule("localtime gmtime ctime asctime", "static buffer: use the _r form", (), True),
    Rule("assert", "use OSM_REQUIRE, OSM_CHECK or OSM_DCHECK of base/check.h"),
    Rule("abort", "use OSM_REQUIRE", ("src/base/check.c",)),
    Rule("exit quick_exit", "return to main", ("src/base/check.c", "src/*/main.c")),
    Rule(_MEMORY, "use base/mem.h", ("src/base/mem.c",)),
    Rule("uv_default_loop", "the loop is passed in"),
    Rule(_LUA_LOADERS, "opens what the sandbox keeps shut; load text from memory"),
    Rule(
        "setlocale uselocale", "numbers and the order of texts in Lua would depend on the machine", ("src/cli/edit.c",)
    ),
    Rule("system popen", "a shell reads it: use posix_spawn with a list", (), True),
]
# A member or a qualified name is another function; a declaration `void free(` has a type before it and is one of ours.
CALL = r"(?<![\w.>:])(?:{})\s*\("

LUA_RULES = [
    ("policies", r"\b__gc\b", "finalisers run with the budget's hook off"),
    ("policies", r"\b__mode\b", "weak tables answer by the collector's clock"),
]


def main() -> int:
    top = root()
    report = Report(top)
    count = 0
    compiled = [(rule, re.compile(CALL.format("|".join(rule.names.split())))) for rule in C_RULES]
    for path in files(top, ["src", "tests"], (".c", ".h", ".cc")):
        count += 1
        where = path.relative_to(top).as_posix()
        code = c_code(path.read_text()).replace("->", " >")
        for rule, pattern in compiled:
            if (where.startswith("tests/") and not rule.tests_too) or any(fnmatch(where, p) for p in rule.spared):
                continue
            for match in pattern.finditer(code):
                name = match.group().rstrip("(").strip()
                report.add(path, code.count("\n", 0, match.start()) + 1, f"{name}(): {rule.why}")
    for folder, expression, why in LUA_RULES:
        for path in files(top, [folder], (".lua",)):
            code = lua_code(path.read_text())
            for match in re.finditer(expression, code):
                report.add(path, code.count("\n", 0, match.start()) + 1, f"{match.group()}: {why}")
    return report.finish(count)


if __name__ == "__main__":
    sys.exit(main())
