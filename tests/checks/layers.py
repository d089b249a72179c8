#!/usr/bin/env python3
"""Who may include whom, over every #include of src/.

Usage: layers.py [ROOT]

Three rules. A module includes only itself and what CMakeLists.txt names as its DEPS; and those are of lower layers, by
LAYERS here, so that no edit of CMakeLists.txt alone can turn the layers round. A header that ends in _priv.h stays in
its module. A library's headers stay in the files of LIBRARIES; a header that is neither there nor of the C library is
refused, so that a new dependency is a decision.
"""

from __future__ import annotations

import re
import sys
from fnmatch import fnmatch
from pathlib import Path

from tree import Report, c_code, files, root

# A module may use modules of smaller numbers only.
LAYERS = {
    "base": 0,
    "loop": 10,
    "http": 15,
    "model": 20,
    "xds": 25,
    "ca": 25,
    "inject": 26,
    "healthcheck": 26,
    "validate": 26,
    "kube": 28,
    "install": 30,
    "webhook": 30,
    "source": 30,
    "policy": 30,
    "reload": 35,
    "feedback": 36,
    "whatif": 36,
    "debug": 40,
    "app": 50,
    "cli": 50,
}

# Narrower than the module's own DEPS: (who, what it may not include, what it may all the same).
NARROWED = [
    ("src/policy/*", "xds/*", {"xds/snapshot.h", "xds/compose.h", "xds/secret.h", "xds/wire.h"}),
    ("src/model/*", "loop/*", set()),  # pure: no loop, no clock
]
# The state machine and what it stands on are pure; only the server has a loop.
PURE_XDS = ("src/xds/*", "src/xds/ads*")

# Header pattern -> the files that may include it.
LIBRARIES: list[tuple[str, tuple[str, ...]]] = [
    ("lua.h", ("src/policy/*",)),
    ("lauxlib.h", ("src/policy/*",)),
    ("lualib.h", ("src/policy/*",)),
    ("grpc/*", ("src/xds/ads*.c", "src/xds/ads_priv.h")),  # never ads.h: whoever includes it would depend on gRPC
    ("absl/*", ("src/xds/ads*.cc",)),
    ("openssl/*", ("src/ca/*", "src/http/*", "src/policy/files_digest.c", "src/xds/ads*.c", "src/xds/ads_priv.h")),
    ("curl/*", ("src/http/*",)),
    ("libwebsockets.h", ("src/http/*",)),
    ("yaml.h", ("src/base/yaml.c",)),
    ("protobuf-c/*", ("src/policy/encode/*", "src/xds/*")),
    ("envoy/*.pb-c.h", ("src/policy/encode/*", "src/xds/*")),
    ("google/*.pb-c.h", ("src/policy/encode/*", "src/xds/*")),
    ("envoy_api_index.h", ("src/policy/encode/*",)),
    ("uv.h", ("src/loop/*", "src/http/*", "src/source/*", "src/debug/*", "src/healthcheck/*")),
    ("histedit.h", ("src/cli/edit.c",)),
    ("xxhash.h", ("src/base/hash.c",)),
    ("re2/*", ("src/policy/sandbox/*.cc",)),
    ("jansson.h", ("src/*",)),
]

