module github.com/iomapfs/iomapfs/fstests

go 1.26.0

require (
	github.com/iomapfs/iomapfs/fs/all v0.0.0
	github.com/iomapfs/iomapfs/fs/ext2 v0.0.0
	github.com/iomapfs/iomapfs/iomap v0.0.0
	github.com/iomapfs/iomapfs/vfs v0.0.0
	github.com/stretchr/testify v1.12.1
	golang.org/x/sys v0.49.0
)

require (
	github.com/iomapfs/iomapfs/bufhead/bridge v0.0.0 // indirect
	github.com/iomapfs/iomapfs/fs/fat v0.0.0
	golang.org/x/text v0.30.0 // indirect
)

require (
	github.com/hanwen/go-fuse/v2 v2.12.1
	github.com/iomapfs/iomapfs/bufhead v0.0.0
	github.com/iomapfs/iomapfs/vfs/fuse v0.0.0
	go.yaml.in/yaml/v3 v3.0.5 // indirect
)

replace (
	github.com/iomapfs/iomapfs/bufhead => ../bufhead
	github.com/iomapfs/iomapfs/fs/ext2 => ../fs/ext2
	github.com/iomapfs/iomapfs/vfs => ../vfs
	github.com/iomapfs/iomapfs/vfs/fuse => ../vfs/fuse
)

replace github.com/iomapfs/iomapfs/bufhead/bridge => ../bufhead/bridge

replace github.com/iomapfs/iomapfs/iomap => ../iomap

replace github.com/iomapfs/iomapfs/fs/all => ../fs/all

replace github.com/iomapfs/iomapfs/fs/fat => ../fs/fat
