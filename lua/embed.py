"""Writes the trusted Lua runtime and the texts for authors as a C source: embed.py OUTPUT FILE...

A file of lua/meta/ or spec/ is a text, by its own name; one below lua/init/ a file of a new folder of policies, by its
path there; any other is a module, named by folder and file: mesh.id.
Modules that are to be required (lua/mesh/) have doc comments; for those that are written in C, a Lua file of lua/meta/
other than mesh.lua has them. A line {lua/...} of a Markdown text stands for that file.
"""

import pathlib
import re
import sys

INCLUDE = re.compile(rb"^\{(lua/[\w/.]+)\}\n", re.MULTILINE)


def read(path: pathlib.Path) -> bytes:
    text = path.read_bytes()
    if path.suffix != ".md":
        return text
    top = path.resolve().parents[2]
    return INCLUDE.sub(lambda match: (top / match.group(1).decode()).read_bytes(), text)


def main() -> None:
    output, *files = sys.argv[1:]
    lines = ["/* Generated from lua/ by lua/embed.py. */", '#include "policy/sandbox/runtime.h"', ""]
    arrays: dict[str, list[tuple[str, str, int]]] = {"modules": [], "texts": [], "docs": [], "init": []}
    for path in sorted(map(pathlib.Path, files)):
        text = read(path)
        folder = path.parent.name
        below = path.as_posix().partition("/lua/init/")[2]
        symbol = "text_" + re.sub(r"\W", "_", f"{folder}_{path.name}")
        lines.append(f"static const unsigned char {symbol}[] = {{")
        for at in range(0, len(text), 24):
            lines.append("    " + ",".join(map(str, text[at : at + 24])) + ",")
        lines.append("    0};")
        if below:
            arrays["init"].append((below, symbol, len(text)))
        elif folder in ("meta", "spec"):
            arrays["texts"].append((path.name, symbol, len(text)))
        else:
            arrays["modules"].append((f"{folder}.{path.stem}", symbol, len(text)))
        if folder == "mesh" or (folder == "meta" and path.suffix == ".lua" and path.stem != "mesh"):
            arrays["docs"].append((f"mesh.{path.stem}", symbol, len(text)))
    for array, rows in arrays.items():
        lines.append(f"const struct osm_runtime_module osm_runtime_{array}[] = {{")
        lines += [f'    {{"{name}", (const char *){symbol}, {size}}},' for name, symbol, size in sorted(rows)]
        lines.append("    {0, 0, 0}};")
    pathlib.Path(output).write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
