package minix

import "github.com/iomapfs/iomapfs/vfs"

// Ported lists the operations that have an iomap side, which is then the default. Steps of the course add to it.
var Ported = []vfs.PathOp{}

// hasBridge says that get_block can be answered by begin.
const hasBridge = false
