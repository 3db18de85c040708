module github.com/iomapfs/iomapfs/iomap

go 1.26.0

require github.com/iomapfs/iomapfs/vfs v0.0.0

require golang.org/x/sys v0.49.0 // indirect

replace github.com/iomapfs/iomapfs/vfs => ../vfs
