package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/iomapfs/iomapfs/cmd/internal/mountopt"
	"github.com/iomapfs/iomapfs/cmd/internal/term"
	"github.com/iomapfs/iomapfs/fs/all"
	"github.com/iomapfs/iomapfs/fs/ext2/mkfs"
	"github.com/iomapfs/iomapfs/images"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/block/file"
	"github.com/iomapfs/iomapfs/vfs/block/part"
	"github.com/spf13/cobra"
)

func (a *app) mkfsCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "mkfs TYPE IMAGE [SIZE]",
		Short: "Make a filesystem, empty or filled from a directory or tar",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage("usage: iomapfs mkfs TYPE IMAGE [SIZE]; the types are: ext2, fat")
			}
			return usage("mkfs: there is no type %q; the types are: ext2, fat", args[0])
		},
	}
	c.AddCommand(a.mkfsExt2Cmd(), a.mkfsFATCmd())
	return c
}

// mkfsFlags are the flags of mkfs ext2 as written.
type mkfsFlags struct {
	blockSize, inodeSize, ratio string
	uuid, from, owner, root     string
	table                       string
	force                       bool
	reserved                    float64
}

func (a *app) mkfsExt2Cmd() *cobra.Command {
	var f mkfsFlags
	var o mkfs.Options
	c := &cobra.Command{
		Use:   "ext2 [options] IMAGE [SIZE]",
		Short: "Make an ext2 filesystem, as mke2fs does",
		Long: `mkfs ext2 makes a filesystem in a new, sparse image file of SIZE, in a file that is there, in a partition (disk.img@2)
or on a block device. What holds something already is refused without --force.

With -d the filesystem is filled from a directory, or from a tar archive (plain, gzip, bzip2; - is standard input):
no root needed, owners and devices included. The same input gives the same bytes when -U is given and SOURCE_DATE_EPOCH
is set, which bounds all times.`,
		Example: `  iomapfs mkfs ext2 disk.img 64M
  iomapfs mkfs ext2 -L root -d ./rootfs disk.img 2G
  iomapfs mkfs ext2 --partition-table gpt -L root -d ./rootfs disk.img 2G
  docker export c | iomapfs mkfs ext2 -d - disk.img 1G`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.apply(&o, cmd.Flags().Changed("reserved")); err != nil {
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
			return a.mkfsExt2(cmd.Context(), args[0], size, &f, o)
		},
	}
	fl := c.Flags()
	fl.StringVarP(&f.blockSize, "block-size", "b", "", "1024, 2048 … 65536 (default: 1024 below 512M, else 4096)")
	fl.StringVarP(&f.inodeSize, "inode-size", "I", "", "128, 256 … 1024 (default 256)")
	fl.Uint32VarP(&o.Inodes, "inodes", "N", 0, "number of inodes (default: by size)")
	fl.StringVarP(&f.ratio, "inode-ratio", "i", "", "bytes of device for each inode")
	fl.Uint32VarP(&o.BlocksPerGroup, "blocks-per-group", "g", 0, "blocks of a group")
	fl.Float64VarP(&f.reserved, "reserved", "m", 5, "percent of blocks for root alone")
	fl.StringVarP(&o.Features, "features", "O", "", "features on or ^off, such as ^resize_inode,meta_bg")
	fl.StringVarP(&o.Label, "label", "L", "", "volume label, up to 16 bytes")
	fl.StringVarP(&f.uuid, "uuid", "U", "", "UUID (default: random)")
	fl.StringVarP(&f.from, "fill", "d", "", "directory or tar archive to fill from")
	fl.StringVar(&f.owner, "owner", "", "UID:GID of all that is filled in (default: as in the source)")
	fl.StringVar(&f.root, "root-owner", "", "UID:GID of the top directory (default: as in the source of -d, else 0:0)")
	fl.StringVar(&f.table, "partition-table", "", "gpt or mbr: SIZE is that of a disk, and the filesystem fills its one partition")
	fl.BoolVar(&f.force, "force", false, "replace what is there")
	return c
}

