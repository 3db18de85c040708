package images

import (
	"errors"
	"fmt"
	"strings"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/block/file"
	"github.com/iomapfs/iomapfs/vfs/block/part"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// Probe says what a device holds; false when it is nothing that is known.
type Probe func(dev block.Device) (vfs.Probe, bool)

// ErrAmbiguous says that several partitions hold a filesystem and none was named.
var ErrAmbiguous = errors.New("several partitions hold a filesystem: name one")

// ErrNothing says that what was named is not there.
var ErrNothing = errors.New("no such partition")

// Open opens what a spec names. Without a partition: the whole when it holds a known filesystem or has no partitions, else
// the only partition that does. The partition is nil for the whole.
// Errors: ErrAmbiguous and ErrNothing, with errno.INVAL; file.Open's.
func Open(spec string, o file.Options, probe Probe) (block.Device, *Partition, error) {
	sp, err := Parse(spec)
	if err != nil {
		return nil, nil, err
	}
	o.Share = true // until it is known which bytes are wanted
	dev, err := file.Open(sp.Path, o)
	if err != nil {
		return nil, nil, err
	}
	d, p, err := pick(dev, sp, probe)
	if err == nil && !o.NoLock {
		off := int64(0)
		if w, ok := d.(*part.Device); ok {
			off = w.Start()
		}
		if err = dev.LockRange(off, d.Size()); err != nil && off > 0 {
			err = fmt.Errorf("bytes %d to %d: %w", off, off+d.Size(), err)
		}
	}
	if err != nil {
		return nil, nil, errors.Join(err, dev.Close())
	}
	return d, p, nil
}

func pick(dev block.Device, sp Spec, probe Probe) (block.Device, *Partition, error) {
	if sp.Range {
		n := sp.Size
		if n == 0 {
			n = dev.Size() - sp.Offset
		}
		d, err := part.New(dev, sp.Offset, n, fmt.Sprintf("%s@offset=%d,size=%d", sp.Path, sp.Offset, n))
		if err != nil {
			return nil, nil, err
		}
		return d, nil, nil
	}
	named := sp.Part != 0 || sp.Label != "" || sp.UUID != ""
	if !named {
		if _, ok := probe(dev); ok {
			return dev, nil, nil
		}
	}
	t, err := ReadTable(dev)
	if err != nil {
		return nil, nil, err
	}
	if len(t.Partitions) == 0 && !named {
		return dev, nil, nil
	}
	var found []Partition
	var listed []string
	for _, p := range t.Partitions {
		w, err := part.New(dev, p.Start, p.Size, sp.Path)
		if err != nil {
			continue
		}
		what, ok := probe(w)
		match := ok && !named
		switch {
		case sp.Part != 0:
			match = p.Number == sp.Part
		case sp.Label != "":
			match = ok && what.Label == sp.Label
		case sp.UUID != "":
			match = ok && strings.EqualFold(what.UUID, sp.UUID)
		}
		if match {
			found = append(found, p)
		}
		listed = append(listed, fmt.Sprintf("%s@%d (%s)", sp.Path, p.Number, kindOf(what, ok)))
	}
	switch {
	case len(found) == 0:
		return nil, nil, fmt.Errorf("%s: %w; there are %s: %w", sp.Path, ErrNothing, list(listed), errno.INVAL)
	case len(found) > 1:
		return nil, nil, fmt.Errorf("%s: %w: %s: %w", sp.Path, ErrAmbiguous, list(listed), errno.INVAL)
	}
	p := found[0]
	d, err := part.New(dev, p.Start, p.Size, fmt.Sprintf("%s@%d", sp.Path, p.Number))
	return d, &p, err
}

func kindOf(p vfs.Probe, ok bool) string {
	if !ok {
		return "unknown"
	}
	return p.Type
}

func list(s []string) string {
	if len(s) == 0 {
		return "no partitions"
	}
	return strings.Join(s, ", ")
}
