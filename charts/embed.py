"""Writes the definitions of charts/osm/crds as a C source: embed.py OUTPUT FILE..., each as one JSON text."""

import json
import pathlib
import sys

import yaml


def main() -> None:
    output, *files = sys.argv[1:]
    lines = ["/* Generated from charts/osm/crds by charts/embed.py. */", '#include "install/plan.h"', ""]
    rows = []
    for path in sorted(map(pathlib.Path, files)):
        crd = yaml.safe_load(path.read_text())
        text = json.dumps(crd, separators=(",", ":")).encode()
        symbol = f"text_{len(rows)}"
        lines.append(f"static const unsigned char {symbol}[] = {{")
        lines += ["    " + ",".join(map(str, text[at : at + 24])) + "," for at in range(0, len(text), 24)]
        lines.append("    0};")
        rows.append((crd["metadata"]["name"], symbol))
    lines.append("const struct osm_crd_file osm_crd_files[] = {")
    lines += [f'    {{"{name}", (const char *){symbol}}},' for name, symbol in rows]
    lines.append("    {0, 0}};")
    pathlib.Path(output).write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
