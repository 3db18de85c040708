package oracle

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"

	"github.com/iomapfs/iomapfs/fs/fat"
	"github.com/iomapfs/iomapfs/fs/fat/check"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block/file"
)

// fatAfterCrash are the findings that a crash may leave on FAT: nothing that costs a file, or that grows worse with use.
var fatAfterCrash = map[check.Code]bool{
	check.Lost: true, check.Info: true, check.FATCopies: true,
	check.LongChain: true, // clusters that a file was about to grow into
	check.LongName:  true, // parts of a name that lay in two sectors
}

// FATAfterCrash has our checker look at a FAT image that nobody unmounted: an error tells the first finding beyond what a crash
// may leave.
func FATAfterCrash(img string) error {
	f, err := os.Open(img)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	rep, err := check.Check(context.Background(), f, st.Size(), check.Options{})
	if err != nil {
		return err
	}
	for _, p := range rep.Problems {
		if p.Code == check.SameStart && underTwoNames(img, p.Where) {
			continue // between the two writes of a rename the file has both names
		}
		if !fatAfterCrash[p.Code] {
			return fmt.Errorf("check: %s", p)
		}
	}
	return nil
}

// underTwoNames reports whether another name leads to all of the file at that path: not to a part of it.
func underTwoNames(img, path string) bool {
	ctx := context.Background()
	dev, err := file.Open(img, file.Options{ReadOnly: true})
	if err != nil {
		return false
	}
	sb, err := fat.Type.Mount(ctx, dev, &vfs.MountOptions{ReadOnly: true, CacheBytes: 2 << 20, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		_ = dev.Close() // it is no file under two names, whatever it is
		return false
	}
	defer sb.Unmount(ctx) //nolint:errcheck // nothing was changed
	type place struct {
		start uint64
		size  int64
	}
	names := map[place][]string{}
	var walk func(dir *vfs.Inode, at string)
	walk = func(dir *vfs.Inode, at string) {
		f, err := dir.Open(ctx, vfs.ORdonly)
		if err != nil {
			return
		}
		defer f.Close()
		_ = f.ReadDir(ctx, 0, func(e *vfs.DirEntry) bool {
			ip, err := dir.Lookup(ctx, e.Name)
			if err != nil || e.Name == "." || e.Name == ".." {
				return true
			}
			defer ip.Put()
			p := at + "/" + e.Name
			if ip.IsDir() {
				walk(ip, p)
				return true
			}
			if start, err := ip.Bmap(ctx, 0); err == nil && start != 0 {
				names[place{start, ip.Size()}] = append(names[place{start, ip.Size()}], p)
			}
			return true
		})
	}
	walk(sb.Root, "")
	for _, all := range names {
		if len(all) == 2 && slices.Contains(all, path) {
			return true
		}
	}
	return false
}
