module github.com/iomapfs/iomapfs/fs/all

go 1.26.0
