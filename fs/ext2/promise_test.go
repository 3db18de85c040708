package ext2

import (
	"bytes"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/block/faulty"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// A block was promised behind an indirect block that was there. It is freed by a punch, and somebody else takes what is free: the
// promise is kept all the same.
func TestPromiseOutlivesItsIndirectBlock(t *testing.T) {
	clean, err := os.ReadFile(nameImage(t, "2M", "-b", "1024", "-m", "0", "-N", "64"))
	require.NoError(t, err)
	sb, _, _ := faultyMount(t, clean, "path=iomap")
	ip, err := sb.Root.Create(tctx, vfs.Root, "f", 0o644)
	require.NoError(t, err)
	require.NoError(t, ip.SetAttr(tctx, vfs.Root, &vfs.SetAttr{Valid: vfs.SetSize, Size: 100 << 10}))
	f, err := ip.Open(tctx, vfs.ORdwr)
	require.NoError(t, err)
	one := bytes.Repeat([]byte{1}, 1024)
	writeFile(t, ip, one, 40<<10)
	require.NoError(t, f.Fsync(tctx, false))
	writeFile(t, ip, one, 60<<10) // promised
	fs := fsOf(sb)
	require.Equal(t, int64(1), fs.promised.Load())
	require.NoError(t, f.Fallocate(tctx, vfs.FallocPunchHole|vfs.FallocKeepSize, 40<<10, 1024))
	require.Equal(t, int64(2), fs.promised.Load(), "the indirect block too")
	require.NoError(t, fs.commitNow(tctx))
	for fs.freeBlocks.Load() > fs.promised.Load() {
		takeFree(t, sb, fs)
	}
	require.NoError(t, f.Fsync(tctx, false))
	require.Zero(t, fs.promised.Load())
	want := make([]byte, 100<<10)
	copy(want[60<<10:], one)
	ip.Pages.DropClean(0, 1<<40)
	require.Equal(t, want, readFile(t, ip))
	f.Close()
	ip.Put()
	require.NoError(t, sb.Unmount(tctx))
}

// takeFree takes blocks that are free and not promised. They belong to nobody.
func takeFree(t *testing.T, sb *vfs.SuperBlock, fs *fsys) {
	t.Helper()
	ip := inodeOf(sb.Root)
	fs.begin()
	defer fs.end()
	ip.mapMu.Lock()
	defer ip.mapMu.Unlock()
	_, n, err := fs.allocBlocks(tctx, ip, wish{}, uint32(fs.freeBlocks.Load()-fs.promised.Load()))
	require.NoError(t, err)
	require.NotZero(t, n)
}

// Data whose block cannot be chosen is given up, and told; its promise is given back.
func TestPromiseOfLostData(t *testing.T) {
	clean, err := os.ReadFile(nameImage(t, "2M", "-b", "1024", "-m", "0", "-N", "64"))
	require.NoError(t, err)
	sb, dev, _ := faultyMount(t, clean, "path=iomap")
	ip, err := sb.Root.Create(tctx, vfs.Root, "f", 0o644)
	require.NoError(t, err)
	f, err := ip.Open(tctx, vfs.ORdwr)
	require.NoError(t, err)
	writeFile(t, ip, make([]byte, 30<<10), 0)
	fs := fsOf(sb)
	require.NotZero(t, fs.promised.Load())
	fs.bd.DropClean()
	dev.Add(faulty.Rule{Op: block.OpRead, Always: true, Err: errno.IO})
	require.Error(t, f.Fsync(tctx, false))
	dev.Clear()
	require.Zero(t, fs.promised.Load())
	f.Close()
	ip.Put()
	_ = sb.Unmount(tctx) // the block bitmap could not be read: damage was noted
}
