package minix

// The steps of the course are laid over this package, and import the library and the bridge.
import (
	_ "github.com/iomapfs/iomapfs/bufhead/bridge"
	_ "github.com/iomapfs/iomapfs/iomap"
)
