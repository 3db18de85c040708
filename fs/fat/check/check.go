package check

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/iomapfs/iomapfs/fs/fat/codepage"
	"github.com/iomapfs/iomapfs/fs/fat/disk"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// Code says what kind of problem was found. The words are stable.
type Code string

// The problems, in the order of the passes that find them.
const (
	Boot       Code = "boot-sector"   // a field that makes the rest unreadable
	Backup     Code = "backup"        // the copy of the boot sector differs
	Info       Code = "fsinfo"        // FSInfo without its signatures, or with wrong counts
	FATFirst   Code = "fat-first"     // FAT[0] does not hold the media byte
	FATEntry   Code = "fat-entry"     // an entry that leads nowhere
	FATCopies  Code = "fat-copies"    // the copies of the FAT differ
	Start      Code = "start"         // a first cluster that cannot be
	ChainFree  Code = "chain-free"    // a chain into a free or defect cluster
	CrossLink  Code = "cross-link"    // a cluster in two chains, or twice in one
	SameStart  Code = "same-start"    // two names lead to the same file
	Size       Code = "size"          // a size that is more than the chain has
	LongChain  Code = "long-chain"    // a chain that goes on behind the size
	Dots       Code = "dots"          // "." or ".." missing or wrong
	Name       Code = "name"          // a name that cannot be
	Duplicate  Code = "duplicate"     // a name twice in one directory
	LongName   Code = "long-name"     // parts of a long name without an entry
	AfterEnd   Code = "after-end"     // slots in use behind the mark that ends a directory: some systems see them, others do not
	Label      Code = "label"         // a volume label outside the root directory, or a second one
	DirTooLong Code = "dir-too-long"  // more slots than a directory may have
	Lost       Code = "lost-clusters" // in use without a name
)

// Problem is one finding.
type Problem struct {
	Code  Code   `json:"code"`
	Where string `json:"where"` // a path, "boot sector", "cluster 77" …
	What  string `json:"what"`  // what was found and what should be there
}

// String reads "/A.JPG: size is …  [size]".
func (p Problem) String() string { return p.Where + ": " + p.What + " [" + string(p.Code) + "]" }

// Report is the outcome of a check.
type Report struct {
	Problems []Problem `json:"problems"`
	More     bool      `json:"more"` // the check stopped at Options.MaxProblems

	Dirty bool `json:"dirty"` // not unmounted cleanly, or errors were noted: not a problem in itself

	Files       uint32 `json:"files"` // the directories are not among them
	Directories uint32 `json:"directories"`
	Clusters    uint32 `json:"clusters"`
	Free        uint32 `json:"free"`
	Defect      uint32 `json:"defect"`
}

// Clean reports that nothing was found.
func (r *Report) Clean() bool { return len(r.Problems) == 0 }

// Options says how to check. The zero value is right.
type Options struct {
	MaxProblems int           // stop after so many. 0: 1000
	CodePage    disk.CodePage // of short names. nil: 437

	// Progress, when set, is called now and then with the part of the check that is done, 0 to 1.
	Progress func(done float64)
}

var errEnough = errors.New("enough problems")

// Check looks for damage in the filesystem on r, a device of size bytes. It only reads.
// The error says that the check could not be made: r cannot be read (its error is wrapped), ctx is done, or there is no FAT
// (errno.INVAL). What was found until then is in the report. A boot sector that contradicts itself is a problem, and the only
// one in the report.
func Check(ctx context.Context, r io.ReaderAt, size int64, o Options) (Report, error) {
	if o.MaxProblems <= 0 {
		o.MaxProblems = 1000
	}
	if o.CodePage == nil {
		cp, err := codepage.Find(codepage.Default)
		if err != nil {
			return Report{}, err
		}
		o.CodePage = cp
	}
	c := &checker{ctx: ctx, r: r, size: size, o: o}
	err := c.run()
	if errors.Is(err, errEnough) {
		c.rep.More = true
		err = nil
	}
	return c.rep, err
}

type checker struct {
	ctx  context.Context
	r    io.ReaderAt
	size int64
	o    Options
	rep  Report

	boot disk.BootSector
	g    *disk.Geometry
	fat  []byte   // the active FAT, in a window
	at   uint32   // of the window in the FAT, bytes
	have uint32   // of the FAT in the window, bytes; a few zeros follow
	used []uint64 // a bit for each cluster that a name leads to
	seen uint32   // how many those are
}

func (c *checker) found(code Code, where, format string, args ...any) error {
	c.rep.Problems = append(c.rep.Problems, Problem{code, where, fmt.Sprintf(format, args...)})
	if len(c.rep.Problems) >= c.o.MaxProblems {
		return errEnough
	}
	return nil
}

