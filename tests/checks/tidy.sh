#!/usr/bin/env bash
# clang-tidy with the checks of .clang-tidy over the sources of src/, as they are compiled in build/dev.
# Usage: tidy.sh [ROOT]. A file whose text, headers and checks are those of the last clean run is not read again
# (build/dev/tidy holds a stamp per file). Findings are shown without the path that leads to them; to see it:
# clang-tidy -p build/dev FILE
# shellcheck source=tests/checks/common.sh
. "$(dirname "$0")/common.sh"
need clang-tidy
database=build/dev/compile_commands.json
[ -e "$database" ] || { echo "$PWD/$database: not there; configure first: tests/setup" >&2; exit 1; }
mapfile -t list < <(cd src && find . -type f \( -name '*.c' -o -name '*.cc' \) | sort)
need_files ${#list[@]} "source in src/"
stamps=build/dev/tidy
mkdir -p "$stamps"
# A change of any header or of the checks makes every stamp old: finer is not worth the trouble.
helper=$here/analyzer.h
common=$({ cat .clang-tidy "$database" "$helper"; find src -name '*.h' -print0 | sort -z | xargs -0 cat; } | sha256sum | cut -c1-32)

one() { # one FILE: prints findings; leaves a stamp when there is none
  local file=src/${1#./} stamp sum
  sum=$common$(sha256sum <"$file" | cut -c1-32)
  stamp=$stamps/${file//\//_}
  [ "$(cat "$stamp" 2>/dev/null)" != "$sum" ] || return 0
  if ! grep -qF "$file\"" "$database"; then
    echo "$file:1: is not compiled in build/dev"
    return 1
  fi
  local said extra=()
  case $file in src/base/err.c | *.cc) ;; *) extra=(--extra-arg=-include --extra-arg="$helper") ;; esac
  if said=$(clang-tidy -p build/dev --quiet --warnings-as-errors='*' "${extra[@]}" "$file" 2>/dev/null); then
    echo "$sum" >"$stamp"
  else
    grep -E ': (error|warning): ' <<<"$said" | sed "s|^$PWD/||" | sort -u || echo "$file:1: clang-tidy failed: $said"
    return 1
  fi
}
export -f one
export stamps common database helper
printf '%s\n' "${list[@]}" | xargs -P "$(nproc)" -I{} bash -c 'one {}' || exit 1
