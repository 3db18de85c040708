// Package all lists the filesystems of this repository and mounts whichever of them a device holds.
//
// The list is explicit: a filesystem is there because Kinds names it, not because somebody imported it.
//
//	sb, err := all.Mount(ctx, dev, "", &vfs.MountOptions{ReadOnly: true})
package all
