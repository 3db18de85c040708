package images

import "github.com/iomapfs/iomapfs/vfs/block"

// Writer is an io.WriterAt over a block device, for writes of any alignment. One goroutine at a time.
type Writer struct{ dev block.Device }

// WriterAt makes a Writer.
func WriterAt(dev block.Device) *Writer { return &Writer{dev} }

// WriteAt writes p at off, reading the edges first where blocks of the device are cut.
func (w *Writer) WriteAt(p []byte, off int64) (int, error) {
	bs := int64(w.dev.Limits().LogicalBlock)
	from, to := off&^(bs-1), (off+int64(len(p))+bs-1)&^(bs-1)
	if from == off && to == off+int64(len(p)) {
		return len(p), block.WriteAt(w.dev, p, off, 0)
	}
	b := make([]byte, to-from)
	if err := block.ReadAt(w.dev, b[:bs], from); err != nil {
		return 0, err
	}
	if to-from > bs {
		if err := block.ReadAt(w.dev, b[to-from-bs:], to-bs); err != nil {
			return 0, err
		}
	}
	copy(b[off-from:], p)
	return len(p), block.WriteAt(w.dev, b, from, 0)
}

// ZeroRange makes a range read as zeros, without writing them where the device can.
func (w *Writer) ZeroRange(off, length int64) error {
	bs := int64(w.dev.Limits().LogicalBlock)
	from, to := (off+bs-1)&^(bs-1), (off+length)&^(bs-1)
	if from >= to {
		_, err := w.WriteAt(make([]byte, length), off)
		return err
	}
	if from > off {
		if _, err := w.WriteAt(make([]byte, from-off), off); err != nil {
			return err
		}
	}
	if err := block.WriteZeroes(w.dev, from, to-from); err != nil {
		return err
	}
	if end := off + length; end > to {
		if _, err := w.WriteAt(make([]byte, end-to), to); err != nil {
			return err
		}
	}
	return nil
}
