module github.com/iomapfs/iomapfs/bufhead

go 1.26.0

require (
	github.com/iomapfs/iomapfs/vfs v0.0.0
	github.com/stretchr/testify v1.12.1
)

require (
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/sys v0.49.0 // indirect
)

replace github.com/iomapfs/iomapfs/vfs => ../vfs
