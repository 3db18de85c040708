package images

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/iomapfs/iomapfs/vfs/errno"
)

// Spec names an image and what is wanted in it.
type Spec struct {
	Path         string
	Part         int    // partition number, 0 for none
	Label, UUID  string // of the filesystem
	Offset, Size int64  // bytes; Size 0: to the end
	Range        bool   // Offset and Size were given
}

// Parse reads a spec. A file whose whole name exists is that file, whatever its name holds.
func Parse(s string) (Spec, error) {
	i := strings.LastIndexByte(s, '@')
	if i <= 0 {
		return Spec{Path: s}, nil
	}
	if _, err := os.Lstat(s); err == nil {
		return Spec{Path: s}, nil
	}
	sp := Spec{Path: s[:i]}
	what := s[i+1:]
	bad := func() (Spec, error) {
		return Spec{}, fmt.Errorf("%s: after @ comes a partition number, LABEL=…, UUID=… or offset=…,size=…: %w", s, errno.INVAL)
	}
	if n, err := strconv.Atoi(what); err == nil {
		if n < 1 {
			return bad()
		}
		sp.Part = n
		return sp, nil
	}
	for _, w := range strings.Split(what, ",") {
		key, val, ok := strings.Cut(w, "=")
		if !ok || val == "" {
			return bad()
		}
		var err error
		switch key {
		case "LABEL":
			sp.Label = val
		case "UUID":
			sp.UUID = strings.ToLower(val)
		case "offset":
			sp.Range = true
			sp.Offset, err = bytes(val)
		case "size":
			sp.Range = true
			sp.Size, err = bytes(val)
		default:
			return bad()
		}
		if err != nil {
			return bad()
		}
	}
	return sp, nil
}

// bytes reads a number with a suffix k, M, G or T.
func bytes(s string) (int64, error) {
	shift := uint(0)
	if i := strings.IndexByte("kmgt", s[len(s)-1]|0x20); i >= 0 {
		shift = uint(10 * (i + 1))
		s = s[:len(s)-1]
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > (1<<62)>>shift {
		return 0, errno.INVAL
	}
	return n << shift, nil
}
