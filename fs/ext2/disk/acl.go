package disk

import "encoding/binary"

// A POSIX ACL has two forms. On the medium (version 1) it is compact: the owner's entries have no id.
//
//	medium:  off  size  field                     extended attribute:  off  size  field
//	           0     4  version, 1                                       0     4  version, 2
//	           4   4|8  entries: tag (2), perm (2)                       4     8  entries: tag (2), perm (2), id (4)
//	                    and for users and groups id (4)
//
// Source: the kernel's linux/posix_acl_xattr.h for the form of the attribute, "POSIX Access Control Lists on Linux" for tags.
const (
	aclDiskVersion  = 1
	aclXattrVersion = 2

	aclUserObj  = 0x01
	aclUser     = 0x02
	aclGroupObj = 0x04
	aclGroup    = 0x08
	aclMask     = 0x10
	aclOther    = 0x20
	aclNoID     = 0xFFFFFFFF
)

// ACLFromDisk turns the form of the medium into that of the extended attribute.
// Errors: *Bad for another version, an entry that is cut short, an unknown tag, or bits beyond rwx.
func ACLFromDisk(b []byte) ([]byte, error) {
	const s = "ACL"
	le := binary.LittleEndian
	if len(b) < 4 {
		return nil, bad(s, "length", uint64(len(b)), "at least 4 bytes")
	}
	if v := le.Uint32(b); v != aclDiskVersion {
		return nil, bad(s, "version", uint64(v), "%d", aclDiskVersion)
	}
	out := le.AppendUint32(make([]byte, 0, 4+2*(len(b)-4)), aclXattrVersion)
	for at := 4; at < len(b); {
		if len(b)-at < 4 {
			return nil, badAt(s, at, "length of an entry", uint64(len(b)-at), "at least 4 bytes")
		}
		tag, perm, id := le.Uint16(b[at:]), le.Uint16(b[at+2:]), uint32(aclNoID)
		if err := checkACLEntry(at, tag, perm); err != nil {
			return nil, err
		}
		at += 4
		if tag == aclUser || tag == aclGroup {
			if len(b)-at < 4 {
				return nil, badAt(s, at, "length of an entry with an id", uint64(len(b)-at+4), "8 bytes")
			}
			id = le.Uint32(b[at:])
			at += 4
		}
		out = le.AppendUint16(out, tag)
		out = le.AppendUint16(out, perm)
		out = le.AppendUint32(out, id)
	}
	return out, nil
}

// ACLToDisk turns the form of the extended attribute into that of the medium.
// Errors: *Bad, as ACLFromDisk.
func ACLToDisk(b []byte) ([]byte, error) {
	const s = "ACL"
	le := binary.LittleEndian
	if len(b) < 4 || (len(b)-4)%8 != 0 {
		return nil, bad(s, "length", uint64(len(b)), "4 bytes and 8 for each entry")
	}
	if v := le.Uint32(b); v != aclXattrVersion {
		return nil, bad(s, "version", uint64(v), "%d", aclXattrVersion)
	}
	out := le.AppendUint32(make([]byte, 0, len(b)), aclDiskVersion)
	for at := 4; at < len(b); at += 8 {
		tag, perm := le.Uint16(b[at:]), le.Uint16(b[at+2:])
		if err := checkACLEntry(at, tag, perm); err != nil {
			return nil, err
		}
		out = le.AppendUint16(out, tag)
		out = le.AppendUint16(out, perm)
		if tag == aclUser || tag == aclGroup {
			out = le.AppendUint32(out, le.Uint32(b[at+4:]))
		}
	}
	return out, nil
}

func checkACLEntry(at int, tag, perm uint16) error {
	switch tag {
	case aclUserObj, aclUser, aclGroupObj, aclGroup, aclMask, aclOther:
	default:
		return badAt("ACL", at, "tag", uint64(tag), "1, 2, 4, 8, 16 or 32")
	}
	if perm > 7 {
		return badAt("ACL", at+2, "permissions", uint64(perm), "0 to 7")
	}
	return nil
}
