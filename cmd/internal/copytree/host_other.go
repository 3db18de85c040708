//go:build !linux && !darwin

package copytree

import (
	"io"
	"os"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

const openNoBlock = 0

// attrOf knows no owners, links or file numbers on this host.
func attrOf(fi os.FileInfo) Attr { return plainAttr(fi) }

func listXattrs(string) ([]Xattr, error) { return nil, nil }

func setXattr(string, Xattr) error { return errno.OPNOTSUPP }

// setTimes leaves symbolic links alone: the host would follow them.
func setTimes(path string, atime, mtime vfs.Time) error {
	if fi, err := os.Lstat(path); err != nil || fi.Mode()&os.ModeSymlink != 0 {
		return err
	}
	return os.Chtimes(path, atime.Std(), mtime.Std())
}

func mknod(string, uint32, vfs.Dev) error { return errno.OPNOTSUPP }

func nextData(f *os.File, pos int64) (int64, int64, error) {
	fi, err := f.Stat()
	if err != nil {
		return 0, 0, err
	}
	if pos >= fi.Size() {
		return 0, 0, io.EOF
	}
	return pos, fi.Size(), nil
}

// ignoreUnsupported drops the error of an operation that the host does not have at all.
func ignoreUnsupported(error) error { return nil }
