#!/usr/bin/env bash
# deps.sh [bench]: makes sure that what the tests, or the benchmarks, need is there. As root it installs by
# apt; otherwise it says what is missing and fails.
set -eu
export PATH=$PATH:/usr/sbin:/sbin

missing=()
need() { command -v "$1" >/dev/null 2>&1 || missing+=("$2"); }
need fusermount3 fuse3
need mke2fs e2fsprogs
need debugfs e2fsprogs
need e2fsck e2fsprogs
need setfattr attr
need setfacl acl
need losetup mount
need fsck.fat dosfstools
need mcopy mtools
need sfdisk fdisk
need linux.uml user-mode-linux
need insmod kmod # its modules
need gcc gcc     # its shim, fstests/oracle/testdata
[ -e /usr/include/stdio.h ] || missing+=(libc6-dev)
need mkfs.minix util-linux
case ${1:-} in
bench) need fuse2fs fuse2fs; need fusefat fusefat; need fio fio ;;
esac

if [ ${#missing[@]} -gt 0 ]; then
  mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "missing: ${missing[*]}" >&2
    echo "as root: apt-get install ${missing[*]}" >&2
    exit 1
  fi
  echo "installing: ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  log=$(mktemp)
  { apt-get update -q && apt-get install -qy --no-install-recommends "${missing[@]}"; } >"$log" 2>&1 || {
    tail -20 "$log" >&2
    exit 1
  }
  rm -f "$log"
fi

if [ ! -e /dev/fuse ] && [ "$(id -u)" = 0 ]; then
  modprobe fuse 2>/dev/null || true
  [ -e /dev/fuse ] || mknod -m 666 /dev/fuse c 10 229 2>/dev/null || true
fi
# In CI nothing may be skipped, so what would be skipped elsewhere fails here.
if [ "${CI:-}" = true ]; then
  [ "$(id -u)" = 0 ] || { echo "the mount tests need root" >&2; exit 1; }
  (: <>/dev/fuse) 2>/dev/null || { echo "the mount tests need /dev/fuse, and it does not open" >&2; exit 1; }
fi
