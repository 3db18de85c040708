module github.com/iomapfs/iomapfs/vfs/fuse

go 1.26.0

require (
	github.com/hanwen/go-fuse/v2 v2.12.1
	github.com/stretchr/testify v1.12.1
	go.uber.org/goleak v1.3.0
	golang.org/x/sync v0.24.0
	golang.org/x/sys v0.49.0
)

require (
	github.com/iomapfs/iomapfs/vfs v0.0.0
	go.yaml.in/yaml/v3 v3.0.5 // indirect
)

replace github.com/iomapfs/iomapfs/vfs => ./..
