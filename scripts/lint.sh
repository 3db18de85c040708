#!/usr/bin/env bash
# lint.sh MODULE…: gofumpt and staticcheck, of the versions in tools/go.mod, over the modules.
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$top/.build"
(cd "$top/tools" && GOWORK=off GOBIN="$top/.build" GOFLAGS=-mod=mod go install mvdan.cc/gofumpt honnef.co/go/tools/cmd/staticcheck)
cd "$top"
fail=0
out=$("$top/.build/gofumpt" -l "$@" | sort -u)
if [ -n "$out" ]; then
  echo "gofumpt would change (gofumpt -w does it):"
  echo "$out"
  fail=1
fi
for m in "$@"; do
  echo "staticcheck $m"
  (cd "$m" && GOWORK=off "$top/.build/staticcheck" ./...) || fail=1
done
exit $fail
