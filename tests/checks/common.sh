# What the shell checks share: the tree to look at, and tools that must be there. Sourced, not run.
# shellcheck shell=bash
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "${1:-$here/../..}"

need() { # need PROGRAM: a check whose tool is missing has failed
  command -v "$1" >/dev/null || { echo "$1: not installed; tests/setup installs it" >&2; exit 1; }
}

need_files() { # need_files COUNT WHAT: a check that saw no file has checked nothing
  [ "$1" -gt 0 ] || { echo "$PWD: holds no $2" >&2; exit 1; }
}

# tree_files FIND_TEST...: files below the tree that pass, without build folders and caches; sorted, one a line
tree_files() {
  find . \( -name .git -o -name build -o -name __pycache__ -o -name '.*_cache' -o -name .venv \) -prune -o -type f "$@" -print | sort
}
