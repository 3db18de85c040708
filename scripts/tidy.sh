#!/usr/bin/env bash
# tidy.sh: go mod tidy in every module, with a relative replace for each module of this repository that it needs.
set -eu
cd "$(dirname "$0")/.."
export GOWORK=off
prefix=github.com/iomapfs/iomapfs/
modules=$(find . -name go.mod -not -path './tools/*' -printf '%h\n' | sed 's#^\./##' | sort)
for m in $modules; do
  for r in $modules; do
    [ "$r" = "$m" ] && continue
    to=$(realpath --relative-to="$m" "$r")
    case $to in ../*) ;; *) to=./$to ;; esac
    (cd "$m" && go mod edit -replace "$prefix$r=$to")
  done
  (cd "$m" && go mod tidy)
  for r in $modules; do
    grep -q "$prefix$r v0" "$m/go.mod" || (cd "$m" && go mod edit -dropreplace "$prefix$r")
  done
  sed -i "s/ v0.0.0-00010101000000-000000000000/ v0.0.0/" "$m/go.mod"
  (cd "$m" && go mod edit -fmt)
done
