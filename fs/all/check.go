package all

import (
	"context"
	"io"

	"github.com/iomapfs/iomapfs/fs/ext2/check"
	"github.com/iomapfs/iomapfs/vfs/block"
)

func ext2Check(ctx context.Context, dev block.Device, max int, progress func(done float64)) (*Checked, error) {
	rep, err := check.Check(ctx, ReaderAt(dev), dev.Size(), check.Options{MaxProblems: max, Progress: progress})
	if err != nil {
		return nil, err
	}
	c := &Checked{Problems: []Problem{}, More: rep.More, Dirty: rep.Dirty, Files: rep.Files, Directories: rep.Directories}
	for _, p := range rep.Problems {
		c.Problems = append(c.Problems, Problem{string(p.Code), p.Where, p.What, uint64(p.Ino)})
	}
	return c, nil
}

// ReaderAt reads a device at any offset and length, as an io.ReaderAt does: io.EOF at its end.
func ReaderAt(dev block.Device) io.ReaderAt { return readerAt{dev} }

type readerAt struct{ dev block.Device }

// ReadAt reads whole blocks of the device around what is asked where that is not aligned.
func (r readerAt) ReadAt(p []byte, off int64) (int, error) {
	size := r.dev.Size()
	if off < 0 || off >= size {
		return 0, io.EOF
	}
	want := p[:min(int64(len(p)), size-off)]
	bs := int64(r.dev.Limits().LogicalBlock)
	from, to := off&^(bs-1), (off+int64(len(want))+bs-1)&^(bs-1)
	var err error
	if from == off && to == off+int64(len(want)) {
		err = block.ReadAt(r.dev, want, off)
	} else {
		b := make([]byte, to-from)
		err = block.ReadAt(r.dev, b, from)
		copy(want, b[off-from:])
	}
	if err != nil {
		return 0, err
	}
	if len(want) < len(p) {
		return len(want), io.EOF
	}
	return len(want), nil
}
