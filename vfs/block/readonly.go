package block

// readOnly refuses changes of the device below.
type readOnly struct {
	Device
	lim Limits // immutable
}

// ReadOnly gives d without its changes: writes, discards and write-zeroes answer errno.ROFS; a flush has nothing to do. Closing
// it closes d. Memory is not offered (DAX), as it could be written.
func ReadOnly(d Device) Device {
	if d.Limits().ReadOnly && !d.Limits().DirectMemory {
		return d
	}
	r := &readOnly{Device: d, lim: *d.Limits()}
	r.lim.ReadOnly, r.lim.DirectMemory = true, false
	return r
}

func (d *readOnly) Limits() *Limits { return &d.lim }

// refuse says why a bio must not be passed on; nil for reads, and for flushes, which the device below answers as it likes.
func (d *readOnly) refuse(b *Bio) error {
	if b.Op == OpRead || b.Op == OpFlush {
		return nil
	}
	return b.Fail(d.Name(), "", b.Check(d.Size(), &d.lim))
}

func (d *readOnly) Submit(b *Bio) {
	if err := d.refuse(b); err != nil {
		b.End(err)
		return
	}
	d.Device.Submit(b)
}

func (d *readOnly) SubmitWait(b *Bio) error {
	if b.Err = d.refuse(b); b.Err != nil {
		return b.Err
	}
	return SubmitWait(d.Device, b)
}

func (d *readOnly) BackingFile() (fd uintptr, base int64, ok bool) {
	if b, is := d.Device.(Backing); is {
		return b.BackingFile()
	}
	return 0, 0, false
}

func (d *readOnly) NextData(off int64) (start, end int64, err error) { return NextData(d.Device, off) }
