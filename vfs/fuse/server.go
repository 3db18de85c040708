//go:build linux

package fuse

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/fuse/transport"
)

// Options of a mount; the zero value is right.
type Options struct {
	AllowOther bool
	ReadOnly   bool
	// FsName is what /proc/mounts shows as the source; the device's name by default. Subtype is iomapfs by default.
	FsName, Subtype string
	// EntryTimeout and AttrTimeout are how long the kernel trusts names and attributes: an hour by default, as nobody else
	// changes the image. Negative means not at all.
	EntryTimeout, AttrTimeout time.Duration
	MaxWrite                  int  // bytes of one request: 1 MiB by default
	ReadaheadKiB              int  // of the mount's backing device; 1024 by default, where we may set it
	NoWritebackCache          bool // the kernel sends every write at once
	// Transport is "auto" (io_uring where it is to be had, else by /dev/fuse), "fuse" (by /dev/fuse) or "uring". Where the
	// kernel has io_uring switched off, root turns it on for the moment of the mount.
	Transport string
	// Squash shows other owners and modes than the image holds.
	Squash *Squash
	// KernelOptions are passed on: nosuid, nodev, noexec …
	KernelOptions []string
	Debug         bool
	Log           *slog.Logger
}

// Squash replaces owner and permissions in what is shown. Nil members show the image's.
type Squash struct {
	UID, GID *uint32
	// FileMask and DirMask are permission bits taken away.
	FileMask, DirMask uint32
}

// Server is a served mount.
type Server struct {
	fs  *rawFS
	srv *transport.Server
}

// Serve mounts sb at the directory and answers requests. It returns when the mount works. After Wait returns the caller
// unmounts the super block.
func Serve(sb *vfs.SuperBlock, mountpoint string, o Options) (*Server, error) {
	if o.EntryTimeout == 0 {
		o.EntryTimeout = time.Hour
	}
	if o.AttrTimeout == 0 {
		o.AttrTimeout = time.Hour
	}
	if o.MaxWrite == 0 {
		o.MaxWrite = 1 << 20
	}
	if o.ReadaheadKiB == 0 {
		o.ReadaheadKiB = 1024
	}
	if o.Subtype == "" {
		o.Subtype = "iomapfs"
	}
	if o.FsName == "" {
		o.FsName = sb.Dev.Name()
	}
	if o.Log == nil {
		o.Log = sb.Log
	}
	kinds := map[string]transport.Kind{"": transport.Auto, "auto": transport.Auto, "fuse": transport.Device, "uring": transport.Ring}
	kind, ok := kinds[o.Transport]
	if !ok {
		return nil, fmt.Errorf("transport %q: auto, fuse or uring", o.Transport)
	}
	fs := newRawFS(sb, o)
	level := slog.LevelWarn // of what go-fuse has to say; with Debug that is every request
	if o.Debug {
		level = slog.LevelDebug
	}
	mo := &gofuse.MountOptions{
		AllowOther:    o.AllowOther,
		FsName:        o.FsName, // the transport escapes where it must
		Name:          o.Subtype,
		MaxWrite:      o.MaxWrite,
		MaxReadAhead:  1 << 20,
		MaxBackground: 64,
		EnableAcl:     true,
		// The umask is applied here: a default ACL overrides it. Direct reads see what is dirty in the kernel's cache, and
		// files opened with O_DIRECT can be mapped. Set-id bits are dropped here, which spares a question a write.
		ExtraCapabilities: gofuse.CAP_DONT_MASK | gofuse.CAP_DIRECT_IO_ALLOW_MMAP | gofuse.CAP_ASYNC_DIO | gofuse.CAP_HANDLE_KILLPRIV_V2,
		DisableSplice:     true,
		Debug:             o.Debug,
		Options:           append([]string{"default_permissions"}, o.KernelOptions...),
		Logger:            slog.NewLogLogger(o.Log.Handler(), level),
	}
	if o.ReadOnly || sb.ReadOnly() {
		mo.Options = append(mo.Options, "ro")
	}
	if !o.NoWritebackCache {
		mo.ExtraCapabilities |= gofuse.CAP_WRITEBACK_CACHE
	}
	srv, err := transport.Mount(mountpoint, fs, mo, transport.Options{
		Kind: kind, EnableRing: kind != transport.Device, ReadAheadKiB: o.ReadaheadKiB, Logger: o.Log,
		Hooks: transport.Hooks{},
	})
	if err != nil {
		return nil, err
	}
	if srv.HasEpoch() {
		fs.newEpoch = srv.NewEpoch
	}
	go srv.Serve()
	if err := srv.WaitMount(); err != nil {
		_ = srv.Unmount() // the mount never worked; its own error says why
		return nil, err
	}
	return &Server{fs: fs, srv: srv}, nil
}

// Wait waits until the mount is gone and every operation has returned. Files that the kernel did not close, after an
// abrupt end, are closed here.
func (s *Server) Wait() {
	s.srv.Wait()
	s.fs.drop()
}

// Unmount takes the mount away: errno.BUSY while it is in use, unless lazy.
func (s *Server) Unmount(_ context.Context, lazy bool) error {
	if lazy {
		return s.srv.Detach()
	}
	return s.srv.Unmount()
}

// Abort cuts the connection: operations in flight are cancelled, later ones fail with ENOTCONN, and Wait returns. What has
// not reached us from the kernel's cache is lost.
func (s *Server) Abort() error { return s.srv.Abort() }

// Transport says how requests come: "io_uring" or "device", which is by reading /dev/fuse.
func (s *Server) Transport() string { return s.srv.Kind().String() }

// MountPoint is the directory.
func (s *Server) MountPoint() string { return s.srv.MountPoint() }

// Nodes is how many inodes the kernel remembers, and Files how many files it has open.
func (s *Server) Nodes() int { return s.fs.nodes.len() }

// Files is how many files and directories are open.
func (s *Server) Files() int { return s.fs.files.len() }
