package minix

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/iomapfs/iomapfs/fstests/fsstress"
	"github.com/iomapfs/iomapfs/fstests/model"
	"github.com/iomapfs/iomapfs/fstests/target"
	"github.com/iomapfs/iomapfs/porting/minix/mkfs"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
	"github.com/iomapfs/iomapfs/vfs/trace"
)

// There is one side of everything, and who asks for another is told.
func TestStep12OneSide(t *testing.T) {
	for op := range vfs.NumPathOps {
		if got := Type.Sides(op); !slices.Equal(got, []vfs.Path{vfs.Iomap}) {
			t.Errorf("%s has the sides %v; want iomap and no other", op, got)
			break
		}
	}
	r := newRig(t)
	r.unmount()
	for _, word := range []string{"path=legacy", "path=bridge", "legacy=fiemap"} {
		sb, err := Type.Mount(background, r.dev, &vfs.MountOptions{Words: []string{word}})
		if err == nil {
			r.must(sb.Unmount(background))
		}
		if !errors.Is(err, errno.INVAL) {
			t.Errorf("a mount with %s: %v; there is no such side, which is EINVAL", word, err)
		}
	}
	sb, err := Type.Mount(background, r.dev, &vfs.MountOptions{Words: []string{"path=iomap"}})
	r.must(err)
	r.must(sb.Unmount(background))
}

// Every operation, by itself, and get_block never.
func TestStep12Operations(t *testing.T) {
	r := newRig(t)
	f := r.file("f", 500<<10, holey...)
	zones := r.zones(f)
	if n := len(r.extents(f, 100)); n == 0 {
		t.Error("FIEMAP: no extents")
	}
	if got, err := f.Seek(background, 3<<10, vfs.SeekData); err != nil || got != 5<<10 {
		t.Errorf("SEEK_DATA at 3072 answered %d, %v; want 5120", got, err)
	}
	if got, err := f.Inode.Bmap(background, 6); err != nil || got != zones[6] {
		t.Errorf("bmap of block 6 answered %d, %v; its zone is %d", got, err, zones[6])
	}
	swap := r.file("swap", 40<<10, blocks([2]int64{0, 40})...)
	if err := swap.Inode.SwapActivate(background, 100, func(vfs.SwapExtent) error { return nil }); err != nil {
		t.Errorf("swapon: %v", err)
	}
	swap.Inode.SwapDeactivate()
	_, err := r.directWrite(f, 500<<10, bytes.Repeat([]byte{3}, 4096))
	r.must(err)
	if p := r.direct(f, 500<<10, 4096); len(p) != 4096 || p[0] != 3 {
		t.Error("what was written directly is not read directly")
	}
	if n := r.count.since()[trace.GetBlock]; n != 0 {
		t.Errorf("get_block was called %d times", n)
	}
}

// All versions of the format, random operations, against a model. fsck.minix has the last word.
func TestStep12Model(t *testing.T) {
	for _, o := range []mkfs.Options{{Version: 1, NameMax: 14}, {Version: 1}, {Version: 2}, {Version: 3}, {Version: 3, BlockSize: 4096}} {
		r := newRigOf(t, 8<<20, o)
		m := model.New(false)
		err := fsstress.Run(fsstress.Options{
			Seed: 12, Ops: 1500, MaxFile: 100 << 10, NoXattr: true, NoPunch: true, NoZero: true, NoStore: true, NameMax: r.sb.NameMax, Small: true,
		}, m, &target.Super{SB: r.sb, Label: "minix"})
		if err != nil {
			t.Fatalf("version %d, blocks of %d bytes: %v", o.Version, o.BlockSize, err)
		}
		r.unmount()
		n := r.count.since()
		if n[trace.GetBlock] != 0 {
			t.Errorf("get_block was called %d times", n[trace.GetBlock])
		}
		t.Logf("counter: version %d, 1500 operations: get_block %d, begin %d, mapBlocks %d", o.Version, n[trace.GetBlock], n[trace.Begin], n[trace.MapBlocks])
		r.mount(false)
		if err := fsstress.Compare(0, m, &target.Super{SB: r.sb, Label: "minix, mounted again"}); err != nil {
			t.Fatalf("version %d: %v", o.Version, err)
		}
	}
}
