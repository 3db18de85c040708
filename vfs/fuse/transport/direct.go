//go:build linux

package transport

import (
	"bytes"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// The commonest operations are answered here, by calling the filesystem without go-fuse's server in between: that allocates
// a structure of a kilobyte for each request, and clearing it, and collecting it, costs more than a look-up does. What a
// filesystem sees is the same. Everything else goes through go-fuse: INIT, what is rare, what is answered once, and
// what go-fuse answers by itself (the file that WaitMount opens).

// directArgs is the size of the fixed struct behind the header of each operation that is answered here; 0 for the others.
// Operations without one have 1 in place of it, to be told apart.
var directArgs = [...]uint8{
	opLookup:      none,
	opForget:      uint8(unsafe.Sizeof(fuse.ForgetIn{})) - inHeaderSize,
	opGetattr:     uint8(unsafe.Sizeof(fuse.GetAttrIn{})) - inHeaderSize,
	opSetattr:     uint8(unsafe.Sizeof(fuse.SetAttrIn{})) - inHeaderSize,
	opMkdir:       uint8(unsafe.Sizeof(fuse.MkdirIn{})) - inHeaderSize,
	opUnlink:      none,
	opRmdir:       none,
	opOpen:        uint8(unsafe.Sizeof(fuse.OpenIn{})) - inHeaderSize,
	opRead:        uint8(unsafe.Sizeof(fuse.ReadIn{})) - inHeaderSize,
	opWrite:       uint8(unsafe.Sizeof(fuse.WriteIn{})) - inHeaderSize,
	opRelease:     uint8(unsafe.Sizeof(fuse.ReleaseIn{})) - inHeaderSize,
	opGetxattr:    uint8(unsafe.Sizeof(fuse.GetXAttrIn{})) - inHeaderSize,
	opOpendir:     uint8(unsafe.Sizeof(fuse.OpenIn{})) - inHeaderSize,
	opReleasedir:  uint8(unsafe.Sizeof(fuse.ReleaseIn{})) - inHeaderSize,
	opCreate:      uint8(unsafe.Sizeof(fuse.CreateIn{})) - inHeaderSize,
	opBatchForget: batchForgetSize,
}

const (
	none            = 1
	batchForgetSize = 8  // count (4), padding
	forgetOneSize   = 16 // node (8), look-ups (8)

	directMax = inHeaderSize + headerArgsMax // of header and fixed struct

	// go-fuse answers for these by itself.
	pollHackNode = ^uint64(0)
	pollHackName = ".go-fuse-epoll-hack"
)

// isDirect says whether operation op is answered here, and how long its fixed struct is.
func (c *conn) isDirect(op uint32, node uint64) (args int, ok bool) {
	if op >= uint32(len(directArgs)) || directArgs[op] == 0 || c.throughGoFuse || node == pollHackNode {
		return 0, false
	}
	if directArgs[op] == none {
		return 0, true
	}
	return int(directArgs[op]), true
}

// pollHack tells the name that go-fuse looks up by itself. names is what follows the header.
func pollHack(op uint32, node uint64, names []byte) bool {
	return op == opLookup && node == fuse.FUSE_ROOT_ID && len(names) == len(pollHackName)+1 && string(names[:len(pollHackName)]) == pollHackName
}

// answer runs a request that isDirect. head is header and fixed struct, aligned to 8 bytes; rest is what follows, names or
// data; body is where the reply's body goes, aligned too. It gives how much of that is used.
func (c *conn) answer(cancel <-chan struct{}, op uint32, head, rest, body []byte) (n int, st fuse.Status) {
	defer func() {
		if r := recover(); r != nil {
			n, st = 0, c.panicked(r)
		}
	}()
	in, out := unsafe.Pointer(unsafe.SliceData(head)), unsafe.Pointer(unsafe.SliceData(body))
	h := (*fuse.InHeader)(in)
	switch op {
	case opLookup, opUnlink, opRmdir, opMkdir, opCreate, opGetxattr:
		i := bytes.IndexByte(rest, 0)
		if i < 0 {
			return 0, fuse.EINVAL
		}
		return c.answerName(cancel, op, h, string(rest[:i]), body)
	case opGetattr:
		clear(body[:unsafe.Sizeof(fuse.AttrOut{})])
		st = c.fs.GetAttr(cancel, (*fuse.GetAttrIn)(in), (*fuse.AttrOut)(out))
		return int(unsafe.Sizeof(fuse.AttrOut{})), st
	case opSetattr:
		clear(body[:unsafe.Sizeof(fuse.AttrOut{})])
		st = c.fs.SetAttr(cancel, (*fuse.SetAttrIn)(in), (*fuse.AttrOut)(out))
		return int(unsafe.Sizeof(fuse.AttrOut{})), st
	case opOpen, opOpendir:
		clear(body[:unsafe.Sizeof(fuse.OpenOut{})])
		if op == opOpen {
			st = c.fs.Open(cancel, (*fuse.OpenIn)(in), (*fuse.OpenOut)(out))
		} else {
			st = c.fs.OpenDir(cancel, (*fuse.OpenIn)(in), (*fuse.OpenOut)(out))
		}
		return int(unsafe.Sizeof(fuse.OpenOut{})), st
	case opRead:
		return c.answerRead(cancel, (*fuse.ReadIn)(in), body)
	case opWrite:
		w := (*fuse.WriteIn)(in)
		if int(w.Size) > len(rest) {
			return 0, fuse.EIO
		}
		size, st := c.fs.Write(cancel, w, rest[:w.Size])
		if st == fuse.ENOSYS {
			size, st = c.fs.Writev(cancel, w, [][]byte{rest[:w.Size]})
		}
		*(*fuse.WriteOut)(out) = fuse.WriteOut{Size: size} // not before: the data may lie there
		return int(unsafe.Sizeof(fuse.WriteOut{})), st
	case opRelease:
		c.fs.Release(cancel, (*fuse.ReleaseIn)(in))
	case opReleasedir:
		c.fs.ReleaseDir((*fuse.ReleaseIn)(in))
	case opForget:
		c.fs.Forget(h.NodeId, (*fuse.ForgetIn)(in).Nlookup)
	case opBatchForget:
		count := min(int(wire.Uint32(head[inHeaderSize:])), len(rest)/forgetOneSize)
		for ; count > 0; count, rest = count-1, rest[forgetOneSize:] {
			if node := wire.Uint64(rest); node != pollHackNode {
				c.fs.Forget(node, wire.Uint64(rest[8:]))
			}
		}
	}
	return 0, fuse.OK
}

// answerName runs an operation on a name.
func (c *conn) answerName(cancel <-chan struct{}, op uint32, h *fuse.InHeader, name string, body []byte) (n int, st fuse.Status) {
	in, out := unsafe.Pointer(h), unsafe.Pointer(unsafe.SliceData(body))
	switch op {
	case opUnlink:
		return 0, c.fs.Unlink(cancel, h, name)
	case opRmdir:
		return 0, c.fs.Rmdir(cancel, h, name)
	case opGetxattr:
		g := (*fuse.GetXAttrIn)(in)
		u, st := c.fs.GetXAttr(cancel, h, name, body[:min(int(g.Size), len(body))])
		if g.Size > 0 {
			return int(u), st
		}
		if st == fuse.ERANGE { // the question was how long it is
			st = fuse.OK
		}
		*(*fuse.GetXAttrOut)(out) = fuse.GetXAttrOut{Size: u}
		return int(unsafe.Sizeof(fuse.GetXAttrOut{})), st
	case opCreate:
		clear(body[:unsafe.Sizeof(fuse.CreateOut{})])
		return int(unsafe.Sizeof(fuse.CreateOut{})), c.fs.Create(cancel, (*fuse.CreateIn)(in), name, (*fuse.CreateOut)(out))
	}
	clear(body[:unsafe.Sizeof(fuse.EntryOut{})])
	if op == opMkdir {
		st = c.fs.Mkdir(cancel, (*fuse.MkdirIn)(in), name, (*fuse.EntryOut)(out))
	} else {
		st = c.fs.Lookup(cancel, h, name, (*fuse.EntryOut)(out))
	}
	return int(unsafe.Sizeof(fuse.EntryOut{})), st
}

// answerRead reads into the reply.
func (c *conn) answerRead(cancel <-chan struct{}, in *fuse.ReadIn, body []byte) (int, fuse.Status) {
	if int(in.Size) > len(body) {
		return 0, fuse.EINVAL
	}
	body = body[:in.Size]
	r, st := c.fs.Read(cancel, in, body)
	if r == nil {
		return 0, st
	}
	defer r.Done()
	if !st.Ok() {
		return 0, st
	}
	b, st := r.Bytes(body)
	if len(b) > 0 && &b[0] != &body[0] {
		copy(body, b)
	}
	return min(len(b), len(body)), st
}

// panicked turns a panic of the filesystem into an answer, as go-fuse's server does.
func (c *conn) panicked(what any) fuse.Status {
	if st := c.onPanic(what); !st.Ok() {
		return st
	}
	return fuse.EIO
}
