package minix

import "github.com/iomapfs/iomapfs/vfs"

// iomapTable puts the iomap side of an operation in the table where the paths say so. Here nothing is ported: that is the course.
func (fs *fsys) iomapTable(*tables, vfs.Paths) {}
