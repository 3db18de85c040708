package vfs

import (
	"context"
	"encoding/binary"
	"errors"

	"github.com/iomapfs/iomapfs/vfs/errno"
)

// ACL is a POSIX access control list (acl(5)), ordered as the extended attribute is.
type ACL []ACLEntry

// ACLEntry grants Perm (rwx, 0 to 7) to whom Tag and ID name.
type ACLEntry struct {
	Tag  uint16
	Perm uint16
	ID   uint32 // user or group; ^0 where the tag has none
}

// Tags of ACL entries (linux/posix_acl.h).
const (
	ACLUserObj  = 0x01
	ACLUser     = 0x02
	ACLGroupObj = 0x04
	ACLGroup    = 0x08
	ACLMask     = 0x10
	ACLOther    = 0x20
)

const (
	aclVersion   = 2
	aclHeader    = 4
	aclEntrySize = 8
	aclNoID      = ^uint32(0)
)

// ParseACL decodes the extended attribute form, version 2 (linux/posix_acl_xattr.h), little endian:
//
//	off  size  field
//	  0     4  version, 2
//	  4     8  entries: tag (2), perm (2), id (4)
//
// errno.INVAL for anything that acl_valid(3) would refuse. An empty list decodes as nil.
func ParseACL(b []byte) (ACL, error) {
	if len(b) < aclHeader || binary.LittleEndian.Uint32(b) != aclVersion || (len(b)-aclHeader)%aclEntrySize != 0 {
		return nil, errno.INVAL
	}
	var acl ACL
	for b = b[aclHeader:]; len(b) > 0; b = b[aclEntrySize:] {
		acl = append(acl, ACLEntry{binary.LittleEndian.Uint16(b), binary.LittleEndian.Uint16(b[2:]), binary.LittleEndian.Uint32(b[4:])})
	}
	if acl == nil {
		return nil, nil
	}
	return acl, acl.valid()
}

// Encode gives the extended attribute form.
func (acl ACL) Encode() []byte {
	b := make([]byte, aclHeader, aclHeader+len(acl)*aclEntrySize)
	binary.LittleEndian.PutUint32(b, aclVersion)
	for _, e := range acl {
		b = binary.LittleEndian.AppendUint16(b, e.Tag)
		b = binary.LittleEndian.AppendUint16(b, e.Perm)
		b = binary.LittleEndian.AppendUint32(b, e.ID)
	}
	return b
}

// valid checks order, required entries and that ids stand where they may.
func (acl ACL) valid() error {
	var seen [64]int
	last := uint16(0)
	var lastID uint32
	for i, e := range acl {
		if e.Perm > 7 || e.Tag < last || i > 0 && e.Tag == last && (e.Tag != ACLUser && e.Tag != ACLGroup || e.ID <= lastID) {
			return errno.INVAL
		}
		switch e.Tag {
		case ACLUserObj, ACLGroupObj, ACLMask, ACLOther:
		case ACLUser, ACLGroup:
			if e.ID == aclNoID {
				return errno.INVAL
			}
		default:
			return errno.INVAL
		}
		last, lastID = e.Tag, e.ID
		seen[e.Tag]++
	}
	if seen[ACLUserObj] != 1 || seen[ACLGroupObj] != 1 || seen[ACLOther] != 1 {
		return errno.INVAL
	}
	if seen[ACLUser]+seen[ACLGroup] > 0 && seen[ACLMask] == 0 {
		return errno.INVAL
	}
	return nil
}

// Mode gives the permission bits the list stands for, and whether the bits alone say everything.
func (acl ACL) Mode() (mode uint32, equivalent bool) {
	equivalent = true
	mask := -1
	for _, e := range acl {
		p := uint32(e.Perm)
		switch e.Tag {
		case ACLUserObj:
			mode |= p << 6
		case ACLGroupObj:
			mode |= p << 3
		case ACLOther:
			mode |= p
		case ACLMask:
			mask, equivalent = int(p), false
		default:
			equivalent = false
		}
	}
	if mask >= 0 {
		mode = mode&^0o070 | uint32(mask)<<3
	}
	return mode, equivalent
}

// chmod puts the permission bits of mode into the list; the group bits go to the mask where there is one.
func (acl ACL) chmod(mode uint32) {
	group := -1
	for i := range acl {
		switch acl[i].Tag {
		case ACLUserObj:
			acl[i].Perm = uint16(mode >> 6 & 7)
		case ACLOther:
			acl[i].Perm = uint16(mode & 7)
		case ACLGroupObj:
			if group < 0 {
				group = i
			}
		case ACLMask:
			group = i
		}
	}
	if group >= 0 {
		acl[group].Perm = uint16(mode >> 3 & 7)
	}
}

