package all

import (
	"context"
	"fmt"
	"strings"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// Kind is what is known of a filesystem without mounting it.
type Kind struct {
	Type *vfs.FileSystem
	// Aliases are other names that -t takes.
	Aliases []string
	// Lenient are mount words under which changes that cannot be stored, as of owners, are left out and not refused.
	Lenient []string
	// Info tells of geometry and features, without changing the device.
	Info func(dev block.Device) (*Info, error)
	// Map tells what lies where, without changing the device: at most rows rows of at most columns cells.
	Map func(ctx context.Context, dev block.Device, rows, columns int) (*Map, error)
	// Check verifies the filesystem, without changing the device, and stops after max problems (0: a limit of its own).
	// An error says that the check could not be made.
	Check func(ctx context.Context, dev block.Device, max int, progress func(done float64)) (*Checked, error)
}

// Kinds lists the filesystems, in the order in which a device is probed.
func Kinds() []*Kind { return []*Kind{&ext2Kind, &fatKind} }

// Types lists the filesystems for mounting.
func Types() []*vfs.FileSystem {
	var list []*vfs.FileSystem
	for _, k := range Kinds() {
		list = append(list, k.Type)
	}
	return list
}

// Find gives the filesystem of that name or alias. errno.NODEV names those there are.
func Find(name string) (*Kind, error) {
	var names []string
	for _, k := range Kinds() {
		for _, n := range append([]string{k.Type.Name}, k.Aliases...) {
			if n == name {
				return k, nil
			}
			names = append(names, n)
		}
	}
	return nil, noFS(fmt.Sprintf("filesystem type %q is not known; there are %s", name, strings.Join(names, ", ")))
}

// Probe finds the filesystem that a device holds. ok is false when it holds none of Kinds.
func Probe(dev block.Device) (p vfs.Probe, t *vfs.FileSystem, ok bool) {
	for _, t := range Types() {
		if p, ok := t.Probe(dev); ok {
			return p, t, true
		}
	}
	return vfs.Probe{}, nil, false
}

// Which gives the kind of filesystem to use for a device: the one named, or the one it holds when name is empty.
// errno.NODEV says what it holds instead, where that is known.
func Which(dev block.Device, name string) (*Kind, error) {
	if name != "" {
		return Find(name)
	}
	if _, t, ok := Probe(dev); ok {
		return Find(t.Name)
	}
	if other := Foreign(dev); other != "" {
		return nil, noFS(fmt.Sprintf("%s: holds %s, which iomapfs does not read", dev.Name(), other))
	}
	return nil, noFS(fmt.Sprintf("%s: holds no filesystem that iomapfs knows (iomapfs list shows partitions)", dev.Name()))
}

// noFS is an error whose words say it all, without those of its number.
type noFS string

func (e noFS) Error() string { return string(e) }

// Unwrap gives errno.NODEV.
func (e noFS) Unwrap() error { return errno.NODEV }

// Mount mounts what the device holds, or fstype unless that is empty. On success the device belongs to the super block,
// otherwise it stays the caller's.
func Mount(ctx context.Context, dev block.Device, fstype string, opts *vfs.MountOptions) (*vfs.SuperBlock, error) {
	k, err := Which(dev, fstype)
	if err != nil {
		return nil, err
	}
	return k.Type.Mount(ctx, dev, opts)
}
