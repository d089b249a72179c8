#!/usr/bin/env bash
# ruff over all Python, by tests/ruff.toml. Usage: python.sh [ROOT]
config=$(cd "$(dirname "$0")/.." && pwd)/ruff.toml
# shellcheck source=tests/checks/common.sh
. "$(dirname "$0")/common.sh"
# The tests' environment has it; a ruff on the path will do where there is none.
ruff=$(dirname "${OSM_PYTHON:-none/}")/ruff
[ -x "$ruff" ] || ruff=ruff
need "$ruff"
mapfile -t list < <(tree_files \( -name '*.py' -o -exec sh -c 'head -c 64 "$1" | head -n 1 | grep -qa "^#!.*python"' sh {} \; \))
need_files ${#list[@]} "Python file"
"$ruff" check --no-cache --quiet --output-format=concise --config "$config" "${list[@]}" || exit 1
