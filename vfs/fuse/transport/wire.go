//go:build linux

package transport

import (
	"encoding/binary"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// Operation numbers that the transport itself looks at (include/uapi/linux/fuse.h).
const (
	opLookup        = 1
	opForget        = 2
	opGetattr       = 3
	opSetattr       = 4
	opMkdir         = 9
	opUnlink        = 10
	opRmdir         = 11
	opOpen          = 14
	opRead          = 15
	opWrite         = 16
	opStatfs        = 17
	opRelease       = 18
	opFsync         = 20
	opGetxattr      = 22
	opInit          = 26
	opOpendir       = 27
	opReleasedir    = 29
	opFsyncDir      = 30
	opSetLkw        = 33
	opCreate        = 35
	opInterrupt     = 36
	opBmap          = 37
	opDestroy       = 38
	opIoctl         = 39
	opNotifyReply   = 41
	opBatchForget   = 42
	opFallocate     = 43
	opLseek         = 46
	opCopyFileRange = 47
	opSyncFS        = 50
)

// Sizes of the fixed headers, and offsets in them.
//
//	fuse_in_header            fuse_out_header
//	 0 len     4 opcode        0 len   4 error (negative errno)
//	 8 unique  16 nodeid       8 unique
//	24 uid    28 gid
//	32 pid    36 total_extlen
const (
	inHeaderSize  = 40
	outHeaderSize = 16

	offOpcode = 4
	offUnique = 8
	offNode   = 16
	offPid    = 32
	offError  = 4

	offReadSize = 16 // in fuse_read_in
)

// minReadBuffer is the smallest buffer the kernel fills on /dev/fuse, and the smallest payload of a ring entry.
const minReadBuffer = 8192

var wire = binary.NativeEndian

// putReply writes a fuse_out_header with n bytes of body behind it.
func putReply(h []byte, unique uint64, st fuse.Status, n int) {
	wire.PutUint32(h, uint32(outHeaderSize+n))
	wire.PutUint32(h[offError:], uint32(-int32(st)))
	wire.PutUint64(h[offUnique:], unique)
}

// hook answers the request with a hook if there is one for op. args is the operation's fixed struct,
// body is where a reply's body goes.
func (hk *Hooks) hook(op uint32, node uint64, args, body []byte) (n int, st fuse.Status, ok bool) {
	switch {
	case op == opBmap && hk.Bmap != nil:
		if len(args) < 16 || len(body) < 8 {
			return 0, fuse.EIO, true
		}
		block, st := hk.Bmap(node, wire.Uint64(args), wire.Uint32(args[8:]))
		if !st.Ok() {
			return 0, st, true
		}
		wire.PutUint64(body, block)
		return 8, fuse.OK, true
	case op == opSyncFS && hk.SyncFS != nil:
		return 0, hk.SyncFS(), true
	case op == opDestroy && hk.Destroy != nil:
		hk.Destroy()
		return 0, fuse.OK, true
	}
	return 0, 0, false
}
