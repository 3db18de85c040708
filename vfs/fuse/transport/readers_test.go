//go:build linux

package transport

import (
	"log/slog"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// slowly takes a little while for each STATFS.
type slowly struct{ fuse.RawFileSystem }

func (slowly) StatFs(_ <-chan struct{}, h *fuse.InHeader, _ *fuse.StatfsOut) fuse.Status {
	for end := time.Now().Add(time.Duration(h.NodeId) * time.Microsecond); time.Now().Before(end); {
		runtime.Gosched()
	}
	return fuse.OK
}

// TestReadersStay sees that readers which leave at the same time never leave the device to nobody.
func TestReadersStay(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	c := newConn(Hooks{}, slog.Default(), 8192)
	c.fd = pair[0]
	c.ps = fuse.NewProtocolServer(slowly{fuse.NewDefaultRawFileSystem()}, &fuse.MountOptions{MaxWrite: 8192})
	served := make(chan struct{})
	go func() { defer close(served); c.serve() }()

	const senders, each = 8, 1000
	go func() { // the answers
		var b [256]byte
		for {
			if n, err := unix.Read(pair[1], b[:]); n <= 0 || err != nil {
				return
			}
		}
	}()
	var wg sync.WaitGroup
	for i := range senders {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 1))
			for k := range each {
				var m [inHeaderSize]byte
				wire.PutUint32(m[:], uint32(len(m)))
				wire.PutUint32(m[offOpcode:], opStatfs)
				wire.PutUint64(m[offUnique:], uint64(i+1)<<32|uint64(k))
				wire.PutUint64(m[offNode:], r.Uint64N(20))
				if _, err := unix.Write(pair[1], m[:]); err != nil {
					t.Error(err)
					return
				}
				if r.IntN(4) == 0 {
					time.Sleep(time.Duration(r.IntN(50)) * time.Microsecond)
				}
			}
		})
	}
	sent := make(chan struct{})
	go func() { wg.Wait(); close(sent) }()
	last, since := uint64(0), time.Now()
	for c.fromDevice.Load() < senders*each {
		if n := c.fromDevice.Load(); n != last {
			last, since = n, time.Now()
		}
		require.Less(t, time.Since(since), 5*time.Second, "nobody reads any more: %d of %d, %d idle", last, senders*each, c.idleReaders.Load())
		time.Sleep(time.Millisecond)
	}
	<-sent
	require.LessOrEqual(t, c.idleReaders.Load(), int32(maxIdleReaders))
	unix.Shutdown(pair[1], unix.SHUT_RDWR) //nolint:errcheck // ends the readers
	<-served
	c.close()
	unix.Close(pair[1]) //nolint:errcheck // nothing in it
}
