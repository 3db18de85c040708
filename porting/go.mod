module github.com/iomapfs/iomapfs/porting

go 1.26.0

require (
	github.com/iomapfs/iomapfs/bufhead v0.0.0
	github.com/iomapfs/iomapfs/bufhead/bridge v0.0.0
	github.com/iomapfs/iomapfs/fstests v0.0.0
	github.com/iomapfs/iomapfs/iomap v0.0.0
	github.com/iomapfs/iomapfs/vfs v0.0.0
	github.com/stretchr/testify v1.12.1
)

require (
	github.com/iomapfs/iomapfs/fs/fat v0.0.0 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/text v0.30.0 // indirect
)

replace (
	github.com/iomapfs/iomapfs/bufhead => ../bufhead
	github.com/iomapfs/iomapfs/fstests => ../fstests
	github.com/iomapfs/iomapfs/vfs => ../vfs
)

replace github.com/iomapfs/iomapfs/iomap => ../iomap

replace github.com/iomapfs/iomapfs/bufhead/bridge => ../bufhead/bridge

replace github.com/iomapfs/iomapfs/fs/fat => ../fs/fat