// apply turns flags into options.
func (f *mkfsFlags) apply(o *mkfs.Options, reserved bool) error {
	for _, n := range []struct {
		flag, val string
		to        *uint32
	}{{"-b", f.blockSize, &o.BlockSize}, {"-I", f.inodeSize, &o.InodeSize}, {"-i", f.ratio, &o.InodeRatio}} {
		if n.val == "" {
			continue
		}
		v, err := mountopt.ParseSize(n.val)
		if err != nil || v == 0 || v > 1<<31 {
			return usage("%s %s: want a number of bytes", n.flag, n.val)
		}
		*n.to = uint32(v)
	}
	if reserved {
		if o.Reserved = f.reserved; f.reserved == 0 {
			o.Reserved = -1 // none; 0 is the default
		} else if f.reserved < 0 || f.reserved > 50 {
			return usage("-m %s: want a percentage from 0 to 50", strconv.FormatFloat(f.reserved, 'g', -1, 64))
		}
	}
	if f.root != "" {
		uid, gid, err := parseOwner(f.root)
		if err != nil {
			return err
		}
		o.RootUID, o.RootGID = *uid, *gid
	}
	var err error
	if f.uuid != "" {
		if o.UUID, err = mkfs.ParseUUID(f.uuid); err != nil {
			return usage("-U %s: %w", f.uuid, err)
		}
	}
	if o.Time, err = mkfs.SourceDateEpoch(os.Getenv("SOURCE_DATE_EPOCH")); err != nil {
		return err
	}
	o.ClampTimes = !o.Time.IsZero()
	return nil
}

// ownRoot has the top directory belong to --root-owner, whatever fill made of it.
func (f *mkfsFlags) ownRoot(fill func(*mkfs.Builder) error, o *mkfs.Options) func(*mkfs.Builder) error {
	if fill == nil || f.root == "" {
		return fill
	}
	uid, gid := o.RootUID, o.RootGID
	return func(b *mkfs.Builder) error {
		if err := fill(b); err != nil {
			return err
		}
		b.ChownRoot(uid, gid)
		return nil
	}
}

// fill gives the Fill of -d, and what to close afterwards.
func (f *mkfsFlags) fill(stdin io.Reader) (func(*mkfs.Builder) error, func() error, error) {
	var owner *mkfs.Owner
	if f.owner != "" {
		uid, gid, err := parseOwner(f.owner)
		if err != nil {
			return nil, nil, err
		}
		owner = &mkfs.Owner{UID: *uid, GID: *gid}
	}
	nothing := func() error { return nil }
	switch {
	case f.from == "":
		return nil, nothing, nil
	case f.from == "-":
		return mkfs.FromTar(stdin, mkfs.TarOptions{Owner: owner}), nothing, nil
	}
	fi, err := os.Stat(f.from)
	if err != nil {
		return nil, nil, err
	}
	if fi.IsDir() {
		return mkfs.FromDir(f.from, mkfs.DirOptions{Owner: owner}), nothing, nil
	}
	tar, err := os.Open(f.from)
	if err != nil {
		return nil, nil, err
	}
	return mkfs.FromTar(tar, mkfs.TarOptions{Owner: owner}), tar.Close, nil
}

func (a *app) mkfsExt2(ctx context.Context, spec string, size int64, f *mkfsFlags, o mkfs.Options) (err error) {
	fill, done, err := f.fill(a.stdin)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	o.Fill = f.ownRoot(fill, &o)
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

	return a.mkfs(ctx, spec, size, &maker{
		name: "ext2", table: f.table, force: f.force, what: images.ForLinux, seed: o.UUID,
		file:   func(path string, size int64) error { _, err := mkfs.FormatFile(path, size, false, o); return err },
		format: func(w *images.Writer, size int64) error { _, err := mkfs.Format(w, size, o); return err },
		fit:    func(dev block.Device) error { return fitSectors(dev, &o) },
	})
}

// maker makes a filesystem of one kind.
type maker struct {
	name   string
	table  string // --partition-table
	force  bool
	what   images.Content                           // what its partition is for
	seed   [16]byte                                 // of the identifiers of disk and partition
	file   func(path string, size int64) error      // makes it in a new, sparse file
	format func(w *images.Writer, size int64) error // makes it on a device
	fit    func(dev block.Device) error             // adapts to the device's sectors, or refuses
}

// mkfs makes a filesystem in a new file, in what an image spec names, or on a disk of its own.
func (a *app) mkfs(ctx context.Context, spec string, size int64, m *maker) error {
	if m.table != "" {
		return a.mkfsOnDisk(spec, size, m)
	}
	if _, serr := os.Stat(spec); errors.Is(serr, os.ErrNotExist) && !isPartitionSpec(spec) {
		if size == 0 {
			return usage("%s does not exist: say how large it shall be (iomapfs mkfs %s %s 64M)", spec, m.name, spec)
		}
		return m.file(spec, size)
	}
	return a.mkfsInPlace(ctx, spec, size, m)
}

