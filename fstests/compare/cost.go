package compare

import (
	"math"
	"runtime"
	"slices"
	"time"

	"github.com/iomapfs/iomapfs/bufhead"
	"github.com/iomapfs/iomapfs/iomap"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
)

// Cost is what one run of an operation took.
type Cost struct {
	Time       time.Duration `json:"time_ns"`
	CPU        time.Duration `json:"cpu_ns"` // of the process; 0 where the host does not tell
	Allocs     int64         `json:"allocs"`
	AllocBytes int64         `json:"alloc_bytes"`
	GetBlock   int64         `json:"get_block"` // calls
	Begin      int64         `json:"begin"`     // calls of begin and of writeback's map_blocks
	Bios       int64         `json:"bios"`
	BioBytes   int64         `json:"bio_bytes"`
	StateBytes int64         `json:"state_bytes"` // beside cached data, when the operation was over
	Pages      int64         `json:"pages"`       // cached then
}

// figures are the parts of a cost, each to be summed up by itself.
var figures = []func(c *Cost) *int64{
	func(c *Cost) *int64 { return (*int64)(&c.Time) },
	func(c *Cost) *int64 { return (*int64)(&c.CPU) },
	func(c *Cost) *int64 { return &c.Allocs },
	func(c *Cost) *int64 { return &c.AllocBytes },
	func(c *Cost) *int64 { return &c.GetBlock },
	func(c *Cost) *int64 { return &c.Begin },
	func(c *Cost) *int64 { return &c.Bios },
	func(c *Cost) *int64 { return &c.BioBytes },
	func(c *Cost) *int64 { return &c.StateBytes },
	func(c *Cost) *int64 { return &c.Pages },
}

// Side is one path's figures.
type Side struct {
	Path   string  `json:"path"`
	Median Cost    `json:"median"` // of each figure by itself
	Low    Cost    `json:"low"`    // first quartile
	High   Cost    `json:"high"`   // third quartile
	Min    Cost    `json:"min"`
	Max    Cost    `json:"max"`
	Spread float64 `json:"spread"` // of the time: between the quartiles, as a share of the median
	Runs   []Cost  `json:"runs"`
	Locks  []Lock  `json:"locks"` // taken in the run that counts
	Done   int64   `json:"done"`  // bytes moved, or answers given: equal on all paths but for swap
}

// Lock says how often locks of a rank were taken.
type Lock struct {
	Rank  string `json:"rank"`
	Taken int64  `json:"taken"`
}

// Result is one operation compared. Sides begin with the path that is compared with, and end with iomap.
type Result struct {
	Op       string `json:"op"`
	What     string `json:"what"`
	Workload bool   `json:"workload"`
	Sides    []Side `json:"sides"`
	// Ratio is the first side's time by the last's: above 1 the last is faster. Clear says that it exceeds the spread.
	Ratio    float64 `json:"ratio"`
	CPURatio float64 `json:"cpu_ratio"` // likewise of processor time
	Clear    bool    `json:"clear"`
	Same     bool    `json:"same"`  // bytes, answers and trees
	Files    int     `json:"files"` // names in the trees that were compared
	// Noise is by how much the machine wavered: the spread of the time of a piece of work that was the same before each run.
	Noise float64 `json:"noise"`
	// Calls are the events of each side, when they were asked for.
	Calls [][]Call `json:"calls,omitempty"`
}

// settle works out the middle and the spread.
func (s *Side) settle() {
	n := len(s.Runs)
	values := make([]int64, n)
	for _, part := range figures {
		for i := range s.Runs {
			values[i] = *part(&s.Runs[i])
		}
		slices.Sort(values)
		*part(&s.Min), *part(&s.Max) = values[0], values[n-1]
		*part(&s.Median), *part(&s.Low), *part(&s.High) = values[n/2], values[n/4], values[n-1-n/4]
	}
	s.Spread = float64(s.High.Time-s.Low.Time) / float64(max(s.Median.Time, 1))
}

// Taken is how often locks were taken.
func (s *Side) Taken() (n int64) {
	for _, l := range s.Locks {
		n += l.Taken
	}
	return n
}

// settle compares the first side with the last.
func (r *Result) settle(noise []time.Duration) {
	for i := range r.Sides {
		r.Sides[i].settle()
	}
	a, b := &r.Sides[0], &r.Sides[len(r.Sides)-1]
	r.Ratio = float64(a.Median.Time) / float64(max(b.Median.Time, 1))
	r.CPURatio = float64(a.Median.CPU) / float64(max(b.Median.CPU, 1))
	r.Clear = math.Abs(r.Ratio-1) > max(a.Spread, b.Spread)
	slices.Sort(noise)
	n := len(noise)
	r.Noise = float64(noise[n-1-n/4]-noise[n/4]) / float64(max(noise[n/2], 1))
}

// waver times a piece of work that is always the same.
func waver(a, b []byte) time.Duration {
	begun := time.Now()
	for range 8 {
		copy(a, b)
		copy(b, a)
	}
	return time.Since(begun)
}

// measure runs the operation and counts what it takes.
func (e *env) measure(op *Op, dev *replica, c *Cost) error {
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	bios, bytes := dev.bios.Load(), dev.bioBytes.Load()
	e.n = 0
	cpu, begun := processTime(), time.Now()
	err := op.run(e)
	c.Time, c.CPU = time.Since(begun), processTime()-cpu
	runtime.ReadMemStats(&after)
	c.Allocs, c.AllocBytes = int64(after.Mallocs-before.Mallocs), int64(after.TotalAlloc-before.TotalAlloc)
	c.Bios, c.BioBytes = dev.bios.Load()-bios, dev.bioBytes.Load()-bytes
	return err
}

// stateBytes gives the memory that the layer of a mount keeps beside a folio.
func stateBytes(sb *vfs.SuperBlock) func(fo *pagecache.Folio) int64 {
	if sb.Paths[vfs.OpBufferedRead] == vfs.Iomap {
		return func(fo *pagecache.Folio) int64 { return int64(iomap.StateBytes(fo)) }
	}
	each := bufhead.ReadStats().BytesPerBlock
	return func(fo *pagecache.Folio) int64 {
		if fo.Private() == nil {
			return 0
		}
		return int64(fo.Len()) >> sb.BlockBits * each
	}
}
