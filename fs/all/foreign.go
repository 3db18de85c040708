package all

import (
	"bytes"

	"github.com/iomapfs/iomapfs/vfs/block"
)

// signatures of what people point at by mistake: bytes at an offset.
var signatures = []struct {
	off   int64
	magic string
	name  string
}{
	{0, "XFSB", "an XFS filesystem"},
	{3, "NTFS    ", "an NTFS filesystem"},
	{3, "EXFAT   ", "an exFAT filesystem"},
	{0x10040, "_BHRfS_M", "a Btrfs filesystem"},
	{0, "hsqs", "a squashfs image"},
	{32769, "CD001", "an ISO 9660 image"},
	{1024, "\xe2\xe1\xf5\xe0", "an EROFS image"},
	{1024, "\x10\x20\xf5\xf2", "an F2FS filesystem"},
	{4086, "SWAPSPACE2", "swap space"},
	{0, "LUKS\xba\xbe", "an encrypted LUKS volume (open it with cryptsetup first)"},
	{512, "LABELONE", "an LVM physical volume (activate it with vgchange first)"},
	{0, "QFI\xfb", "a qcow2 image (qemu-img convert makes it raw)"},
	{0, "KDMV", "a VMDK image (qemu-img convert makes it raw)"},
	{0, "conectix", "a VHD image (qemu-img convert makes it raw)"},
	{0, "vhdxfile", "a VHDX image (qemu-img convert makes it raw)"},
	{0, "\x1f\x8b", "gzip-compressed data (gunzip it first)"},
	{0, "\xfd7zXZ\x00", "xz-compressed data (unxz it first)"},
	{0, "\x28\xb5\x2f\xfd", "zstd-compressed data (unzstd it first)"},
	{0, "BZh", "bzip2-compressed data (bunzip2 it first)"},
	{257, "ustar", "a tar archive (iomapfs mkfs ext2 -d makes a filesystem of it)"},
}

// Foreign names what a device holds that no filesystem of this repository reads, or "".
func Foreign(dev block.Device) string {
	const window = 4096
	var buf [window]byte
	for _, s := range signatures {
		at := s.off &^ (window - 1)
		n := min(window, dev.Size()-at)
		if n < s.off-at+int64(len(s.magic)) {
			continue
		}
		n &^= int64(dev.Limits().LogicalBlock) - 1
		if block.ReadAt(dev, buf[:n], at) != nil {
			continue
		}
		if bytes.HasPrefix(buf[s.off-at:n], []byte(s.magic)) {
			return s.name
		}
	}
	return ""
}
