#!/usr/bin/env bash
# policies/README.md is what the code says: the page that `osm policy docs` of build/dev writes. Usage: docs.sh [ROOT]
# shellcheck source=tests/checks/common.sh
. "$(dirname "$0")/common.sh"
command=(build/dev/osm policy docs policies)
[ -x "${command[0]}" ] || { echo "policies/README.md:1: cannot be checked: there is no ${command[0]}; build first" >&2; exit 1; }
page=$(mktemp)
trap 'rm -f "$page"' EXIT
"${command[@]}" >"$page"
diff -u --label policies/README.md --label "${command[*]}" policies/README.md "$page" >&2 && exit 0
echo "policies/README.md:1: is not what the code says. Update it: ${command[*]} > policies/README.md" >&2
exit 1
