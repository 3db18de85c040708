package mkfs

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"os/user"
	"slices"
	"strconv"
	"strings"
)

// parseACL reads the text form of an ACL (acl(5)), long or short, entries separated by commas or lines, into the form of the
// Linux attribute, version 2. star's fourth field, the number of a named user, is used where it is there; other names are
// looked up. simple reports that the list says no more than permission bits do.
func parseACL(text string, user, group func(name string) (uint32, error)) (acl []byte, simple bool, err error) {
	const noID = ^uint32(0)
	type entry struct {
		tag, perm uint16
		id        uint32
	}
	var list []entry
	for _, word := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == '\n' }) {
		word, _, _ = strings.Cut(word, "#")
		word = strings.TrimPrefix(strings.TrimPrefix(strings.TrimSpace(word), "default:"), "d:")
		if word == "" {
			continue
		}
		part := strings.Split(word, ":")
		if len(part) == 2 { // "mask:rwx", "other:r--"
			part = []string{part[0], "", part[1]}
		}
		if len(part) < 3 || len(part) > 4 {
			return nil, false, fmt.Errorf("ACL entry %q: want type:name:permissions", word)
		}
		e := entry{id: noID}
		switch part[0] {
		case "user", "u":
			e.tag = 0x01
		case "group", "g":
			e.tag = 0x04
		case "mask", "m":
			e.tag = 0x10
		case "other", "o":
			e.tag = 0x20
		default:
			return nil, false, fmt.Errorf("ACL entry %q: want user, group, mask or other", word)
		}
		if part[1] != "" {
			if e.tag > 0x04 {
				return nil, false, fmt.Errorf("ACL entry %q has a name that means nothing", word)
			}
			number := part[len(part)-1]
			if len(part) == 3 {
				number = part[1]
			}
			look := user
			if e.tag == 0x04 {
				look = group
			}
			if id, err := strconv.ParseUint(number, 10, 32); err == nil {
				e.id = uint32(id)
			} else if e.id, err = look(part[1]); err != nil {
				return nil, false, fmt.Errorf("ACL entry %q: want the number of the user or group: %w", word, err)
			}
			if e.id == noID {
				return nil, false, fmt.Errorf("ACL entry %q: no such number", word)
			}
			e.tag <<= 1
		}
		for _, c := range strings.TrimSpace(part[2]) {
			switch c {
			case 'r':
				e.perm |= 4
			case 'w':
				e.perm |= 2
			case 'x':
				e.perm |= 1
			case '-':
			default:
				return nil, false, fmt.Errorf("ACL entry %q: want permissions of r, w, x and -", word)
			}
		}
		list = append(list, e)
	}
	slices.SortFunc(list, func(a, b entry) int { return cmp.Or(cmp.Compare(a.tag, b.tag), cmp.Compare(a.id, b.id)) })
	acl = binary.LittleEndian.AppendUint32(nil, 2)
	count := map[uint16]int{}
	for i, e := range list {
		if i > 0 && list[i-1].tag == e.tag && list[i-1].id == e.id {
			return nil, false, fmt.Errorf("ACL %q names someone twice", text)
		}
		count[e.tag]++
		acl = binary.LittleEndian.AppendUint16(acl, e.tag)
		acl = binary.LittleEndian.AppendUint16(acl, e.perm)
		acl = binary.LittleEndian.AppendUint32(acl, e.id)
	}
	if count[0x01] != 1 || count[0x04] != 1 || count[0x20] != 1 || count[0x02]+count[0x08] > 0 && count[0x10] == 0 {
		return nil, false, fmt.Errorf("ACL %q: want one entry each for owner, group and others, and a mask with named ones", text)
	}
	return acl, len(list) == 3, nil
}

// lookUser and lookGroup ask the host.
func lookUser(name string) (uint32, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return 0, err
	}
	id, err := strconv.ParseUint(u.Uid, 10, 32)
	return uint32(id), err
}

func lookGroup(name string) (uint32, error) {
	g, err := user.LookupGroup(name)
	if err != nil {
		return 0, err
	}
	id, err := strconv.ParseUint(g.Gid, 10, 32)
	return uint32(id), err
}
