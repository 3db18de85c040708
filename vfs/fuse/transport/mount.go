//go:build linux

package transport

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

const fuseDevice = "/dev/fuse"

// alwaysHelper is for tests, which run as root: fusermount3 does not mind.
var alwaysHelper bool

// mountFlags are the words of mount(8) that mount(2) takes as bits.
var mountFlags = map[string]struct{ set, clear uintptr }{
	"ro":          {set: unix.MS_RDONLY},
	"rw":          {clear: unix.MS_RDONLY},
	"nosuid":      {set: unix.MS_NOSUID},
	"suid":        {clear: unix.MS_NOSUID},
	"nodev":       {set: unix.MS_NODEV},
	"dev":         {clear: unix.MS_NODEV},
	"noexec":      {set: unix.MS_NOEXEC},
	"exec":        {clear: unix.MS_NOEXEC},
	"sync":        {set: unix.MS_SYNCHRONOUS},
	"async":       {clear: unix.MS_SYNCHRONOUS},
	"dirsync":     {set: unix.MS_DIRSYNC},
	"noatime":     {set: unix.MS_NOATIME},
	"atime":       {clear: unix.MS_NOATIME},
	"nodiratime":  {set: unix.MS_NODIRATIME},
	"diratime":    {clear: unix.MS_NODIRATIME},
	"relatime":    {set: unix.MS_RELATIME},
	"norelatime":  {clear: unix.MS_RELATIME},
	"strictatime": {set: unix.MS_STRICTATIME},
	"lazytime":    {set: unix.MS_LAZYTIME},
	"nosymfollow": {set: unix.MS_NOSYMFOLLOW},
}

// mountSpec is a mount in the terms of mount(2) and of fusermount3.
type mountSpec struct {
	point   string
	source  string   // first column of /proc/mounts
	subtype string   // behind "fuse."
	flags   uintptr  // MS_*
	data    []string // options for FUSE itself, without fd= and its like
	words   []string // all of them as fusermount3 wants them
	block   bool
}

// newMountSpec reads go-fuse's options. Defaults are those of fusermount3: nosuid, nodev.
func newMountSpec(point string, o *fuse.MountOptions, t *Options) mountSpec {
	m := mountSpec{point: point, source: o.FsName, subtype: o.Name, flags: unix.MS_NOSUID | unix.MS_NODEV, block: t.Block}
	if o.DirectMountFlags != 0 {
		m.flags = o.DirectMountFlags &^ unix.MS_MGC_VAL
	}
	words := slices.Clone(o.Options)
	if o.AllowOther {
		words = append(words, "allow_other")
	}
	if o.IDMappedMount {
		words = append(words, "default_permissions")
	}
	for _, w := range words {
		if f, ok := mountFlags[w]; ok {
			m.flags = m.flags&^f.clear | f.set
			m.words = append(m.words, w)
			continue
		}
		if v, ok := strings.CutPrefix(w, "fsname="); ok {
			m.source = v
			continue
		}
		if v, ok := strings.CutPrefix(w, "subtype="); ok {
			m.subtype = v
			continue
		}
		if !slices.Contains(m.data, w) {
			m.data = append(m.data, w)
		}
	}
	if !slices.ContainsFunc(m.data, func(w string) bool { return strings.HasPrefix(w, "max_read=") }) {
		m.data = append(m.data, fmt.Sprintf("max_read=%d", o.MaxWrite))
	}
	if m.block {
		size := t.BlockSize
		if size == 0 {
			size = 4096
		}
		m.data = append(m.data, fmt.Sprintf("blksize=%d", size))
	}
	if m.source == "" {
		m.source = m.subtype
	}
	m.words = append(m.words, m.data...)
	m.words = append(m.words, "fsname="+m.source, "subtype="+m.subtype)
	return m
}

// fsType is the type column of /proc/mounts.
func (m *mountSpec) fsType() string {
	if m.block {
		return "fuseblk." + m.subtype
	}
	return "fuse." + m.subtype
}

