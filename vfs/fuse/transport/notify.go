//go:build linux

package transport

import (
	"errors"
	"fmt"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// initCatcher is the filesystem of a server that only ever sees INIT.
type initCatcher struct{ fuse.RawFileSystem }

// newNotifier makes a *fuse.Server that never reads a request but whose notifications reach the kernel. RawFileSystem.Init
// takes that concrete type, and go-fuse makes one only by serving a file descriptor from INIT on. So it gets one end of
// a socket pair, finds there the INIT that the real device brought, and answers into the pair. Then the descriptor
// is replaced by the device under it, atomically and under the same number.
//
// close it with closeNotifier once the connection is dead.
func newNotifier(o *fuse.MountOptions, initRequest []byte, device int) (*fuse.Server, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("notifier: %w", err)
	}
	defer unix.Close(pair[0]) //nolint:errcheck // its peer is replaced, nobody reads it
	if _, err := unix.Write(pair[0], initRequest); err != nil {
		unix.Close(pair[1]) //nolint:errcheck // on the way out
		return nil, fmt.Errorf("notifier: %w", err)
	}
	srv, err := fuse.NewServer(initCatcher{fuse.NewDefaultRawFileSystem()}, fmt.Sprintf("/dev/fd/%d", pair[1]), o)
	if err != nil {
		return nil, fmt.Errorf("notifier: %w", err) // NewServer has closed the descriptor
	}
	for {
		err = unix.Dup3(device, pair[1], unix.O_CLOEXEC)
		if !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EBUSY) {
			break
		}
	}
	if err != nil {
		closeNotifier(srv) // reads end of file from the pair
		return nil, fmt.Errorf("notifier: %w", err)
	}
	return srv, nil
}

// closeNotifier lets go of the notifier's descriptor, and of whoever waits in its InodeRetrieveCache. On a dead
// connection go-fuse's loop ends with its first read.
func closeNotifier(srv *fuse.Server) { srv.Serve() }

// notifyIncEpoch is FUSE_NOTIFY_INC_EPOCH (linux/fuse.h), of protocol 7.44, Linux 6.16.
const (
	notifyIncEpoch = 8
	incEpochMinor  = 44
)

// HasEpoch reports whether the kernel knows NewEpoch.
func (s *Server) HasEpoch() bool { return s.conn != nil && s.conn.init.Minor >= incEpochMinor }

// NewEpoch has the kernel look up again every name that it remembers, when it next meets it. It takes no lock in the kernel, so that
// it may be called while an operation is being answered. errors.ErrUnsupported without HasEpoch; ENODEV when the mount is gone.
func (s *Server) NewEpoch() error {
	if !s.HasEpoch() {
		return fmt.Errorf("FUSE_NOTIFY_INC_EPOCH: %w", errors.ErrUnsupported)
	}
	var h [outHeaderSize]byte // a notification is a reply to request 0, with its number for the error
	wire.PutUint32(h[:], outHeaderSize)
	wire.PutUint32(h[offError:], notifyIncEpoch)
	_, err := unix.Write(s.conn.fd, h[:])
	return err
}
