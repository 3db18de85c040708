package mountopt

import (
	"fmt"
	"math"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Options is what an -o argument says. The zero value is an empty one.
type Options struct {
	ReadOnly bool
	Remount  bool // change a mount that is there
	NoAtime  bool
	// NoDirAtime and StrictAtime refine which reads change access times.
	NoDirAtime, StrictAtime bool

	DirSync bool     // changes of directories are durable before they are answered
	Kernel  []string // words for mount(2) and fusermount3, in order

	// Ownership as shown on the mount. Nil: as on the medium, for a mounter who is not root his own.
	UID, GID            *uint32
	Umask, Fmask, Dmask *uint32 // permission bits taken away: everywhere, from files, from directories
	Preserve            bool    // as on the medium whoever mounts

	AllowOther  bool
	Cache       int64 // bytes of page cache; 0: the default
	DirectIO    bool  // open the image with O_DIRECT
	FSType      string
	FSName      string // first column of /proc/mounts; "": the image's path
	Subtype     string // "": iomapfs
	Transport   string // auto, fuse or uring; "": auto
	NoWriteback bool   // no writeback cache in the kernel
	MaxWrite    int    // bytes of the largest request; 0: the default
	Readahead   int    // KiB; 0: the default
	EntryTTL    *time.Duration
	AttrTTL     *time.Duration
	Paths       []string // path=, legacy=, bridge=, iomap= as written
	Offset      int64    // bytes into the image, with SizeLimit, as mount(8)'s loop options say
	SizeLimit   int64
	LogFile     string
	Debug       bool // log every request
	Trace       bool // log the events of the storage stack

	Words []string // what is left: for the filesystem
}

// Parse reads the words of an -o argument, or several given one after the other.
// Errors name the word.
func Parse(words []string) (*Options, error) {
	o := &Options{}
	for _, w := range words {
		key, val, has := strings.Cut(w, "=")
		if dropped(key) {
			continue
		}
		d := find(canonical(key))
		switch {
		case d == nil:
			o.Words = append(o.Words, w)
			continue
		case d.arg != "" && (!has || val == ""):
			return nil, fmt.Errorf("option %s needs a value: %s=%s", key, key, d.arg)
		case d.arg == "" && has:
			return nil, fmt.Errorf("option %s takes no value", key)
		}
		if err := d.set(o, val); err != nil {
			return nil, fmt.Errorf("option %s: %w", w, err)
		}
	}
	return o, nil
}

// dropped tells words that administrators' tools leave in the list, without meaning for a filesystem.
func dropped(key string) bool {
	switch key {
	case "defaults", "auto", "noauto", "user", "users", "nouser", "owner", "noowner", "group", "nogroup", "_netdev", "nofail",
		"comment", "loop", "uhelper", "helper", "silent", "loud", "mand", "nomand", "iversion", "noiversion",
		"default_permissions", "default-permissions", "nonempty", "big_writes", "kernel_cache",
		"fd", "rootmode", "user_id", "group_id", "blksize": // what /proc/mounts shows comes back with a remount
		return true
	}
	return strings.HasPrefix(key, "x-") || strings.HasPrefix(key, "X-")
}

// Unknown gives an error for the first of words that is not among known, naming the nearest word of all.
func Unknown(words, known []string) error {
	var keys []string
	for _, k := range known {
		k, _, _ = strings.Cut(k, "=")
		keys = append(keys, k)
	}
	for _, w := range words {
		key, _, _ := strings.Cut(w, "=")
		if slices.ContainsFunc(keys, func(k string) bool { return canonical(k) == canonical(key) }) {
			continue
		}
		all := keys
		for _, d := range table {
			all = append(all, d.key)
		}
		if n := Nearest(key, all); n != "" {
			return fmt.Errorf("unknown mount option %q (did you mean %s?)", w, n)
		}
		return fmt.Errorf("unknown mount option %q (iomapfs mount --help lists them)", w)
	}
	return nil
}

// ParseSize reads bytes with an optional suffix K, M, G, T or P (powers of 1024; a trailing B or iB is allowed).
func ParseSize(s string) (int64, error) {
	num := strings.TrimSuffix(strings.TrimSuffix(strings.ToUpper(s), "B"), "I")
	shift := 0
	if num != "" {
		if i := strings.IndexByte("KMGTP", num[len(num)-1]); i >= 0 {
			shift, num = 10*(i+1), num[:len(num)-1]
		}
	}
	n, err := strconv.ParseInt(num, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64>>shift {
		return 0, fmt.Errorf("%q is not a size (such as 512M)", s)
	}
	return n << shift, nil
}

func parseMask(s string) (*uint32, error) {
	n, err := strconv.ParseUint(s, 8, 32)
	if err != nil || n > 0o777 {
		return nil, fmt.Errorf("%q is not an octal mask (such as 022)", s)
	}
	m := uint32(n)
	return &m, nil
}

// parseSeconds reads seconds with a fraction, or a duration with its unit.
func parseSeconds(s string) (*time.Duration, error) {
	if f, err := strconv.ParseFloat(s, 64); err == nil && f >= 0 && f <= 1e9 {
		d := time.Duration(f * float64(time.Second))
		return &d, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return nil, fmt.Errorf("%q is not a time (such as 1.5 or 10m)", s)
	}
	return &d, nil
}

func parseID(s string, lookup func(string) (string, error)) (*uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		var id string
		if id, err = lookup(s); err == nil {
			n, err = strconv.ParseUint(id, 10, 32)
		}
	}
	if err != nil || n == math.MaxUint32 {
		return nil, fmt.Errorf("%q is neither a number nor a known name", s)
	}
	id := uint32(n)
	return &id, nil
}

func userID(s string) (string, error) {
	u, err := user.Lookup(s)
	if err != nil {
		return "", err
	}
	return u.Uid, nil
}

func groupID(s string) (string, error) {
	g, err := user.LookupGroup(s)
	if err != nil {
		return "", err
	}
	return g.Gid, nil
}
