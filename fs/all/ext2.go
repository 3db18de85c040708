package all

import (
	"fmt"
	"strings"
	"time"

	"github.com/iomapfs/iomapfs/fs/ext2"
	"github.com/iomapfs/iomapfs/fs/ext2/disk"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

var ext2Kind = Kind{Type: ext2.Type, Aliases: []string{"ext3"}, Info: ext2Info, Check: ext2Check, Map: ext2Map}

// ext2Super reads the superblock of an ext2 device.
func ext2Super(dev block.Device) (*disk.Superblock, error) {
	// Devices with sectors of 4 KiB cannot be read at byte 1024.
	var buf [disk.SuperOffset + 3*disk.SuperSize]byte
	if dev.Size() < int64(len(buf)) {
		return nil, fmt.Errorf("%s: %d bytes are too few for ext2: %w", dev.Name(), dev.Size(), errno.INVAL)
	}
	if err := block.ReadAt(dev, buf[:], 0); err != nil {
		return nil, err
	}
	sb, err := disk.DecodeSuperblock(buf[disk.SuperOffset:])
	if err != nil {
		return nil, &errno.CorruptError{Dev: dev.Name(), Struct: "superblock", Addr: disk.SuperOffset, Why: err.Error()}
	}
	return &sb, nil
}

func ext2Info(dev block.Device) (*Info, error) {
	sb, err := ext2Super(dev)
	if err != nil {
		return nil, err
	}
	g, err := disk.NewGeometry(sb, dev.Size())
	if err != nil {
		return nil, &errno.CorruptError{Dev: dev.Name(), Struct: "superblock", Addr: disk.SuperOffset, Why: err.Error()}
	}
	state := "clean"
	switch {
	case sb.Incompat&disk.IncompatRecover != 0:
		state = "journal needs recovery (run e2fsck -p)"
	case sb.State&disk.StateErrors != 0:
		state = "errors were found (run e2fsck)"
	case !sb.Clean():
		state = "not cleanly unmounted (run e2fsck -p)"
	}
	in := &Info{Type: "ext2", Label: sb.Label(), UUID: uuid(sb.UUID), State: state, Features: sb.FeatureNames()}
	bs := int64(g.BlockSize)
	in.add("revision", fmt.Sprintf("%d.%d", sb.Revision, sb.MinorRevision), "")
	in.add("size", int64(g.Blocks)*bs, "bytes")
	in.add("block size", bs, "bytes")
	in.add("blocks", g.Blocks, "")
	in.add("free blocks", sb.FreeBlocks, "")
	in.add("reserved blocks", sb.ReservedBlocks, "")
	in.add("first data block", uint32(g.FirstDataBlock), "")
	in.add("groups", g.Groups, "")
	in.add("blocks per group", g.BlocksPerGroup, "")
	in.add("reserved descriptor blocks", g.ReservedGDT, "")
	in.add("inodes", g.Inodes, "")
	in.add("free inodes", sb.FreeInodes, "")
	in.add("inodes per group", g.InodesPerGroup, "")
	in.add("inode size", g.InodeSize, "bytes")
	in.add("largest file", g.MaxFileSize(), "bytes")
	in.add("directory hash", sb.DefHashVersion.String(), "")
	in.add("hash seed", seed(sb.HashSeed), "")
	in.add("last mounted on", sb.LastMountedOn(), "")
	in.add("made", stamp(sb.MkfsTime), "")
	in.add("last mounted", stamp(sb.MountTime), "")
	in.add("last written", stamp(sb.WriteTime), "")
	in.add("last checked", stamp(sb.LastCheck), "")
	in.add("mounts since check", sb.MountCount, "")
	in.add("errors behaviour", errorsBehaviour(sb.Errors), "")
	if sb.ErrorCount > 0 {
		in.add("errors seen", sb.ErrorCount, "")
		in.add("last error", stamp(sb.LastErrorTime), "")
	}
	return in, nil
}

func (in *Info) add(name string, v any, unit string) {
	in.Fields = append(in.Fields, Field{name, v, unit})
}

func uuid(u [16]byte) string {
	if u == [16]byte{} {
		return ""
	}
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

func seed(s disk.HashSeed) string {
	var b strings.Builder
	for _, w := range s {
		fmt.Fprintf(&b, "%08x", w)
	}
	return b.String()
}

// stamp writes a time of the superblock; "" for never. UTC, as the medium knows no zone.
func stamp(t uint32) string {
	if t == 0 {
		return ""
	}
	return time.Unix(int64(t), 0).UTC().Format(time.RFC3339)
}

func errorsBehaviour(e uint16) string {
	switch e {
	case disk.ErrorsContinue, disk.ErrorsUnspec:
		return "continue"
	case disk.ErrorsRemountRO:
		return "remount-ro"
	case disk.ErrorsPanic:
		return "panic"
	}
	return fmt.Sprint(e)
}
