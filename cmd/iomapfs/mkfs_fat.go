package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/iomapfs/iomapfs/cmd/internal/mountopt"
	"github.com/iomapfs/iomapfs/cmd/internal/term"
	"github.com/iomapfs/iomapfs/fs/fat/codepage"
	"github.com/iomapfs/iomapfs/fs/fat/disk"
	"github.com/iomapfs/iomapfs/fs/fat/mkfs"
	"github.com/iomapfs/iomapfs/images"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/spf13/cobra"
)

// mkfsFATFlags are the flags of mkfs fat as written.
type mkfsFATFlags struct {
	width               uint8
	sectorSize, cluster string
	id, from, table     string
	codePage            int
	force, skip         bool
}

func (a *app) mkfsFATCmd() *cobra.Command {
	var f mkfsFATFlags
	var o mkfs.Options
	c := &cobra.Command{
		Use:     "fat [options] IMAGE [SIZE]",
		Aliases: []string{"vfat", "msdos"},
		Short:   "Make a FAT filesystem, as mkfs.fat does",
		Long: `mkfs fat makes a FAT12, FAT16 or FAT32 filesystem in a new, sparse image file of SIZE, in a file that is there, in a partition
(disk.img@2) or on a block device. What holds something already is refused without --force.

With -d the filesystem is filled from a directory. What FAT cannot store, such as symbolic links, is refused unless --skip is
given. The same input gives the same bytes when -i is given and SOURCE_DATE_EPOCH is set.`,
		Example: `  iomapfs mkfs fat stick.img 64M
  iomapfs mkfs fat -F 32 -n EFI -d ./esp esp.img 100M
  iomapfs mkfs fat --partition-table mbr -n CAMERA -d ./pictures card.img 2G`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.apply(&o); err != nil {
				return err
			}
			var size int64
			if len(args) == 2 {
				n, err := mountopt.ParseSize(args[1])
				if err != nil {
					return usage("SIZE: %w", err)
				}
				size = n
			}
			return a.mkfsFAT(cmd.Context(), args[0], size, &f, o)
		},
	}
	fl := c.Flags()
	fl.Uint8VarP(&f.width, "fat-size", "F", 0, "12, 16 or 32 (default: by size)")
	fl.StringVarP(&f.sectorSize, "sector-size", "S", "", "512, 1024, 2048 or 4096 (default 512)")
	fl.StringVarP(&f.cluster, "cluster-size", "b", "", "bytes of a cluster, up to 128 sectors (default: by size)")
	fl.Uint32VarP(&o.FATs, "fats", "f", 2, "copies of the FAT")
	fl.Uint32VarP(&o.RootEntries, "root-entries", "r", 0, "entries of the root directory of FAT12 and FAT16 (default 512)")
	fl.Uint32VarP(&o.Reserved, "reserved", "R", 0, "sectors before the FATs (default 1, or 32 on FAT32)")
	fl.Uint8VarP(&o.Media, "media", "M", 0xF8, "media byte")
	fl.BoolVarP(&o.NoAlign, "no-align", "a", false, "do not put structures at multiples of the cluster size")
	fl.StringVarP(&o.Label, "label", "n", "", "volume label, up to 11 characters")
	fl.StringVarP(&f.id, "id", "i", "", "volume id, as 1234-ABCD (default: random)")
	fl.IntVar(&f.codePage, "codepage", codepage.Default, "code page of short names and label")
	fl.StringVarP(&f.from, "fill", "d", "", "directory to fill from")
	fl.BoolVar(&f.skip, "skip", false, "leave out what FAT cannot store")
	fl.StringVar(&f.table, "partition-table", "", "gpt or mbr: SIZE is that of a disk, and the filesystem fills its one partition")
	fl.BoolVar(&f.force, "force", false, "replace what is there")
	return c
}

// apply turns flags into options.
func (f *mkfsFATFlags) apply(o *mkfs.Options) error {
	o.Width = disk.Width(f.width)
	for _, n := range []struct {
		flag, val string
		to        *uint32
	}{{"-S", f.sectorSize, &o.SectorSize}, {"-b", f.cluster, &o.ClusterSize}} {
		if n.val == "" {
			continue
		}
		v, err := mountopt.ParseSize(n.val)
		if err != nil || v == 0 || v > 1<<20 {
			return usage("%s %s: want a number of bytes", n.flag, n.val)
		}
		*n.to = uint32(v)
	}
	if f.id != "" {
		id, err := mkfs.ParseSerial(f.id)
		if err != nil {
			return usage("-i %s: want eight hexadecimal digits, as 1234-ABCD", f.id)
		}
		o.Serial = &id
	}
	cp, err := codepage.Find(f.codePage)
	if err != nil {
		return usage("--codepage %d: %w", f.codePage, err)
	}
	o.CodePage, o.Zone = cp, time.Local
	if epoch := os.Getenv("SOURCE_DATE_EPOCH"); epoch != "" {
		sec, err := strconv.ParseInt(epoch, 10, 64)
		if err != nil {
			return usage("SOURCE_DATE_EPOCH %q: want seconds since 1970", epoch)
		}
		o.Time, o.Zone = time.Unix(sec, 0), time.UTC
		o.ClampTimes = true
	}
	if f.from != "" {
		var d mkfs.DirOptions
		if f.skip {
			d.Special = func(string, fs.FileInfo) error { return nil }
		}
		o.Fill = mkfs.FromDir(f.from, d)
	}
	return nil
}

func (a *app) mkfsFAT(ctx context.Context, spec string, size int64, f *mkfsFATFlags, o mkfs.Options) error {
	ctx, stop := interruptible(ctx)
	defer stop()
	var last atomic.Pointer[mkfs.Progress]
	last.Store(&mkfs.Progress{})
	o.Progress = func(p mkfs.Progress) error {
		last.Store(&p)
		return ctx.Err()
	}
	show := term.StartProgress(a.stderr, func() string {
		p := last.Load()
		return fmt.Sprintf("%d files, %s  %s", p.Nodes, term.Size(p.Bytes), term.Printable(p.Path))
	})
	defer show.Stop()
	m := &maker{
		name: "fat", table: f.table, force: f.force, what: images.ForFAT,
		file:   func(path string, size int64) error { _, err := mkfs.FormatFile(path, size, false, o); return err },
		format: func(w *images.Writer, size int64) error { _, err := mkfs.Format(w, size, o); return err },
		fit: func(dev block.Device) error {
			sector := uint32(dev.Limits().LogicalBlock)
			if o.SectorSize == 0 {
				o.SectorSize = max(sector, 512)
			} else if o.SectorSize < sector {
				return usage("-S %d: %s has sectors of %d bytes", o.SectorSize, dev.Name(), sector)
			}
			return nil
		},
	}
	if o.Serial != nil {
		binary.LittleEndian.PutUint32(m.seed[:], *o.Serial)
	}
	return a.mkfs(ctx, spec, size, m)
}
