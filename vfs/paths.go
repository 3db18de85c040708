package vfs

import (
	"fmt"
	"strings"

	"github.com/iomapfs/iomapfs/vfs/errno"
)

// Path says which layer serves an operation.
type Path uint8

// Paths.
const (
	Legacy Path = iota // buffer heads
	Bridge             // buffer heads whose get_block asks the iomap begin
	Iomap              // iomap
)

// String names the path as options do.
func (p Path) String() string { return [...]string{"legacy", "bridge", "iomap"}[p] }

// PathOp is an operation that can be switched between the paths.
type PathOp uint8

// Operations, in the order of the kernel's porting guide.
const (
	OpFiemap PathOp = iota
	OpSeek
	OpBmap
	OpSwap
	OpDirectRead
	OpDirectWrite
	OpBufferedRead
	OpBufferedWrite
	OpWriteback
	OpFault
	OpZero
	OpDir
	NumPathOps
)

var pathOpNames = [NumPathOps]string{
	"fiemap", "seek", "bmap", "swap", "dio-read", "dio-write", "buffered-read",
	"buffered-write", "writeback", "fault", "zero", "dir",
}

// String names the operation as options do.
func (o PathOp) String() string { return pathOpNames[o] }

// PathOpNames lists the operations as options name them.
func PathOpNames() []string { return append([]string(nil), pathOpNames[:]...) }

// Paths picks the path of each operation.
type Paths [NumPathOps]Path

// AllPaths puts every operation on one path.
func AllPaths(p Path) Paths {
	var t Paths
	for i := range t {
		t[i] = p
	}
	return t
}

// String lists the operations that are not on the legacy path.
func (t Paths) String() string {
	var on [3][]string
	for i, p := range t {
		on[p] = append(on[p], PathOp(i).String())
	}
	for p, ops := range on {
		if len(ops) == int(NumPathOps) {
			return "path=" + Path(p).String()
		}
	}
	var words []string
	for p, ops := range on {
		if len(ops) > 0 {
			words = append(words, Path(p).String()+"="+strings.Join(ops, "+"))
		}
	}
	return strings.Join(words, ",")
}

// Set applies one mount word: path=P, or P=op+op for a path P. ok is false when the word is not of that form.
// errno.INVAL for an unknown path or operation.
func (t *Paths) Set(word string) (ok bool, err error) {
	key, val, found := strings.Cut(word, "=")
	if !found {
		return false, nil
	}
	if key == "path" {
		for p := Legacy; p <= Iomap; p++ {
			if p.String() == val {
				*t = AllPaths(p)
				return true, nil
			}
		}
		return true, fmt.Errorf("path=%s: the paths are legacy, bridge and iomap: %w", val, errno.INVAL)
	}
	for p := Legacy; p <= Iomap; p++ {
		if p.String() != key {
			continue
		}
		for _, name := range strings.Split(val, "+") {
			i := indexOf(pathOpNames[:], name)
			if i < 0 {
				return true, fmt.Errorf("%s: no operation %q; there are %s: %w", word, name, strings.Join(pathOpNames[:], ", "), errno.INVAL)
			}
			t[i] = p
		}
		return true, nil
	}
	return false, nil
}

func indexOf(list []string, s string) int {
	for i, v := range list {
		if v == s {
			return i
		}
	}
	return -1
}
