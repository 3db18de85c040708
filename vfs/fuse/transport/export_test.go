//go:build linux

package transport

import "github.com/hanwen/go-fuse/v2/fuse"

// SetPayload makes ring entries of n bytes: too few, and the kernel refuses to register them.
func SetPayload(o *Options, n int) { o.payload = n }

// MountByHelper makes later mounts of this test binary go through fusermount3, as for people who are not root.
func MountByHelper(on bool) { alwaysHelper = on }

// SetOnline has Mount think that only these CPUs are online.
func SetOnline(o *Options, cpus ...int) { o.online = cpus }

// ParseCPUList is parseCPUList.
var ParseCPUList = parseCPUList

// Answer has a request answered without go-fuse's server; ok is false for one that goes through it.
func Answer(fs fuse.RawFileSystem, cancel <-chan struct{}, op uint32, request, body []byte) (n int, st fuse.Status, ok bool) {
	c := &conn{fs: fs, onPanic: func(any) fuse.Status { return fuse.EIO }}
	args, ok := c.isDirect(op, wire.Uint64(request[offNode:]))
	if ok = ok && len(request) >= inHeaderSize+args; !ok {
		return 0, fuse.OK, false
	}
	n, st = c.answer(cancel, op, request[:inHeaderSize+args], request[inHeaderSize+args:], body)
	return n, st, true
}
