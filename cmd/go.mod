module github.com/iomapfs/iomapfs/cmd

go 1.26.0

require (
	github.com/iomapfs/iomapfs/fstests v0.0.0
	github.com/iomapfs/iomapfs/porting v0.0.0
	github.com/stretchr/testify v1.12.1
	pgregory.net/rapid v1.3.0
)

require (
	github.com/cpuguy83/go-md2man/v2 v2.0.6 // indirect
	github.com/diskfs/go-diskfs v1.9.4 // indirect
	github.com/google/uuid v1.6.0 // indirect
	github.com/hanwen/go-fuse/v2 v2.12.1 // indirect
	github.com/inconshreveable/mousetrap v1.1.0 // indirect
	github.com/iomapfs/iomapfs/bufhead v0.0.0 // indirect
	github.com/iomapfs/iomapfs/bufhead/bridge v0.0.0 // indirect
	github.com/iomapfs/iomapfs/fs/fat v0.0.0 // indirect
	github.com/iomapfs/iomapfs/iomap v0.0.0 // indirect
	github.com/russross/blackfriday/v2 v2.1.0 // indirect
	github.com/spf13/pflag v1.0.9 // indirect
	golang.org/x/text v0.30.0 // indirect
)

require (
	github.com/iomapfs/iomapfs/fs/all v0.0.0
	github.com/iomapfs/iomapfs/fs/ext2 v0.0.0
	github.com/iomapfs/iomapfs/images v0.0.0
	github.com/iomapfs/iomapfs/vfs v0.0.0
	github.com/iomapfs/iomapfs/vfs/fuse v0.0.0
	github.com/spf13/cobra v1.10.2
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/sys v0.49.0
)

replace github.com/iomapfs/iomapfs/vfs => ../vfs

replace github.com/iomapfs/iomapfs/vfs/fuse => ../vfs/fuse

replace github.com/iomapfs/iomapfs/fs/all => ../fs/all

replace github.com/iomapfs/iomapfs/fs/ext2 => ../fs/ext2

replace github.com/iomapfs/iomapfs/bufhead => ../bufhead

replace github.com/iomapfs/iomapfs/fstests => ../fstests

replace github.com/iomapfs/iomapfs/images => ../images

replace github.com/iomapfs/iomapfs/bufhead/bridge => ../bufhead/bridge

replace github.com/iomapfs/iomapfs/iomap => ../iomap

replace github.com/iomapfs/iomapfs/porting => ../porting

replace github.com/iomapfs/iomapfs/fs/fat => ../fs/fat