// mount makes the mount and returns the open /dev/fuse: by mount(2) where we may (root, also of a user namespace),
// otherwise through fusermount3.
func (m *mountSpec) mount() (fd int, err error) {
	if os.Geteuid() == 0 && !alwaysHelper {
		fd, err = m.mountDirect()
		if err == nil || m.block || !errors.Is(err, unix.EPERM) {
			return fd, err
		}
	} else if m.block {
		return -1, fmt.Errorf("mount %s at %s as fuseblk: only root may: %w", m.source, m.point, unix.EPERM)
	}
	return m.mountHelper()
}

func (m *mountSpec) mountDirect() (int, error) {
	fd, err := unix.Open(fuseDevice, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, deviceError(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(m.point, &st); err != nil {
		unix.Close(fd) //nolint:errcheck // nothing was written
		return -1, m.pointError(err)
	}
	data := append([]string{
		fmt.Sprintf("fd=%d", fd),
		fmt.Sprintf("rootmode=%o", st.Mode&unix.S_IFMT),
		fmt.Sprintf("user_id=%d", os.Geteuid()),
		fmt.Sprintf("group_id=%d", os.Getegid()),
	}, m.data...)
	if err := unix.Mount(m.source, m.point, m.fsType(), m.flags, strings.Join(data, ",")); err != nil {
		unix.Close(fd) //nolint:errcheck // as above
		switch {
		case errors.Is(err, unix.ENODEV):
			err = fmt.Errorf("%w: the kernel has no FUSE (modprobe fuse)", err)
		case errors.Is(err, unix.EINVAL):
			err = fmt.Errorf("%w: the kernel does not take one of these options: %s", err, strings.Join(m.data, ","))
		case errors.Is(err, unix.EBUSY) && m.block:
			err = fmt.Errorf("%w: %s is in use", err, m.source)
		case errors.Is(err, unix.ENOTBLK):
			err = fmt.Errorf("%w: a fuseblk mount needs a block device, %s is none (losetup makes one of a file)", err, m.source)
		}
		return -1, fmt.Errorf("mount %s at %s: %w", m.source, m.point, err)
	}
	return fd, nil
}

// deviceError says what keeps us from /dev/fuse.
func deviceError(err error) error {
	switch {
	case errors.Is(err, unix.ENOENT):
		return fmt.Errorf("open %s: %w: FUSE is not here (modprobe fuse; in a container, pass the device in)", fuseDevice, err)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		mode := "its mode does not let you"
		var st unix.Stat_t
		if unix.Stat(fuseDevice, &st) == nil {
			mode = fmt.Sprintf("its mode is %04o", st.Mode&0o7777)
		}
		return fmt.Errorf("open %s: %w: %s (usual is 0666: chmod 666 %s)", fuseDevice, err, mode, fuseDevice)
	case errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return fmt.Errorf("open %s: %w: the kernel has no FUSE (modprobe fuse)", fuseDevice, err)
	}
	return fmt.Errorf("open %s: %w", fuseDevice, err)
}

// pointError says what is wrong with the mount point.
func (m *mountSpec) pointError(err error) error {
	if errors.Is(err, unix.ENOTCONN) {
		return fmt.Errorf("mount at %s: %w: a mount without its server is there (umount -l %s)", m.point, err, m.point)
	}
	return fmt.Errorf("mount at %s: %w", m.point, err)
}

// resolveMountPoint gives the absolute path without symbolic links, as /proc/mounts will show it.
func resolveMountPoint(p string) (string, error) {
	abs, err := filepath.Abs(p)
	if err != nil {
		return "", err
	}
	real, err := filepath.EvalSymlinks(abs)
	if err != nil {
		return "", (&mountSpec{point: abs}).pointError(err)
	}
	return real, nil
}

// unmountPoint takes the mount away; lazily, once nothing uses it any more.
func unmountPoint(point string, lazy bool) error {
	if os.Geteuid() == 0 && !alwaysHelper {
		flags := 0
		if lazy {
			flags = unix.MNT_DETACH
		}
		err := unix.Unmount(point, flags)
		if !errors.Is(err, unix.EPERM) {
			if err != nil {
				return fmt.Errorf("unmount %s: %w", point, err)
			}
			return nil
		}
	}
	return unmountHelper(point, lazy)
}
