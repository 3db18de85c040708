#!/usr/bin/env bash
# demo.sh BINARY: shows iomapfs at work on an image made by mke2fs. Everything happens in a temporary directory.
set -eu
bin=$(readlink -f "$1")
export PATH=$PATH:/usr/sbin:/sbin

if [ ! -e /dev/fuse ]; then
  echo "no /dev/fuse here, so nothing can be mounted; iomapfs doctor says:" >&2
  "$bin" doctor || true
  exit 1
fi
if [ "$(id -u)" != 0 ] && ! command -v fusermount3 >/dev/null; then
  echo "mounting without root needs fusermount3: apt install fuse3, or run make demo as root" >&2
  exit 1
fi

dir=$(mktemp -d /tmp/iomapfs-demo.XXXXXX)
mkdir "$dir/mnt" "$dir/bin"
ln -s "$bin" "$dir/bin/iomapfs"
PATH=$dir/bin:$PATH
cleanup() {
  cd /
  if mountpoint -q "$dir/mnt"; then iomapfs umount --lazy "$dir/mnt" || true; fi
  rm -rf "$dir"
}
trap cleanup EXIT
cd "$dir"

if [ -t 1 ]; then bold=$'\e[1m' green=$'\e[32m' off=$'\e[0m'; else bold='' green='' off=''; fi
title() { printf '\n%s== %s%s\n' "$bold" "$1" "$off"; }
run() { printf '%s$ %s%s\n' "$green" "$1" "$off"; eval "$1"; }

title "A real ext2 image, made by e2fsprogs"
run 'mke2fs -q -t ext2 -b 4096 -L demo disk.img 64M'
run 'iomapfs probe disk.img'

title "Mounted through FUSE, read-write"
run 'iomapfs mount disk.img mnt'
run 'iomapfs status'
run 'df -h mnt | tail -1'

title "Worked in with ordinary tools"
run 'mkdir -p mnt/home/user && cp -r /etc/default mnt/home/user/'
run 'echo "hello from the host" > mnt/hello.txt && cat mnt/hello.txt'
run 'ln mnt/hello.txt mnt/hard && ln -s hello.txt mnt/soft && ls -li mnt | tail -n +2'
run 'chmod 640 mnt/hello.txt && { setfattr -n user.note -v "kept on disk" mnt/hello.txt && getfattr -d mnt/hello.txt; }'
run 'truncate -s 20M mnt/sparse && printf "an island" | dd of=mnt/sparse bs=1M seek=10 conv=notrunc status=none && du -h --apparent-size mnt/sparse && du -h mnt/sparse'
run 'dd if=/dev/urandom of=mnt/big bs=1M count=24 status=none && sync -f mnt/big && sha256sum < mnt/big | tee sum'

title "Where the bytes lie: FIEMAP of mounted files, which the kernel does not carry to FUSE"
run 'iomapfs fiemap mnt/big'
run 'iomapfs seek mnt/sparse'

title "Unmounted; the image is closed when the command returns"
run 'iomapfs umount --wait mnt && ls -A mnt | wc -l'

title "The judge: e2fsprogs"
run 'e2fsck -fn disk.img'
run 'debugfs -R "cat /hello.txt" disk.img 2>/dev/null'

title "The same file on both paths: buffer heads and iomap"
for path in legacy iomap; do
  run "iomapfs mount -o ro,path=$path disk.img mnt && iomapfs fiemap mnt/big | tail -n +2 > $path.txt && sha256sum < mnt/big | diff - sum && iomapfs umount --wait mnt"
done
run 'diff legacy.txt iomap.txt && echo "the same extents, the same bytes"'

title "Looked into without mounting: no root, no FUSE"
run 'iomapfs ls -l disk.img'
run 'iomapfs fiemap disk.img /big | tail -n +2 | head -4'
run 'iomapfs cat disk.img /big | sha256sum | diff - sum && echo "the same bytes"'
run 'iomapfs cp disk.img:/hello.txt back.txt && cat back.txt'
run 'echo "put in from outside" > in.txt && iomapfs cp in.txt disk.img:/home/user/ && iomapfs check disk.img'
run 'e2fsck -fn disk.img | tail -1'
printf '\n%sDone.%s iomapfs --help shows the rest.\n' "$bold" "$off"
