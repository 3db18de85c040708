//go:build linux

package transport_test

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"github.com/iomapfs/iomapfs/vfs/fuse/transport"
	"github.com/stretchr/testify/require"
)

// aligned gives n bytes that begin where a struct may.
func aligned(n int) []byte {
	words := make([]uint64, (n+7)/8)
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(words))), n)
}

// request builds one of op on a node, with its fixed struct and what follows.
func request(op uint32, node uint64, rest ...byte) []byte {
	b := aligned(40 + len(rest))
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	binary.NativeEndian.PutUint32(b[4:], op)
	binary.NativeEndian.PutUint64(b[16:], node)
	copy(b[40:], rest)
	return b
}

// TestDirectRandomRequests answers requests of every operation with random contents: an answer or an error comes, and no
// more is said to be used than there is.
func TestDirectRandomRequests(t *testing.T) {
	seed := rand.Uint64()
	t.Log("seed", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	fs := fuse.NewDefaultRawFileSystem()
	body := aligned(8192)
	answered := map[uint32]bool{}
	for range 20000 {
		op := r.Uint32N(60)
		rest := make([]byte, r.IntN(200))
		for i := range rest {
			if r.IntN(3) == 0 {
				rest[i] = byte(r.Uint32())
			}
		}
		n, st, ok := transport.Answer(fs, nil, op, request(op, 1+r.Uint64N(4), rest...), body)
		if answered[op] = answered[op] || ok; st.Ok() {
			require.LessOrEqual(t, n, len(body), "operation %d", op)
		}
	}
	for _, op := range []uint32{1, 2, 3, 4, 9, 10, 11, 14, 15, 16, 18, 22, 27, 29, 35, 42} {
		require.True(t, answered[op], "operation %d is answered without go-fuse", op)
	}
	require.False(t, answered[26], "INIT is go-fuse's")
}

// TestDirectMalformed are requests that say more than they hold.
func TestDirectMalformed(t *testing.T) {
	fs, body := newMemFS(), aligned(8192)
	for name, c := range map[string]struct {
		op   uint32
		rest []byte
		want fuse.Status
	}{
		"a name without an end":                   {1, []byte("abc"), fuse.EINVAL},
		"a write of more than came":               {16, append(make([]byte, 16), 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), fuse.EIO},
		"a read of more than a reply holds":       {15, append(make([]byte, 16), 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), fuse.EINVAL},
		"more to forget than is named":            {42, []byte{9, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3}, fuse.OK},
		"a question for the length of nothing":    {22, append(make([]byte, 8), "user.none\x00"...), fuse.ENOSYS},
		"a name that the filesystem panics about": {1, []byte("panic\x00"), fuse.EIO},
	} {
		f := fuse.RawFileSystem(fs)
		if c.want == fuse.EIO && c.op == 1 {
			f = panicking{fs}
		}
		_, st, ok := transport.Answer(f, nil, c.op, request(c.op, 1, c.rest...), body)
		require.True(t, ok, name)
		require.Equal(t, c.want, st, name)
	}
}

// panicking is a filesystem with a bug.
type panicking struct{ *memFS }

func (panicking) Lookup(<-chan struct{}, *fuse.InHeader, string, *fuse.EntryOut) fuse.Status {
	panic("bug")
}
