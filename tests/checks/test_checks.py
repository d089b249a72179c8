"""Each check is fed a tree that it must pass and trees that it must not, so that none can pass by looking away."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
REPO = HERE.parents[1]

CMAKE = """osm_module(base LIBS Threads::Threads)
osm_module(loop DEPS base LIBS PkgConfig::libuv)
osm_module(model DEPS base)
osm_module(xds DEPS model loop base LIBS PkgConfig::grpc)
osm_module(policy DEPS xds model loop base)
"""

# A tree that every check passes.
CLEAN = {
    "CMakeLists.txt": CMAKE,
    "src/base/err.h": "#pragma once\nstruct osm_err {\n    int code;\n};\n"
    "int osm_fail(struct osm_err *err, int code, const char *fmt, ...);\n",
    "src/base/a.c": '#include "base/err.h"\n\n#include <string.h>\n\n'
    "/* free(strcpy) and exit() in a comment */\n"
    'const char *osm_a(void);\nconst char *osm_a(void)\n{\n    return "malloc(1); assert(0)";\n}\n',
    "src/model/m.h": "#pragma once\n",
    "policies/a.lua": "local M = {}\n-- no __gc here\nfunction M.f(mesh) return mesh end\nreturn M\n",
    "tool": '#!/usr/bin/env bash\necho "$1"\n',
    "tool.py": '"""Nothing."""\n',
}

# check, file, text, what it must say
VIOLATIONS = [
    ("layers", "src/model/m.c", '#include "loop/loop.h"\n', 'src/model/m.c:1: model may not include "loop/loop.h"'),
    ("layers", "src/base/b.c", '\n#include "model/m.h"\n', "src/base/b.c:2: base may not include"),
    ("layers", "src/base/b.c", '#include "../model/m.h"\n', 'written from src/, as "module/file.h"'),
    ("layers", "src/base/b.c", '#include "base/gone.h"\n', "there is no such file"),
    ("layers", "src/base/b.c", "#include <lua.h>\n", "src/base/b.c:1: <lua.h> is confined to src/policy"),
    ("layers", "src/policy/p.c", "#include <grpc/grpc.h>\n", "<grpc/grpc.h> is confined to"),
    ("layers", "src/xds/ads.h", "#include <grpc/grpc.h>\n", "<grpc/grpc.h> is confined to"),
    ("layers", "src/xds/x.c", "  #  include <openssl/ssl.h>\n", "<openssl/ssl.h> is confined to"),
    ("layers", "src/model/m.c", "#include <uv.h>\n", "<uv.h> is confined to"),
    ("layers", "src/base/b.c", "#include <yaml.h>\n", "<yaml.h> is confined to src/base/yaml.c"),
    ("layers", "src/base/b.c", "#include <unheard_of.h>\n", "is in no list"),
    ("layers", "src/stray/b.c", "int x;\n", "src/stray/b.c:1: lies in no module"),
    ("layers", "src/policy/p.c", '#include "model/m_priv.h"\n', "is private to model"),
    ("layers", "src/policy/p.c", '#include "xds/stream.h"\n', "policy may include only"),
    ("layers", "src/xds/stream.c", '#include "loop/loop.h"\n', "this part of xds is pure"),
    (
        "layers",
        "CMakeLists.txt",
        CMAKE + "osm_module(ca DEPS policy base)\n",
        "CMakeLists.txt:6: ca (layer 25)",
    ),
    ("layers", "CMakeLists.txt", CMAKE + "osm_module(odd DEPS base)\n", "module odd has no layer"),
    ("banned", "src/base/b.c", "void f(void)\n{\n    strcpy(a, b);\n}\n", "src/base/b.c:3: strcpy()"),
    ("banned", "src/base/b.c", "int x = atoi (s);\n", "src/base/b.c:1: atoi()"),
    ("banned", "src/base/b.c", "/* x */ free(p);\n", "free(): use base/mem.h"),
    ("banned", "src/base/b.c", 'char *s = "\\""; free(p); // "\n', "free(): use base/mem.h"),
    ("banned", "src/base/b.c", "char c = '\"'; abort();\n", "abort()"),
    ("banned", "src/base/b.h", "#define X assert(1)\n", "assert()"),
    ("banned", "src/cli/c.c", "exit(1);\n", "exit(): return to main"),
    ("banned", "src/loop/l.c", "uv_default_loop();\n", "uv_default_loop()"),
    ("banned", "src/policy/p.c", "luaL_openlibs(L);\n", "luaL_openlibs()"),
    ("banned", "src/policy/p.cc", "auto p = malloc(1);\n", "malloc()"),
    ("banned", "tests/unit/base/test_b.c", "sprintf(a, b);\n", "tests/unit/base/test_b.c:1: sprintf()"),
    ("banned", "policies/b.lua", "local t = {}\nt.__gc = 1\n", "policies/b.lua:2: __gc"),
    ("banned", "policies/b.lua", 'local t = { ["__mode"] = "k" }\n', "__mode"),
    ("names", "doc.md", "see /wo" + "rk/x\n", "doc.md:1: '/wo" + "rk/'"),
    ("names", "doc.md", "a\nin /tmp/w" + "t/ca\n", "doc.md:2:"),
    ("names", "doc.md", "https://pypi" + ".org/x\n", "host of a package registry"),
    ("names", "src/base/b.c", "/* TO" + "DO later */\n", "src/base/b.c:1:"),
    ("names", "src/base/b.c", "int x;\n" * 701, "src/base/b.c:701: 701 lines"),
    ("names", "runner", "#!/bin/sh\n" + "true\n" * 700, "runner:701: 701 lines"),
    ("names", "blob.txt", b"\xff\xfe\x00", "is not UTF-8"),
    ("format", "src/base/b.c", "int  x;\n", "src/base/b.c:1:"),
    ("format", "tests/unit/base/test_b.h", "int  x;\n", "tests/unit/base/test_b.h:1:"),
    ("lua", "policies/b.lua", "x = 1\n", "policies/b.lua:1:1: (W111)"),
    ("lua", "policies/b.lua", "return os.time()\n", "accessing undefined variable 'os'"),
    ("lua", "policies/b.lua", "return math.random()\n", "undefined field 'random'"),
    ("lua", "spec/a_spec.lua", "local unused = 1\n", "(W211)"),
    ("lua", "lua/b.lua", "return function( end\n", "lua/b.lua:1:"),
    ("shell", "broken", "#!/bin/bash\nls $undefined_thing |\n", "broken:"),
    ("shell", "sub/careless", '#!/usr/bin/env bash\ncd "$1"\nrm -rf -- *\n', "sub/careless:2:"),
    ("shell", "posix", "#!/bin/sh\n[[ a == b ]]\n", "posix:2:"),
    ("python", "b.py", "import os\n", "b.py:1:8: F401"),
    ("python", "script", "#!/usr/bin/env python3\nimport os\n", "script:2:8: F401"),
]

SCRIPTS = {"layers": "py", "banned": "py", "names": "py", "tidy": "py"}


def plant(top: Path, files: dict[str, str | bytes]) -> None:
    for name, text in files.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(text, bytes):
            path.write_bytes(text)
        else:
            path.write_text(text)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    plant(tmp_path, CLEAN)
    for name in (".clang-format", ".clang-tidy", ".luacheckrc"):
        (tmp_path / name).write_text((REPO / name).read_text())
    return tmp_path


def run(check: str, top: Path) -> tuple[int, str]:
    suffix = SCRIPTS.get(check, "sh")
    command = [str(HERE / f"{check}.{suffix}"), str(top)]
    if suffix == "py":
        command.insert(0, sys.executable)
    environment = os.environ | {"OSM_PYTHON": sys.executable}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("check", ["layers", "banned", "names", "format", "lua", "shell", "python"])
def test_a_clean_tree_passes(check: str, tree: Path) -> None:
    code, said = run(check, tree)
    assert (code, said) == (0, "") or (check == "lua" and code == 0), said


@pytest.mark.parametrize(
    ("check", "name", "text", "message"),
    VIOLATIONS,
    ids=[f"{check}-{number}" for number, (check, *_) in enumerate(VIOLATIONS)],
)
def test_a_violation_is_found_and_placed(check: str, name: str, text: str | bytes, message: str, tree: Path) -> None:
    plant(tree, {name: text})
    code, said = run(check, tree)
    assert code == 1, said
    assert message in said


@pytest.mark.parametrize("check", ["layers", "banned", "names", "format", "lua", "shell", "python"])
def test_an_empty_tree_is_no_pass(check: str, tmp_path: Path) -> None:
    plant(tmp_path, {"CMakeLists.txt": "", "blob.png": b""})
    if check == "names":
        (tmp_path / "CMakeLists.txt").unlink()
    code, _ = run(check, tmp_path)
    assert code != 0


@pytest.mark.parametrize("check", ["format", "lua", "shell", "python", "tidy"])
def test_a_missing_tool_is_no_pass(check: str, tree: Path) -> None:
    tools = tree / "tools"
    tools.mkdir()
    for name in ("bash", "dirname", "find", "sort", "sh", "head", "grep"):
        for folder in os.environ["PATH"].split(os.pathsep):
            if (Path(folder) / name).exists():
                (tools / name).symlink_to(Path(folder) / name)
                break
    environment = {"PATH": str(tools), "OSM_PYTHON": "none/python"}
    suffix = SCRIPTS.get(check, "sh")
    command = [sys.executable] * (suffix == "py") + [str(HERE / f"{check}.{suffix}"), str(tree)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 1
    assert "not installed" in done.stdout + done.stderr


def test_a_file_in_a_build_folder_does_not_count(tree: Path) -> None:
    plant(tree, {"build/dev/x.py": "import os\n", "src/base/build/x.c": "free(p);\n"})
    assert run("python", tree)[0] == 0
    assert run("banned", tree)[0] == 0


def test_members_and_spared_files_may_have_banned_names(tree: Path) -> None:
    plant(
        tree,
        {
            "src/base/mem.c": "void f(void *p)\n{\n    free(p);\n}\n",
            "src/base/b.c": "void f(struct x *x)\n{\n    x->free(x);\n    y.free(x);\n    osm_free(x);\n}\n",
            "src/cli/main.c": "exit(1);\n",
        },
    )
    assert run("banned", tree) == (0, "")


@pytest.fixture
def compiled(tree: Path) -> Callable[[dict[str, str]], Path]:
    """Plants sources and says in build/dev how they would be compiled."""

    def make(sources: dict[str, str]) -> Path:
        plant(tree, sources)
        listed = list((tree / "src").rglob("*.c"))
        commands = [
            {"directory": str(tree), "file": str(p), "command": f"cc -Isrc -c {p}", "output": p.name} for p in listed
        ]
        (tree / "build/dev").mkdir(parents=True, exist_ok=True)
        (tree / "build/dev/compile_commands.json").write_text(json.dumps(commands, indent=1))
        return tree

    return make


def test_tidy_passes_a_clean_tree_and_then_remembers_it(compiled: Callable[[dict[str, str]], Path]) -> None:
    top = compiled({})
    assert run("tidy", top) == (0, "")
    stamps = {p: p.stat().st_mtime_ns for p in (top / "build/dev/tidy").iterdir()}
    assert len(stamps) == 1
    assert run("tidy", top) == (0, "")
    assert {p: p.stat().st_mtime_ns for p in (top / "build/dev/tidy").iterdir()} == stamps


_F = "int f(int *p);\nint f(int *p)\n{\n"
TIDY_VIOLATIONS = [
    (_F + "    if (p)\n        *p = 1;\n    return *p;\n}\n", "b.c:6:12: error: Dereference"),
    ("#include <stdio.h>\n" + _F + '    fopen("a", "r");\n    return *p;\n}\n', "[cert-err33-c"),
    ("#include <string.h>\n" + _F + "    memset(p, '0', 4);\n    return *p;\n}\n", "[bugprone-suspicious-memset"),
    (_F + "    return *p == *p;\n}\n", "[misc-redundant-expression"),
]


@pytest.mark.parametrize(("text", "message"), TIDY_VIOLATIONS)
def test_tidy_finds_a_bug_every_time(text: str, message: str, compiled: Callable[[dict[str, str]], Path]) -> None:
    top = compiled({"src/base/b.c": text})
    for _ in range(2):
        code, said = run("tidy", top)
        assert code == 1
        assert message in said


def test_tidy_knows_that_osm_fail_is_a_failure(compiled: Callable[[dict[str, str]], Path]) -> None:
    text = """#include "base/err.h"
