package ext2

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/iomapfs/iomapfs/fs/ext2/disk"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// Options are ext2's own mount words. The zero value is not the default: see defaults.
type Options struct {
	Errors         uint16 // disk.Errors…: what to do when damage is found
	SuperBlock     uint64 // sb=: superblock to use, in 1 KiB units; 0 the primary
	MinixDF        bool   // statfs counts all blocks, overhead included
	GrpID          bool   // new files take their directory's group
	ResUID, ResGID uint32 // who may use the reserved blocks besides root
	NoUID32        bool   // 16-bit owners only
	NoACL          bool
	NoUserXattr    bool
	ShareXattr     bool // inodes with equal attributes share a block
	Discard        bool // tell the device about freed blocks
	NoRecovery     bool // mount read-only although the journal wants replay
	Commit         time.Duration
	NoBarrier      bool
	Reserve        bool // reservation windows
	OldAlloc       bool // no Orlov spread of directories
	DAX            bool // files' data by the device's memory
	Paths          vfs.Paths
}

// Help lists the words for --help.
var help = []vfs.OptionHelp{
	{Word: "errors=continue|remount-ro|panic", Text: "what to do when damage is found; panic stops all changes at once"},
	{Word: "sb=N", Text: "use the copies of superblock and descriptors at block N (of 1 KiB), read-only"},
	{Word: "acl, noacl", Text: "POSIX ACLs (on)"},
	{Word: "user_xattr, nouser_xattr", Text: "extended attributes of users (on)"},
	{Word: "xattrshare", Text: "let inodes with equal attributes share a block; costs more writing"},
	{Word: "bsddf, minixdf", Text: "df leaves out metadata (bsddf), or counts every block"},
	{Word: "grpid, nogrpid, bsdgroups, sysvgroups", Text: "new files take the group of their directory (grpid, bsdgroups), or of who makes them"},
	{Word: "resuid=N, resgid=N", Text: "who may use the reserved blocks besides root"},
	{Word: "check=none, nocheck", Text: "accepted: nothing is checked at mount but what is read (default)"},
	{Word: "noquota, quota, usrquota, grpquota", Text: "accepted and ignored, as the kernel does: there are no quotas"},
	{Word: "nouid32", Text: "owners of 16 bits"},
	{Word: "discard, nodiscard", Text: "punch freed blocks out of the image (on for image files)"},
	{Word: "norecovery, noload", Text: "read-only mount although a journal wants to be replayed"},
	{Word: "commit=SECONDS", Text: "how often metadata is written (5)"},
	{Word: "barrier, nobarrier", Text: "flush the device between the phases of metadata writeback (on)"},
	{Word: "resv, noresv, reservation, noreservation", Text: "keep files that are written at once apart (on)"},
	{Word: "orlov, oldalloc", Text: "spread directories over the groups (orlov)"},
	{Word: "dax", Text: "read and write files as memory of the image, without a page cache; not for devices, nor with direct-io"},
	{Word: "path=legacy|bridge|iomap", Text: "the path of all operations (iomap)"},
	{Word: "legacy=OP+OP, bridge=…, iomap=…", Text: "the path of single operations: " + strings.Join(vfs.PathOpNames(), ", ")},
}

// parseOptions reads the words. A word that is not known is refused with the nearest one that is.
func parseOptions(words []string, super *disk.Superblock, o *Options) error {
	o.Errors = super.Errors
	o.ResUID, o.ResGID = uint32(super.ReservedUID), uint32(super.ReservedGID)
	o.GrpID = super.DefaultMountOpts&disk.DefMountBSDGroups != 0
	o.Commit, o.Reserve = 5*time.Second, true
	o.Paths = vfs.AllPaths(vfs.Iomap)
	for _, w := range words {
		if ok, err := o.Paths.Set(w); err != nil {
			return err
		} else if ok {
			continue
		}
		key, val, _ := strings.Cut(w, "=")
		number := func() (uint64, error) {
			n, err := strconv.ParseUint(val, 10, 32)
			if err != nil {
				return 0, fmt.Errorf("option %q: want a number: %w", w, errno.INVAL)
			}
			return n, nil
		}
		var n uint64
		var err error
		switch key {
		case "errors":
			switch val {
			case "continue":
				o.Errors = disk.ErrorsContinue
			case "remount-ro":
				o.Errors = disk.ErrorsRemountRO
			case "panic":
				o.Errors = disk.ErrorsPanic
			default:
				err = fmt.Errorf("option %q: want continue, remount-ro or panic: %w", w, errno.INVAL)
			}
		case "sb":
			o.SuperBlock, err = number()
		case "resuid":
			n, err = number()
			o.ResUID = uint32(n)
		case "resgid":
			n, err = number()
			o.ResGID = uint32(n)
		case "commit":
			n, err = number()
			o.Commit = time.Duration(max(n, 1)) * time.Second
		case "acl", "noacl":
			o.NoACL = key == "noacl"
		case "user_xattr", "nouser_xattr":
			o.NoUserXattr = key == "nouser_xattr"
		case "xattrshare":
			o.ShareXattr = true
		case "bsddf", "minixdf":
			o.MinixDF = key == "minixdf"
		case "grpid", "bsdgroups":
			o.GrpID = true
		case "nogrpid", "sysvgroups":
			o.GrpID = false
		case "check":
			if val != "none" {
				err = fmt.Errorf("option %q: want check=none; iomapfs check looks at everything: %w", w, errno.INVAL)
			}
		case "nocheck", "noquota", "quota", "usrquota", "grpquota":
		case "nouid32":
			o.NoUID32 = true
		case "discard", "nodiscard":
			o.Discard = key == "discard"
		case "norecovery", "noload":
			o.NoRecovery = true
		case "barrier", "nobarrier":
			o.NoBarrier = key == "nobarrier" || val == "0"
		case "reservation", "noreservation", "resv", "noresv":
			o.Reserve = !strings.HasPrefix(key, "no")
		case "dax":
			if o.DAX = true; val != "" && val != "always" {
				err = fmt.Errorf("option %q: want dax: %w", w, errno.INVAL)
			}
		case "orlov", "oldalloc":
			o.OldAlloc = key == "oldalloc"
		default:
			err = fmt.Errorf("option %q is not known; did you mean %q?: %w", w, nearest(key), errno.INVAL)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// superBlockWord gives the value of sb=, 0 without: it must be known before anything else can be read.
func superBlockWord(words []string) uint64 {
	var at uint64
	for _, w := range words {
		if val, ok := strings.CutPrefix(w, "sb="); ok {
			at, _ = strconv.ParseUint(val, 10, 32) // parseOptions reports what is wrong with it
		}
	}
	return at
}

// nearest gives the known word that differs least from w.
func nearest(w string) string {
	best, bestD := "", 1<<30
	for _, h := range help {
		for _, k := range strings.Split(h.Word, ", ") {
			k, _, _ = strings.Cut(k, "=")
			if d := distance(w, k); d < bestD {
				best, bestD = k, d
			}
		}
	}
	return best
}

// distance counts the letters to change, add or drop to get from a to b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		prev := row[0]
		row[0] = i + 1
		for j := range len(b) {
			d := prev
			if a[i] != b[j] {
				d++
			}
			prev = row[j+1]
			row[j+1] = min(d, row[j]+1, prev+1)
		}
	}
	return row[len(b)]
}
