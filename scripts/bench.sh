#!/usr/bin/env bash
# Compares iomapfs with fuse2fs and the kernel, side by side. Arguments after the program go to the bench command.
set -eu
bin=$(realpath "$1"); shift
cd "$(dirname "$0")/../fstests"
go build -o ../bin/bench ./bench
exec ../bin/bench -bin "$bin" "$@"
