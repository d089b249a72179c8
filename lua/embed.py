"""Writes the trusted Lua runtime as a C source: embed.py OUTPUT FILE... A module is named by folder and file: mesh.id."""

import pathlib
import sys


def main() -> None:
    output, *files = sys.argv[1:]
    lines = ["/* Generated from lua/ by lua/embed.py. */", '#include "policy/runtime.h"', ""]
    names = []
    for file in sorted(map(pathlib.Path, files)):
        text = file.read_bytes()
        name = (file.parent.name, file.stem)
        names.append((name, len(text)))
        lines.append(f"static const unsigned char text_{'_'.join(name)}[] = {{")
        for at in range(0, len(text), 24):
            lines.append("    " + ",".join(map(str, text[at : at + 24])) + ",")
        lines.append("    0};")
    lines.append("const struct osm_runtime_module osm_runtime_modules[] = {")
    for name, size in names:
        lines.append(f'    {{"{".".join(name)}", (const char *)text_{"_".join(name)}, {size}}},')
    lines.append("    {0, 0, 0}};")
    pathlib.Path(output).write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
