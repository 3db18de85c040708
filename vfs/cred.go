package vfs

// Cred is who asks: an argument of every operation that creates or checks, never a context value.
type Cred struct {
	UID, GID uint32
	PID      uint32
	Umask    uint32   // applied to new files unless the directory has a default ACL
	Groups   []uint32 // supplementary groups, when known
}

// Root is the credential of the superuser, with no umask.
var Root = &Cred{}

// Capable reports whether the caller may override ownership.
func (c *Cred) Capable() bool { return c.UID == 0 }

// InGroup reports whether gid is among the caller's groups.
func (c *Cred) InGroup(gid uint32) bool {
	if c.GID == gid {
		return true
	}
	for _, g := range c.Groups {
		if g == gid {
			return true
		}
	}
	return false
}
