package compare

import (
	"fmt"
	"strings"
	"sync"

	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/trace"
)

// Call is one event of an operation: a question to the filesystem and its answer, or a bio.
type Call struct {
	What string `json:"what"` // trace.Kind's name, or "read bio" and "write bio"
	Pos  int64  `json:"pos"`  // bytes: in the file, of a bio on the device
	Len  int64  `json:"len"`  // bytes asked for
	Addr int64  `json:"addr"` // bytes on the device, -1 for none: the answer
	Got  int64  `json:"got"`  // bytes answered
	Err  string `json:"err,omitempty"`
}

// calls counts the questions that a filesystem is asked, and keeps the first of them. It is a trace.Sink.
type calls struct {
	keep int

	mu              sync.Mutex // guards the rest. Leaf
	on              bool
	getBlock, begin int64
	list            []Call
}

// count switches counting on or off.
func (c *calls) count(on bool) {
	c.mu.Lock()
	c.on = on
	c.mu.Unlock()
}

// Emit is trace.Sink's.
func (c *calls) Emit(e trace.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.on {
		return
	}
	switch e.Kind {
	case trace.GetBlock:
		c.getBlock++
	case trace.Begin, trace.MapBlocks:
		c.begin++
	case trace.BioSubmit:
		return // the device sees them, of all paths
	}
	call := Call{What: e.Kind.String(), Pos: e.Pos, Len: e.Len, Addr: int64(e.Addr), Got: e.Got}
	if e.Err != nil {
		call.Err = e.Err.Error()
	}
	c.add(call)
}

// bio notes a bio that moves data.
func (c *calls) bio(b *block.Bio) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.on {
		what := "read bio"
		if b.Op == block.OpWrite {
			what = "write bio"
		}
		c.add(Call{What: what, Pos: b.Off, Len: b.Bytes(), Addr: -1})
	}
}

func (c *calls) add(call Call) {
	if len(c.list) < c.keep {
		c.list = append(c.list, call)
	}
}

// String reads "get_block 4096+8192 → 1052672, 4096": asked for 8192 bytes at 4096 of the file, found 4096 of them at 1052672 of the device.
func (c Call) String() string {
	s := fmt.Sprintf("%s %d+%d", c.What, c.Pos, c.Len)
	switch {
	case c.Err != "":
		return s + ": " + c.Err
	case strings.HasSuffix(c.What, " bio"):
		return s
	case c.Addr < 0:
		return fmt.Sprintf("%s → nowhere, %d", s, c.Got)
	}
	return fmt.Sprintf("%s → %d, %d", s, c.Addr, c.Got)
}
