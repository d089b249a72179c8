#!/usr/bin/env bash
# luacheck over the policies, the runtime and the specs, by .luacheckrc. Usage: lua.sh [ROOT]
# shellcheck source=tests/checks/common.sh
. "$(dirname "$0")/common.sh"
need luacheck
mapfile -t list < <(tree_files -name '*.lua')
need_files ${#list[@]} "Lua file"
luacheck --quiet --no-color --codes "${list[@]#./}" || exit 1
