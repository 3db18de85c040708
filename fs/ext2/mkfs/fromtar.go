package mkfs

import (
	"archive/tar"
	"bufio"
	"compress/bzip2"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"github.com/iomapfs/iomapfs/fs/ext2/disk"
)

// TarOptions says how FromTar takes an archive over.
type TarOptions struct {
	Owner *Owner // of all that is stored. nil: the numbers of the archive; its names are not looked up

	// LookupUser and LookupGroup find the numbers of names in ACLs that come without them, as GNU tar writes them.
	// nil: the host is asked, so the result depends on the host.
	LookupUser, LookupGroup func(name string) (uint32, error)
}

// Keys of PAX records.
const (
	paxXattr      = "SCHILY.xattr."
	paxACL        = "SCHILY.acl.access"
	paxDefaultACL = "SCHILY.acl.default"
)

// FromTar gives a Fill that stores a tar archive (ustar, PAX, GNU), plain or packed by gzip or bzip2: files of all types a
// tar knows with owner, mode, times, attributes and ACLs, hard links, holes. Missing parent directories are made. As when an
// archive is unpacked, a later file replaces an earlier one of the same name, and a directory that is there takes the new
// attributes. Access and change times are stored where the archive has them, otherwise they are the modification time.
func FromTar(r io.Reader, o TarOptions) func(*Builder) error {
	return func(bu *Builder) error {
		bu.replace = true
		if o.LookupUser == nil {
			o.LookupUser = lookUser
		}
		if o.LookupGroup == nil {
			o.LookupGroup = lookGroup
		}
		plain, err := unpack(r)
		if err != nil {
			return fmt.Errorf("mkfs: tar: %w", err)
		}
		tr := tar.NewReader(plain)
		for {
			h, err := tr.Next()
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return fmt.Errorf("mkfs: tar: %w", err)
			}
			if err := addTar(bu, h, tr, o); err != nil {
				return err
			}
		}
	}
}

// unpack recognises compression by its first bytes.
func unpack(r io.Reader) (io.Reader, error) {
	br := bufio.NewReaderSize(r, 64<<10)
	head, err := br.Peek(3)
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return nil, err
	case len(head) == 3 && head[0] == 0x1F && head[1] == 0x8B && head[2] == 8:
		return gzip.NewReader(br)
	case string(head) == "BZh":
		return bzip2.NewReader(br), nil
	}
	return br, nil
}

func addTar(bu *Builder, h *tar.Header, r io.Reader, o TarOptions) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	if h.Typeflag == tar.TypeLink {
		return bu.Link(h.Linkname, h.Name)
	}
	if h.Uid < 0 || uint64(h.Uid) > math.MaxUint32 || h.Gid < 0 || uint64(h.Gid) > math.MaxUint32 {
		return invalid("tar: %q: owner %d:%d is not of 32 bits", h.Name, h.Uid, h.Gid)
	}
	n := &Node{
		Path: h.Name, Mode: uint16(h.Mode) & disk.ModePerm, UID: uint32(h.Uid), GID: uint32(h.Gid),
		Mtime: tarTime(h.ModTime), Atime: h.AccessTime, Ctime: h.ChangeTime,
	}
	if o.Owner != nil {
		n.UID, n.GID = o.Owner.UID, o.Owner.GID
	}
	switch h.Typeflag {
	case tar.TypeReg, 0, tar.TypeCont, tar.TypeGNUSparse:
		n.Mode |= disk.ModeRegular
		n.Size = h.Size
	case tar.TypeDir:
		n.Mode |= disk.ModeDir
	case tar.TypeSymlink:
		n.Mode |= disk.ModeSymlink
		n.Link = h.Linkname
	case tar.TypeFifo:
		n.Mode |= disk.ModeFIFO
	case tar.TypeChar, tar.TypeBlock:
		n.Mode |= disk.ModeChar
		if h.Typeflag == tar.TypeBlock {
			n.Mode ^= disk.ModeChar ^ disk.ModeBlock
		}
		if h.Devmajor < 0 || h.Devmajor > math.MaxUint32 || h.Devminor < 0 || h.Devminor > math.MaxUint32 {
			return invalid("tar: %q: device %d:%d", h.Name, h.Devmajor, h.Devminor)
		}
		n.Major, n.Minor = uint32(h.Devmajor), uint32(h.Devminor)
	default:
		return invalid("tar: %q: type %q cannot be stored", h.Name, h.Typeflag)
	}
	if err := tarXattrs(h, n, o); err != nil {
		return err
	}
	return bu.Add(n, r)
}

// tarTime keeps the first second of 1970 from passing for no time at all.
func tarTime(t time.Time) time.Time {
	if t.IsZero() {
		return time.Unix(0, 0)
	}
	return t
}

// tarXattrs takes attributes and ACLs out of the PAX records.
func tarXattrs(h *tar.Header, n *Node, o TarOptions) error {
	set := func(name string, value []byte) {
		if n.Xattrs == nil {
			n.Xattrs = map[string][]byte{}
		}
		if _, there := n.Xattrs[name]; !there {
			n.Xattrs[name] = value
		}
	}
	for key, value := range h.PAXRecords {
		name, ok := strings.CutPrefix(key, paxXattr)
		if !ok {
			continue
		}
		if index, _, ok := disk.SplitXattrName(name); ok && index != disk.XattrSystem {
			set(name, []byte(value))
		}
	}
	for key, name := range map[string]string{paxACL: "system.posix_acl_access", paxDefaultACL: "system.posix_acl_default"} {
		text := h.PAXRecords[key]
		if text == "" {
			continue
		}
		acl, simple, err := parseACL(text, o.LookupUser, o.LookupGroup)
		if err != nil {
			return invalid("tar: %q: %s: %v", h.Name, key, err)
		}
		if !simple || key == paxDefaultACL {
			set(name, acl)
		}
	}
	return nil
}
