module github.com/iomapfs/iomapfs/bufhead/bridge

go 1.26.0

require (
	github.com/iomapfs/iomapfs/bufhead v0.0.0
	github.com/iomapfs/iomapfs/iomap v0.0.0
	github.com/iomapfs/iomapfs/vfs v0.0.0
	github.com/stretchr/testify v1.12.1
)

require (
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/sys v0.49.0 // indirect
)

replace (
	github.com/iomapfs/iomapfs/bufhead => ./..
	github.com/iomapfs/iomapfs/iomap => ../../iomap
	github.com/iomapfs/iomapfs/vfs => ../../vfs
)
