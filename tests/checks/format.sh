#!/usr/bin/env bash
# Layout of C and C++ by .clang-format. Usage: format.sh [ROOT]. To repair: clang-format -i FILE
# shellcheck source=tests/checks/common.sh
. "$(dirname "$0")/common.sh"
need clang-format
mapfile -t list < <(tree_files \( -name '*.c' -o -name '*.h' -o -name '*.cc' \))
need_files ${#list[@]} "C file"
clang-format --dry-run -Werror --ferror-limit=1 "${list[@]}" || exit 1