// mkfsOnDisk makes a partition table and a filesystem in its one partition.
func (a *app) mkfsOnDisk(path string, size int64, m *maker) (err error) {
	if isPartitionSpec(path) {
		return usage("--partition-table: %s is a partition already", path)
	}
	made, err := diskFile(path, size, m.name)
	if err != nil {
		return err
	}
	defer func() {
		if made && err != nil {
			err = errors.Join(err, os.Remove(path))
		}
	}()
	dev, err := file.Open(path, file.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dev.Close()) }()
	if what := holds(dev); what != "" && !m.force {
		return fmt.Errorf("%s: holds %s already (--force replaces it)", path, what)
	}
	p, err := images.WriteTable(dev, m.table, m.what, m.seed)
	if err != nil {
		return err
	}
	w, err := part.New(dev, p.Start, p.Size, fmt.Sprintf("%s@%d", path, p.Number))
	if err != nil {
		return err
	}
	if err := m.fit(w); err != nil {
		return err
	}
	if err := m.format(images.WriterAt(w), p.Size); err != nil {
		return err
	}
	return block.Flush(dev)
}

// fitSectors sees to blocks that are not smaller than the device's sectors: no driver would take the filesystem.
func fitSectors(dev block.Device, o *mkfs.Options) error {
	sector := dev.Limits().LogicalBlock
	switch {
	case o.BlockSize == 0 && sector > 1024:
		o.BlockSize = max(sector, 4096)
	case o.BlockSize != 0 && o.BlockSize < sector:
		return usage("-b %d: %s has sectors of %d bytes, and blocks must not be smaller", o.BlockSize, dev.Name(), sector)
	}
	return nil
}

// diskFile sees to an image file of size bytes at path: makes it, or lets it grow. made tells which.
func diskFile(path string, size int64, kind string) (made bool, err error) {
	fi, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist) && size == 0:
		return false, usage("%s does not exist: say how large it shall be (iomapfs mkfs %s --partition-table gpt %s 64M)", path, kind, path)
	case errors.Is(err, os.ErrNotExist):
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil {
			return false, err
		}
		return true, errors.Join(f.Truncate(size), f.Close())
	case err != nil:
		return false, err
	case size != 0 && fi.Mode().IsRegular() && fi.Size() < size:
		return false, os.Truncate(path, size)
	case size != 0 && fi.Size() != size:
		return false, fmt.Errorf("%s: has %d bytes, %d are asked for; leave SIZE out", path, fi.Size(), size)
	}
	return false, nil
}

// mkfsInPlace makes a filesystem in an image, partition or device that is there.
func (a *app) mkfsInPlace(ctx context.Context, spec string, size int64, m *maker) (err error) {
	if size > 0 {
		// A file may grow; a partition or device is as large as it is, which Format tells.
		if fi, err := os.Stat(spec); err == nil && fi.Mode().IsRegular() && fi.Size() < size {
			if err := os.Truncate(spec, size); err != nil {
				return err
			}
		}
	}
	dev, err := openWhole(ctx, spec)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dev.Close()) }()
	if size == 0 {
		size = dev.Size()
	}
	if size > dev.Size() {
		return fmt.Errorf("%s: has %d bytes, %d are asked for", spec, dev.Size(), size)
	}
	if !m.force {
		if what := holds(dev); what != "" {
			return fmt.Errorf("%s: holds %s already (--force replaces it)", spec, what)
		}
	}
	if err := m.fit(dev); err != nil {
		return err
	}
	if err := m.format(images.WriterAt(dev), size); err != nil {
		return err
	}
	return block.Flush(dev)
}

// holds names what a device holds, or "".
func holds(dev block.Device) string {
	if p, _, ok := all.Probe(dev); ok {
		s := p.Type
		if p.Label != "" {
			s += fmt.Sprintf(" (label %q)", p.Label)
		}
		return "a filesystem of type " + s
	}
	if s := all.Foreign(dev); s != "" {
		return s
	}
	return partitionTable(dev)
}

// isPartitionSpec reports whether a spec names a part of a file.
func isPartitionSpec(spec string) bool {
	file, _, ok := strings.Cut(spec, "@")
	if !ok {
		return false
	}
	_, err := os.Stat(file)
	return err == nil
}
