package bufhead

import (
	"sync"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
	"github.com/iomapfs/iomapfs/vfs/trace"
)

// chain is a bio that grows over neighbouring folios (struct mpage_data): each folio is wholly in one bio, whose
// completion ends the folio's I/O.
type chain struct {
	block.Bio
	dev    block.Device
	end    int64 // device byte after what is in the bio
	bytes  int64
	folios []*pagecache.Folio
	size   int64 // reads: the file's size when the read began
	ip     *vfs.Inode
}

const maxBio = 1 << 20

var chains = sync.Pool{New: func() any { return new(chain) }}

// send counts, traces and submits a bio of inode ino, or of the device itself.
func send(dev block.Device, b *block.Bio, t trace.Sink, ino uint64) {
	account(b, t, ino)
	dev.Submit(b)
}

func account(b *block.Bio, t trace.Sink, ino uint64) {
	biosSubmitted.Add(1)
	if t != nil {
		t.Emit(trace.Event{Kind: trace.BioSubmit, Ino: ino, Pos: b.Off, Len: b.Bytes()})
	}
}

// fits reports whether n bytes can be one bio.
func fits(dev block.Device, n int) bool {
	most := dev.Limits().MaxBio
	return most == 0 || int64(n) <= most
}

// add appends part of a folio at device byte off, handing the bio on first when it does not continue there.
func (c *chain) add(ip *vfs.Inode, dev block.Device, off int64, data []byte, fo *pagecache.Folio, op block.Op, fl block.Flags) *chain {
	if c != nil && (c.dev != dev || c.end != off || c.bytes+int64(len(data)) > maxBio || !fits(dev, int(c.bytes)+len(data))) {
		c.submit()
		c = nil
	}
	if c == nil {
		c = chains.Get().(*chain)
		c.ip, c.dev, c.Off, c.end = ip, dev, off, off
		c.Op, c.Flags = op, fl
	}
	c.Vecs = append(c.Vecs, data)
	c.folios = append(c.folios, fo)
	c.end += int64(len(data))
	c.bytes += int64(len(data))
	return c
}

// submit sends the bio off; the chain belongs to its completion.
func (c *chain) submit() {
	if c == nil {
		return
	}
	c.Done = chainDone
	c.Private = c
	send(c.dev, &c.Bio, c.ip.SB().Trace, c.ip.Ino())
}

func chainDone(b *block.Bio) {
	c := b.Private.(*chain)
	for _, fo := range c.folios {
		if b.Op == block.OpRead {
			if tail := c.size - fo.Pos(); b.Err == nil && tail < int64(fo.Len()) && tail >= 0 {
				clear(fo.Data()[tail:]) // what lies past the end of the file is zeros, whatever the device holds there
			}
			fo.EndRead(b.Err == nil)
			continue
		}
		if b.Err != nil {
			c.ip.Pages.SetError(b.Err) // before the folio looks clean, so that whoever waited finds it
		}
		fo.EndWriteback()
	}
	c.free()
}

func (c *chain) free() {
	clear(c.Vecs)
	clear(c.folios)
	*c = chain{Bio: block.Bio{Vecs: c.Vecs[:0]}, folios: c.folios[:0]}
	chains.Put(c)
}