// masked cuts the list of a new file to the mode it was created with and gives the resulting mode
// (posix_acl_create_masq).
func (acl ACL) masked(mode uint32) uint32 {
	group := -1
	for i := range acl {
		e := &acl[i]
		switch e.Tag {
		case ACLUserObj:
			e.Perm &= uint16(mode >> 6 & 7)
			mode = mode&^0o700 | uint32(e.Perm)<<6
		case ACLOther:
			e.Perm &= uint16(mode & 7)
			mode = mode&^0o007 | uint32(e.Perm)
		case ACLGroupObj:
			if group < 0 {
				group = i
			}
		case ACLMask:
			group = i
		}
	}
	if group >= 0 {
		acl[group].Perm &= uint16(mode >> 3 & 7)
		mode = mode&^0o070 | uint32(acl[group].Perm)<<3
	}
	return mode
}

// InheritACL works out the mode and the ACLs of something new in dir: the directory's default ACL replaces the umask.
// access and deflt are nil when there is nothing to store; deflt is for directories.
func (dir *Inode) InheritACL(ctx context.Context, cred *Cred, mode uint32) (newMode uint32, access, deflt []byte, err error) {
	if mode&ModeType == ModeSymlink {
		return mode, nil, nil, nil
	}
	var raw []byte
	if dir.Op.GetXattr != nil {
		raw, err = dir.Op.GetXattr(ctx, dir, XattrACLDefault)
		if err != nil && !errors.Is(err, errno.NODATA) && !errors.Is(err, errno.OPNOTSUPP) {
			return 0, nil, nil, err
		}
	}
	if len(raw) == 0 {
		return mode &^ (cred.Umask & 0o777), nil, nil, nil
	}
	acl, err := ParseACL(raw)
	if err != nil {
		return 0, nil, nil, &errno.CorruptError{Dev: dir.sb.Dev.Name(), Struct: "default ACL", Ino: dir.ino, Why: "is not a valid ACL"}
	}
	if mode&ModeType == ModeDir {
		deflt = raw
	}
	newMode = acl.masked(mode)
	if _, same := acl.Mode(); !same {
		access = acl.Encode()
	}
	return newMode, access, deflt, nil
}

// setACL stores or removes an ACL. Hold Rw exclusively. Only the owner may (errno.PERM).
func (ip *Inode) setACL(ctx context.Context, cred *Cred, name string, value []byte) error {
	st := ip.Stat()
	switch {
	case st.Mode&ModeType == ModeSymlink:
		return errno.OPNOTSUPP
	case cred.UID != st.UID && !cred.Capable():
		return errno.PERM
	case name == XattrACLDefault && st.Mode&ModeType != ModeDir:
		if value == nil {
			return nil
		}
		return errno.ACCES
	}
	var acl ACL
	if value != nil {
		var err error
		if acl, err = ParseACL(value); err != nil {
			return err
		}
	}
	if name == XattrACLAccess && acl != nil {
		perm, same := acl.Mode()
		if same {
			acl = nil
		}
		mode := st.Mode&ModePerm&^0o777 | perm
		if !cred.Capable() && !cred.InGroup(st.GID) {
			mode &^= ModeSetGID
		}
		a := SetAttr{Valid: SetMode, Mode: mode}
		if ip.Op.SetAttr != nil {
			if err := ip.Op.SetAttr(ctx, ip, &a); err != nil {
				return err
			}
		} else {
			ip.ApplyAttr(&a)
		}
	}
	if acl == nil {
		err := ip.Op.SetXattr(ctx, ip, name, nil, 0)
		if errors.Is(err, errno.NODATA) {
			return nil
		}
		return err
	}
	return ip.Op.SetXattr(ctx, ip, name, acl.Encode(), 0)
}

// chmodACL makes the access ACL follow a chmod. Hold Rw exclusively.
func (ip *Inode) chmodACL(ctx context.Context) error {
	if ip.Op.GetXattr == nil || ip.Op.SetXattr == nil {
		return nil
	}
	raw, err := ip.Op.GetXattr(ctx, ip, XattrACLAccess)
	if err != nil || len(raw) == 0 {
		if err == nil || errors.Is(err, errno.NODATA) || errors.Is(err, errno.OPNOTSUPP) {
			return nil
		}
		return err
	}
	acl, err := ParseACL(raw)
	if err != nil {
		return nil // leave what we do not understand
	}
	acl.chmod(ip.Mode())
	return ip.Op.SetXattr(ctx, ip, XattrACLAccess, acl.Encode(), 0)
}
