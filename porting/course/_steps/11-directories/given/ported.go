package minix

import "github.com/iomapfs/iomapfs/vfs"

// Ported lists the operations that have an iomap side, which is then the default. Steps of the course add to it.
var Ported = []vfs.PathOp{vfs.OpFiemap, vfs.OpSeek, vfs.OpBmap, vfs.OpSwap, vfs.OpDirectRead, vfs.OpDirectWrite, vfs.OpBufferedRead, vfs.OpBufferedWrite, vfs.OpWriteback, vfs.OpFault, vfs.OpZero, vfs.OpDir}

// hasBridge says that get_block can be answered by begin.
const hasBridge = true