# fmt: off
SYSTEM = {
    "arpa/inet.h", "assert.h", "ctype.h", "dirent.h", "dlfcn.h", "elf.h", "errno.h", "execinfo.h", "fcntl.h", "fenv.h",
    "float.h", "getopt.h", "grp.h", "ifaddrs.h", "inttypes.h", "iso646.h", "libgen.h", "limits.h", "link.h", "locale.h",
    "malloc.h", "math.h", "memory", "net/if.h", "netdb.h", "netinet/in.h", "netinet/tcp.h", "new", "poll.h",
    "pthread.h", "pwd.h", "sched.h", "semaphore.h", "setjmp.h", "signal.h", "spawn.h", "stdalign.h", "stdarg.h",
    "stdatomic.h", "stdbool.h", "stddef.h", "stdint.h", "stdio.h", "stdlib.h", "stdnoreturn.h", "string", "string.h",
    "strings.h", "string_view", "sys/epoll.h", "sys/eventfd.h", "sys/file.h", "sys/inotify.h", "sys/ioctl.h",
    "sys/mman.h", "sys/mount.h", "sys/param.h", "sys/prctl.h", "sys/random.h", "sys/resource.h", "sys/select.h",
    "sys/socket.h", "sys/stat.h", "sys/statvfs.h", "sys/syscall.h", "sys/sysinfo.h", "sys/time.h", "sys/types.h",
    "sys/uio.h", "sys/un.h", "sys/utsname.h", "sys/wait.h", "sysexits.h", "syslog.h", "termios.h", "time.h", "unistd.h",
    "wchar.h", "wctype.h",
}
# fmt: on

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(["<])([^">]+)[">]', re.MULTILINE)


def declared(top: Path, report: Report) -> dict[str, set[str]]:
    """The DEPS of each osm_module() in CMakeLists.txt, held to LAYERS."""
    path = top / "CMakeLists.txt"
    deps: dict[str, set[str]] = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        match = re.match(r"osm_module\((\w+)(?:\s+DEPS\s+([\w\s]*?))?(?:\s+LIBS\b.*)?\)", line)
        if not match:
            continue
        name, below = match.group(1), set((match.group(2) or "").split())
        deps[name] = below
        for other in sorted({name, *below} - LAYERS.keys()):
            report.add(path, number, f"module {other} has no layer; give it one in tests/checks/layers.py")
        for other in sorted(below & LAYERS.keys()):
            if name in LAYERS and LAYERS[other] >= LAYERS[name]:
                report.add(path, number, f"{name} (layer {LAYERS[name]}) may not use {other} ({LAYERS[other]})")
    return deps


def check_own(report: Report, path: Path, line: int, module: str, header: str, deps: dict[str, set[str]]) -> None:
    where = path.relative_to(report.top).as_posix()
    target = header.split("/")[0]
    if target != module and target not in deps.get(module, set()):
        report.add(path, line, f'{module} may not include "{header}": {target} is not in its DEPS in CMakeLists.txt')
    elif target != module and header.endswith("_priv.h"):
        report.add(path, line, f'"{header}" is private to {target}')
    elif not (report.top / "src" / header).is_file():
        report.add(path, line, f'"{header}": there is no such file in src/')
    for who, what, spared in NARROWED:
        if fnmatch(where, who) and fnmatch(header, what) and target != module and header not in spared:
            allowed = ", ".join(sorted(spared)) or "nothing"
            report.add(path, line, f'"{header}": of {target}, {module} may include only {allowed}')
    impure = target == "loop" or header == "base/clock.h"
    if impure and fnmatch(where, PURE_XDS[0]) and not fnmatch(where, PURE_XDS[1]):
        report.add(path, line, f'"{header}": this part of xds is pure; only {PURE_XDS[1]} has a loop and a clock')


def check_library(report: Report, path: Path, line: int, header: str) -> None:
    where = path.relative_to(report.top).as_posix()
    for pattern, owners in LIBRARIES:
        if fnmatch(header, pattern):
            if not any(fnmatch(where, owner) for owner in owners):
                report.add(path, line, f"<{header}> is confined to {', '.join(owners)}")
            return
    if header not in SYSTEM:
        report.add(path, line, f"<{header}> is in no list of tests/checks/layers.py; say there who may include it")


def main() -> int:
    top = root()
    report = Report(top)
    deps = declared(top, report)
    count = 0
    for path in files(top, ["src"], (".c", ".h", ".cc")):
        count += 1
        parts = path.relative_to(top / "src").parts
        module = parts[0]
        text = c_code(path.read_text())
        if len(parts) < 2 or module not in deps:
            report.add(path, 1, "lies in no module that CMakeLists.txt names")
            continue
        for match in INCLUDE.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            quote, header = match.groups()
            if ".." in header.split("/"):
                report.add(path, line, f'"{header}": includes are written from src/, as "module/file.h"')
            elif quote == '"' and header.split("/")[0] in LAYERS:
                check_own(report, path, line, module, header, deps)
            else:
                check_library(report, path, line, header)
    return report.finish(count)


if __name__ == "__main__":
    sys.exit(main())
