package vfs

import (
	"context"
	"strings"

	"github.com/iomapfs/iomapfs/vfs/errno"
)

// Names of the ACL attributes.
const (
	XattrACLAccess  = "system.posix_acl_access"
	XattrACLDefault = "system.posix_acl_default"
)

// Limits of xattr(7), in bytes.
const (
	XattrNameMax = 255
	XattrSizeMax = 65536
	XattrListMax = 65536
)

// GetXattr gives the value of an extended attribute. errno.NODATA when absent.
func (ip *Inode) GetXattr(ctx context.Context, name string) ([]byte, error) {
	if ip.Op.GetXattr == nil {
		return nil, errno.OPNOTSUPP
	}
	return ip.Op.GetXattr(ctx, ip, name)
}

// ListXattr gives all names that cred may see: trusted.* is the superuser's.
func (ip *Inode) ListXattr(ctx context.Context, cred *Cred) ([]string, error) {
	if ip.Op.ListXattr == nil {
		return nil, nil
	}
	names, err := ip.Op.ListXattr(ctx, ip)
	if err != nil || cred.Capable() {
		return names, err
	}
	kept := names[:0]
	for _, n := range names {
		if !strings.HasPrefix(n, "trusted.") {
			kept = append(kept, n)
		}
	}
	return kept, nil
}

// SetXattr stores an attribute. Setting an access ACL changes the mode as acl(5) says.
// Errors: errno.OPNOTSUPP for an unknown namespace, errno.NOSPC when it does not fit, errno.EXIST and errno.NODATA for
// the flags, errno.BIG2 over XattrSizeMax.
func (ip *Inode) SetXattr(ctx context.Context, cred *Cred, name string, value []byte, flags int) error {
	if len(value) > XattrSizeMax {
		return errno.BIG2
	}
	if value == nil {
		value = []byte{}
	}
	return ip.changeXattr(ctx, cred, name, value, flags)
}

// RemoveXattr removes an attribute. errno.NODATA when absent.
func (ip *Inode) RemoveXattr(ctx context.Context, cred *Cred, name string) error {
	return ip.changeXattr(ctx, cred, name, nil, XattrReplace)
}

func (ip *Inode) changeXattr(ctx context.Context, cred *Cred, name string, value []byte, flags int) error {
	if ip.Op.SetXattr == nil {
		return errno.OPNOTSUPP
	}
	if i := strings.IndexByte(name, '.'); i <= 0 || i == len(name)-1 {
		return errno.OPNOTSUPP
	}
	if len(name) > XattrNameMax {
		return errno.RANGE
	}
	switch mode := ip.Mode(); {
	case strings.HasPrefix(name, "trusted.") && !cred.Capable():
		return errno.PERM
	case strings.HasPrefix(name, "user.") && mode&ModeType != ModeRegular && mode&ModeType != ModeDir:
		return errno.PERM
	}
	if err := ip.checkWritable(false); err != nil {
		return err
	}
	if err := ip.sb.WantWrite(); err != nil {
		return err
	}
	defer ip.sb.EndWrite()
	ip.Rw.Lock()
	defer ip.Rw.Unlock()
	if name == XattrACLAccess || name == XattrACLDefault {
		return ip.setACL(ctx, cred, name, value)
	}
	return ip.Op.SetXattr(ctx, ip, name, value, flags)
}
