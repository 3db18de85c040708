//go:build linux

package transport

// SetPayload makes ring entries of n bytes: too few, and the kernel refuses to register them.
func SetPayload(o *Options, n int) { o.payload = n }

// MountByHelper makes later mounts of this test binary go through fusermount3, as for people who are not root.
func MountByHelper(on bool) { alwaysHelper = on }

// SetOnline has Mount think that only these CPUs are online.
func SetOnline(o *Options, cpus ...int) { o.online = cpus }

// ParseCPUList is parseCPUList.
var ParseCPUList = parseCPUList
