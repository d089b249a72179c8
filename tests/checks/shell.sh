#!/usr/bin/env bash
# Lints every script whose first line names a shell, and every *.sh, by shellcheck.
# Usage: shell.sh [ROOT]
# shellcheck source=tests/checks/common.sh
. "$(dirname "$0")/common.sh"
need shellcheck
mapfile -t list < <(tree_files | while IFS= read -r file; do
  case $file in *.sh) echo "$file"; continue ;; esac
  IFS= read -r first <"$file" || true
  case ${first:-} in '#!'*/sh | '#!'*/sh\ * | '#!'*bash | '#!'*bash\ *) echo "$file" ;; esac
done 2>/dev/null)
need_files ${#list[@]} "shell script"
shellcheck -x --severity=warning --format=gcc "${list[@]#./}" || exit 1
