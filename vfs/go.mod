module github.com/iomapfs/iomapfs/vfs

go 1.26
