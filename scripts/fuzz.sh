#!/usr/bin/env bash
# fuzz.sh TIME MODULE…: runs every fuzz target of the modules for TIME.
set -eu
time=$1
shift
top=$(cd "$(dirname "$0")/.." && pwd)
n=0
for m in "$@"; do
  cd "$top/$m"
  while read -r file; do
    pkg=$(dirname "$file")
    for target in $(grep -ohE '^func Fuzz[A-Za-z0-9_]+' "$file" | cut -d' ' -f2); do
      echo "fuzz $m $pkg $target"
      go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "$pkg"
      n=$((n + 1))
    done
  done < <(find . -name '*_test.go' -not -path '*/testdata/*' | while read -r f; do
    # A nested module is run by its own turn.
    d=$(dirname "$f"); while [ "$d" != . ] && [ ! -e "$d/go.mod" ]; do d=$(dirname "$d"); done
    [ "$d" = . ] && grep -lE '^func Fuzz' "$f" || true
  done)
done
echo "$n fuzz targets"
