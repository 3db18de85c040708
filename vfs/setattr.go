package vfs

import (
	"context"

	"github.com/iomapfs/iomapfs/vfs/errno"
)

// SetAttr changes attributes of ip. Permission in the sense of mode bits was checked by the caller's kernel; immutable
// and append-only are checked here. A change of owner drops the set-id bits, a change of mode follows into the ACL.
func (ip *Inode) SetAttr(ctx context.Context, cred *Cred, a *SetAttr) error {
	if a.Valid == 0 {
		return nil
	}
	if err := ip.checkWritable(a.Valid&^(SetAtimeNow|SetMtimeNow|SetCtime) == 0); err != nil {
		return err
	}
	if a.Valid&SetSize != 0 {
		switch {
		case ip.IsDir():
			return errno.ISDIR
		case a.Size < 0 || !ip.IsRegular():
			return errno.INVAL
		case a.Size > ip.sb.MaxBytes:
			return errno.FBIG
		}
	}
	if err := ip.sb.WantWrite(); err != nil {
		return err
	}
	defer ip.sb.EndWrite()
	ip.Rw.Lock()
	defer ip.Rw.Unlock()
	if a.Valid&SetSize != 0 && ip.IsSwap() {
		return errno.TXTBSY
	}
	if a.Valid&SetSize != 0 && (a.Size != ip.Size() || a.File != nil) && !cred.Capable() {
		a.Valid |= KillSUID
	}
	if ip.Op.SetAttr != nil {
		if err := ip.Op.SetAttr(ctx, ip, a); err != nil {
			return err
		}
	} else {
		if a.Valid&SetSize != 0 {
			return errno.OPNOTSUPP
		}
		ip.ApplyAttr(a)
	}
	if a.Valid&SetMode != 0 && ip.Mode()&ModeType != ModeSymlink {
		return ip.chmodACL(ctx)
	}
	return nil
}

// ApplyAttr (setattr_copy) stores everything of a but the size in ip and marks it dirty. Hold Rw exclusively.
func (ip *Inode) ApplyAttr(a *SetAttr) {
	now := ip.sb.Now()
	ip.AttrMu.Lock()
	at := &ip.A
	if a.Valid&SetMode != 0 {
		at.Mode = at.Mode&ModeType | a.Mode&ModePerm
	}
	if a.Valid&SetUID != 0 {
		at.UID = a.UID
	}
	if a.Valid&SetGID != 0 {
		at.GID = a.GID
	}
	if a.Valid&(SetUID|SetGID|KillSUID) != 0 && a.Valid&SetMode == 0 && at.Mode&ModeType != ModeDir {
		at.Mode &^= ModeSetUID
		if at.Mode&0o010 != 0 {
			at.Mode &^= ModeSetGID
		}
	}
	at.Ctime = now
	if a.Valid&SetCtime != 0 {
		at.Ctime = ip.sb.ClampTime(a.Ctime)
	}
	switch {
	case a.Valid&SetAtimeNow != 0:
		at.Atime = now
	case a.Valid&SetAtime != 0:
		at.Atime = ip.sb.ClampTime(a.Atime)
	}
	switch {
	case a.Valid&SetMtimeNow != 0:
		at.Mtime = now
	case a.Valid&SetMtime != 0:
		at.Mtime = ip.sb.ClampTime(a.Mtime)
	case a.Valid&SetSize != 0:
		at.Mtime = now
	}
	ip.AttrMu.Unlock()
	ip.Dirty(DirtyMeta)
}

// SetFlags stores the chattr flags. Only a capable caller changes immutable and append.
func (ip *Inode) SetFlags(ctx context.Context, cred *Cred, f FileFlags) error {
	if ip.Op.SetFlags == nil {
		return errno.OPNOTSUPP
	}
	if err := ip.sb.WantWrite(); err != nil {
		return err
	}
	defer ip.sb.EndWrite()
	ip.Rw.Lock()
	defer ip.Rw.Unlock()
	if (f^ip.Flags())&(FlagImmutable|FlagAppend) != 0 && !cred.Capable() {
		return errno.PERM
	}
	return ip.Op.SetFlags(ctx, ip, f)
}

// InitOwner (inode_init_owner) fills owner, mode and times of a new inode: the group of a set-gid directory is
// inherited, by directories with the bit.
func (ip *Inode) InitOwner(cred *Cred, dir *Inode, mode uint32) {
	dir.AttrMu.Lock()
	dmode, dgid := dir.A.Mode, dir.A.GID
	dir.AttrMu.Unlock()
	ip.A.UID, ip.A.GID = cred.UID, cred.GID
	if dmode&ModeSetGID != 0 {
		ip.A.GID = dgid
		if mode&ModeType == ModeDir {
			mode |= ModeSetGID
		}
	}
	now := ip.sb.Now()
	ip.A.Mode = mode
	ip.A.Atime, ip.A.Mtime, ip.A.Ctime, ip.A.Btime = now, now, now, now
}
