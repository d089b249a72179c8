"""Writes the trusted Lua runtime (lua/mesh/*.lua) as a C source: embed.py OUTPUT FILE..."""

import pathlib
import sys


def main() -> None:
    output, *files = sys.argv[1:]
    lines = ["/* Generated from lua/mesh/ by lua/embed.py. */", '#include "policy/runtime.h"', ""]
    names = []
    for file in sorted(map(pathlib.Path, files)):
        text = file.read_bytes()
        names.append((file.stem, len(text)))
        lines.append(f"static const unsigned char text_{file.stem}[] = {{")
        for at in range(0, len(text), 24):
            lines.append("    " + ",".join(map(str, text[at : at + 24])) + ",")
        lines.append("    0};")
    lines.append("const struct osm_runtime_module osm_runtime_modules[] = {")
    for name, size in names:
        lines.append(f'    {{"mesh.{name}", (const char *)text_{name}, {size}}},')
    lines.append("    {0, 0, 0}};")
    pathlib.Path(output).write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