func (c *checker) read(p []byte, off int64, what string) error {
	if n, err := c.r.ReadAt(p, off); n < len(p) {
		if err == nil {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("check: %s at byte %d: %w", what, off, err)
	}
	return nil
}

func (c *checker) run() error {
	sector := make([]byte, disk.BootSize)
	if c.size < disk.BootSize {
		return fmt.Errorf("check: %d bytes are too few for a FAT filesystem: %w", c.size, errno.INVAL)
	}
	if err := c.read(sector, 0, "boot sector"); err != nil {
		return err
	}
	var err error
	if c.boot, err = disk.DecodeBootSector(sector); err != nil {
		return fmt.Errorf("check: %w: %w", err, errno.INVAL)
	}
	if c.g, err = disk.NewGeometry(&c.boot, c.size); err != nil {
		return c.found(Boot, "boot sector", "%v", err)
	}
	c.rep.Clusters = c.g.Clusters
	c.used = make([]uint64, c.g.Last()/64+1)
	for _, pass := range []func() error{c.checkBoot, c.checkFAT, c.checkTree, c.checkLost} {
		if err := pass(); err != nil {
			return err
		}
	}
	return nil
}

// checkBoot looks at the copy of the boot sector, at FSInfo and at the first two entries of the FAT.
func (c *checker) checkBoot() error {
	g := c.g
	if g.Width == disk.FAT32 && g.Backup != 0 {
		p := make([]byte, disk.BootSize)
		if err := c.read(p, g.BytesOf(g.Backup), "copy of the boot sector"); err != nil {
			return err
		}
		b, err := disk.DecodeBootSector(p)
		if err != nil {
			return c.found(Backup, "copy of the boot sector", "%v", err)
		}
		a := c.boot
		a.State, b.State = 0, 0
		if a != b {
			if err := c.found(Backup, "copy of the boot sector", "differs from the boot sector"); err != nil {
				return err
			}
		}
	}
	e, err := c.entry(0)
	if err != nil {
		return err
	}
	mask := disk.Entry(1<<min(g.Width, 28) - 1)
	if want, _ := disk.Reserved(c.boot.Media); (e^want)&mask != 0 {
		if err := c.found(FATFirst, "FAT", "entry 0 is %#x, want %#x, which is the media byte and ones", e&mask, want&mask); err != nil {
			return err
		}
	}
	dirty, bad := disk.FATView{G: g, B: c.fat, Off: c.at}.State()
	c.rep.Dirty = dirty || bad || c.boot.State&(disk.StateDirty|disk.StateError) != 0
	return nil
}

// window is how much of the FAT is held: whole entries of every width.
const window = 3 << 16

// entry reads the entry of a cluster in the active FAT.
func (c *checker) entry(n disk.Cluster) (disk.Entry, error) {
	off, _ := c.g.EntryAt(n)
	if c.fat == nil || off < c.at || off+4 > c.at+c.have {
		if err := c.ctx.Err(); err != nil {
			return 0, err
		}
		c.at = off / (window / 2) * (window / 2)
		length := min(int64(window), c.g.FATLength()-int64(c.at))
		c.fat, c.have = make([]byte, length+4), uint32(length)
		if err := c.read(c.fat[:length], c.g.BytesOf(c.g.FATStart(c.g.Active))+int64(c.at), "FAT"); err != nil {
			return 0, err
		}
	}
	return disk.FATView{G: c.g, B: c.fat, Off: c.at}.At(n), nil
}

// checkFAT looks at all entries, and compares the copies.
func (c *checker) checkFAT() error {
	g := c.g
	for n := disk.FirstCluster; n <= g.Last(); n++ {
		e, err := c.entry(n)
		if err != nil {
			return err
		}
		switch {
		case e == disk.Free:
			c.rep.Free++
		case e == disk.Defect:
			c.rep.Defect++
		case e.IsEnd():
		default:
			if _, ok := e.Next(g); !ok {
				if err := c.found(FATEntry, where(n), "the FAT leads on to cluster %d, want 2 to %d", e, g.Last()); err != nil {
					return err
				}
			}
		}
	}
	if g.Mirror {
		if err := c.compareFATs(); err != nil {
			return err
		}
	}
	if g.Width != disk.FAT32 || g.Info == 0 {
		return nil
	}
	p := make([]byte, disk.BootSize)
	if err := c.read(p, g.BytesOf(g.Info), "FSInfo"); err != nil {
		return err
	}
	info, err := disk.DecodeFSInfo(p)
	switch {
	case err != nil:
		return c.found(Info, "FSInfo", "%v", err)
	case info.Free != disk.Unknown && info.Free != c.rep.Free:
		return c.found(Info, "FSInfo", "says that %d clusters are free, it is %d", info.Free, c.rep.Free)
	}
	return nil
}

func where(n disk.Cluster) string { return fmt.Sprintf("cluster %d", n) }

func (c *checker) compareFATs() error {
	a, b := make([]byte, window), make([]byte, window)
	for i := uint32(1); i < c.g.FATs; i++ {
		for off, end := int64(0), c.g.FATBytes(); off < end; off += window {
			n := min(window, end-off)
			if err := c.read(a[:n], c.g.BytesOf(c.g.FATStart(0))+off, "FAT"); err != nil {
				return err
			}
			if err := c.read(b[:n], c.g.BytesOf(c.g.FATStart(i))+off, "FAT"); err != nil {
				return err
			}
			if string(a[:n]) != string(b[:n]) {
				if err := c.found(FATCopies, "FAT", "copy %d differs from the first behind byte %d", i, off); err != nil {
					return err
				}
				break
			}
		}
	}
	return nil
}

func (c *checker) isUsed(n disk.Cluster) bool { return c.used[n/64]&(1<<(n%64)) != 0 }

// checkLost counts what is in use without a name.
func (c *checker) checkLost() error {
	if c.seen == c.g.Clusters-c.rep.Free-c.rep.Defect {
		return nil
	}
	lost, first := 0, disk.Cluster(0)
	for n := disk.FirstCluster; n <= c.g.Last(); n++ {
		if c.isUsed(n) {
			continue
		}
		e, err := c.entry(n)
		if err != nil {
			return err
		}
		if e != disk.Free && e != disk.Defect {
			if lost++; lost == 1 {
				first = n
			}
		}
	}
	if lost > 0 {
		return c.found(Lost, where(first), "%d clusters are in use, but no name leads to them; this is the first", lost)
	}
	return nil
}