static int get(int ok, int *out, struct osm_err *err)
{
    if (!ok)
        return osm_fail(err, -1, "no");
    *out = 1;
    return 0;
}
int f(int ok, struct osm_err *err);
int f(int ok, struct osm_err *err)
{
    int n;
    int rc = get(ok, &n, err);
    return rc ? rc : n;
}
"""
    assert run("tidy", compiled({"src/base/b.c": text})) == (0, "")


def test_tidy_refuses_a_file_that_is_not_compiled(compiled: Callable[[dict[str, str]], Path]) -> None:
    top = compiled({})
    plant(top, {"src/base/late.c": "int x;\n"})
    code, said = run("tidy", top)
    assert code != 0
    assert "src/base/late.c:1: is not compiled" in said


def test_tidy_looks_again_when_a_header_below_changes(compiled: Callable[[dict[str, str]], Path]) -> None:
    top = compiled({"src/base/b.c": '#include "base/b.h"\n', "src/base/b.h": '#include "base/err.h"\n'})
    assert run("tidy", top)[0] == 0
    text = str(CLEAN["src/base/err.h"]) + "static inline int g(int a)\n{\n    return a == a;\n}\n"
    plant(top, {"src/base/err.h": text})
    code, said = run("tidy", top)
    assert code == 1
    assert "err.h" in said


def test_tidy_looks_again_when_the_checks_change(compiled: Callable[[dict[str, str]], Path]) -> None:
    top = compiled({"src/base/b.c": "int f(int a);\nint f(int a)\n{\n    return a == a;\n}\n"})
    checks = (top / ".clang-tidy").read_text()
    (top / ".clang-tidy").write_text("Checks: '-*,bugprone-posix-return'\n")
    assert run("tidy", top) == (0, "")
    (top / ".clang-tidy").write_text(checks)
    assert run("tidy", top)[0] == 1


def test_tidy_needs_a_configured_build(tree: Path) -> None:
    code, said = run("tidy", tree)
    assert code == 1
    assert "configure first" in said


def test_run_says_one_line_per_check_and_shows_only_what_failed(compiled: Callable[[dict[str, str]], Path]) -> None:
    top = compiled({"src/base/b.c": "void f(void *p);\nvoid f(void *p)\n{\n    free(p);\n}\n"})
    environment = os.environ | {"OSM_PYTHON": sys.executable}
    command = [str(HERE / "run"), str(top)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    lines = done.stdout.splitlines()
    assert done.returncode == 1
    assert sorted(line.split(" (")[0] for line in lines if line.startswith("check ")) == [
        "check banned: FAILED",
        "check docs: FAILED",
        "check format: ok",
        "check layers: ok",
        "check lua: ok",
        "check names: ok",
        "check python: ok",
        "check shell: ok",
        "check tidy: ok",
    ]
    assert "    src/base/b.c:4: free(): use base/mem.h" in lines


@pytest.fixture
def documented(tree: Path) -> Path:
    """A tree whose page is what a command says that stands in for `osm`."""
    command = '#!/bin/sh\n[ "$*" = "policy docs policies" ] && echo "the page"\n'
    plant(tree, {"build/dev/osm": command, "policies/README.md": "the page\n"})
    (tree / "build/dev/osm").chmod(0o755)
    return tree


def test_docs_passes_the_page_that_the_command_writes(documented: Path) -> None:
    assert run("docs", documented) == (0, "")


def test_docs_refuses_another_page_and_names_the_command(documented: Path) -> None:
    plant(documented, {"policies/README.md": "an older page\n"})
    code, said = run("docs", documented)
    assert code == 1
    assert "-an older page\n+the page\n" in said
    assert "Update it: build/dev/osm policy docs policies > policies/README.md" in said


def test_docs_refuses_a_missing_page_a_command_that_fails_and_one_that_is_not_there(documented: Path) -> None:
    (documented / "policies/README.md").unlink()
    assert run("docs", documented)[0] == 1
    plant(documented, {"policies/README.md": "", "build/dev/osm": "#!/bin/sh\nexit 1\n"})
    assert run("docs", documented)[0] == 1
    (documented / "build/dev/osm").unlink()
    code, said = run("docs", documented)
    assert code == 1
    assert "build first" in said
