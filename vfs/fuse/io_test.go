//go:build linux

package fuse_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/iomapfs/iomapfs/vfs"
	vfsfuse "github.com/iomapfs/iomapfs/vfs/fuse"
)

// TestDirect mixes direct and cached reads and writes of one file, aligned and not, against a copy in memory.
func TestDirect(t *testing.T) {
	each(t, func(t *testing.T, tr string) {
		m := mount(t, vfsfuse.Options{Transport: tr}, nil)
		p := filepath.Join(m.dir, "f")
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		r := rand.New(rand.NewPCG(seed, 1))
		cached, err := os.OpenFile(p, os.O_RDWR|os.O_CREATE, 0o644)
		require.NoError(t, err)
		defer cached.Close()
		direct, err := os.OpenFile(p, os.O_RDWR|unix.O_DIRECT, 0)
		require.NoError(t, err)
		defer direct.Close()
		var want []byte
		for i := range 400 {
			f, pos, n := cached, r.IntN(100_000), r.IntN(20_000)
			if r.IntN(2) == 0 {
				f = direct
			}
			if r.IntN(3) == 0 {
				pos, n = pos&^4095, n&^4095
			}
			if r.IntN(2) == 0 {
				b := make([]byte, n)
				for j := range b {
					b[j] = byte(i)
				}
				_, err := f.WriteAt(b, int64(pos))
				require.NoError(t, err)
				if n > 0 && pos+n > len(want) {
					want = append(want, make([]byte, pos+n-len(want))...)
				}
				copy(want[min(pos, len(want)):], b)
				continue
			}
			got := make([]byte, n)
			k, err := f.ReadAt(got, int64(pos))
			expect := want[min(pos, len(want)):min(pos+n, len(want))]
			if len(expect) == n {
				require.NoError(t, err, "step %d: %d bytes at %d of %d, direct %v: %d", i, n, pos, len(want), f == direct, k)
			}
			if !bytes.Equal(expect, got[:k]) {
				t.Fatalf("step %d: %d bytes at %d, direct %v: differ", i, n, pos, f == direct)
			}
		}
		require.NoError(t, cached.Sync())
		b, err := os.ReadFile(p)
		require.NoError(t, err)
		require.Equal(t, want, b)
	})
}

// TestAppend appends from several processes: no line is lost or torn.
func TestAppend(t *testing.T) {
	each(t, func(t *testing.T, tr string) {
		m := mount(t, vfsfuse.Options{Transport: tr}, nil)
		const procs, lines = 4, 300
		var cmds []*exec.Cmd
		for i := range procs {
			c := exec.Command("sh", "-c", fmt.Sprintf("i=0; while [ $i -lt %d ]; do echo p%d $i >> %s/log; i=$((i+1)); done", lines, i, m.dir))
			require.NoError(t, c.Start())
			cmds = append(cmds, c)
		}
		for _, c := range cmds {
			require.NoError(t, c.Wait())
		}
		b, err := os.ReadFile(filepath.Join(m.dir, "log"))
		require.NoError(t, err)
		seen := map[string]int{}
		for l := range strings.Lines(string(b)) {
			seen[strings.TrimSpace(l)]++
		}
		require.Len(t, seen, procs*lines)
		for i := range procs {
			for k := range lines {
				require.Equal(t, 1, seen[fmt.Sprintf("p%d %d", i, k)])
			}
		}
	})
}

// TestMmap sees stores through a mapping by read, cached and direct, after msync, and writes through the mapping.
func TestMmap(t *testing.T) {
	each(t, func(t *testing.T, tr string) {
		m := mount(t, vfsfuse.Options{Transport: tr}, nil)
		out, err := child(t, 0, "mmap", m.dir).CombinedOutput()
		require.NoError(t, err, string(out))
		b, err := os.ReadFile(filepath.Join(m.dir, "map"))
		require.NoError(t, err)
		require.Len(t, b, 64<<10)
		require.Equal(t, byte(199), b[199%16*4096+7])
	})
}

func init() {
	children["mmap"] = func(dir string) error {
		p := filepath.Join(dir, "map")
		f, err := os.OpenFile(p, os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			return err
		}
		if err := f.Truncate(64 << 10); err != nil {
			return err
		}
		direct, err := os.OpenFile(p, os.O_RDWR|unix.O_DIRECT, 0)
		if err != nil {
			return err
		}
		mem, err := unix.Mmap(int(f.Fd()), 0, 64<<10, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err != nil {
			return err
		}
		var one [1]byte
		for i := range 200 {
			at, v := int64(i%16*4096+7), byte(i)
			mem[at] = v
			if i%2 == 0 {
				if err := unix.Msync(mem, unix.MS_SYNC); err != nil {
					return err
				}
			}
			r := f
			if i%4 == 0 {
				r = direct
			}
			if _, err := r.ReadAt(one[:], at); err != nil || one[0] != v {
				return fmt.Errorf("step %d: stored %d, read %d (%v)", i, v, one[0], err)
			}
			w := f
			if i%3 == 0 {
				w = direct
			}
			if _, err := w.WriteAt([]byte{v + 1}, at+1); err != nil {
				return err
			}
			if mem[at+1] != v+1 {
				return fmt.Errorf("step %d: wrote %d, the mapping holds %d (direct %v)", i, v+1, mem[at+1], w == direct)
			}
		}
		return unix.Munmap(mem)
	}
}

func TestHolesAndRanges(t *testing.T) {
	each(t, func(t *testing.T, tr string) {
		m := mount(t, vfsfuse.Options{Transport: tr}, nil)
		f, err := os.Create(filepath.Join(m.dir, "f"))
		require.NoError(t, err)
		defer f.Close()
		fd := int(f.Fd())
		data := bytes.Repeat([]byte("abcd"), 16<<10) // 64 KiB
		_, err = f.WriteAt(data, 0)
		require.NoError(t, err)
		_, err = f.WriteAt(data, 1<<20)
		require.NoError(t, err)
		seek := func(pos int64, whence int) int64 {
			at, err := unix.Seek(fd, pos, whence)
			require.NoError(t, err)
			return at
		}
		require.EqualValues(t, 64<<10, seek(0, unix.SEEK_HOLE))
		require.EqualValues(t, 1<<20, seek(64<<10, unix.SEEK_DATA))
		_, err = unix.Seek(fd, 2<<20, unix.SEEK_DATA)
		require.ErrorIs(t, err, unix.ENXIO)

		require.NoError(t, unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 4096, 8192))
		require.EqualValues(t, 4096, seek(0, unix.SEEK_HOLE))
		require.EqualValues(t, 12288, seek(4096, unix.SEEK_DATA))
		b := make([]byte, 16384)
		_, err = f.ReadAt(b, 0)
		require.NoError(t, err)
		require.Equal(t, data[:4096], b[:4096])
		require.Equal(t, make([]byte, 8192), b[4096:12288])
		require.Equal(t, data[:4096], b[12288:])
		require.NoError(t, unix.Fallocate(fd, unix.FALLOC_FL_ZERO_RANGE, 12288, 4096))
		_, err = f.ReadAt(b, 0)
		require.NoError(t, err)
		require.Equal(t, make([]byte, 12288), b[4096:])
		require.NoError(t, unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, 4<<20, 4096))
		require.NoError(t, unix.Fallocate(fd, 0, 3<<20, 100))
		fi, err := f.Stat()
		require.NoError(t, err)
		require.EqualValues(t, 3<<20+100, fi.Size())
		require.ErrorIs(t, unix.Fallocate(fd, unix.FALLOC_FL_COLLAPSE_RANGE, 0, 4096), unix.EOPNOTSUPP)

		g, err := os.Create(filepath.Join(m.dir, "g"))
		require.NoError(t, err)
		defer g.Close()
		from, to := int64(1<<20+10), int64(5)
		n, err := unix.CopyFileRange(fd, &from, int(g.Fd()), &to, 60000, 0)
		require.NoError(t, err)
		require.Equal(t, 60000, n)
		b, err = os.ReadFile(g.Name())
		require.NoError(t, err)
		require.Equal(t, data[10:60010], b[5:])
	})
}

// TestFiemapIoctl asks for the extents of a mounted file.
func TestFiemapIoctl(t *testing.T) {
	each(t, func(t *testing.T, tr string) {
		m := mount(t, vfsfuse.Options{Transport: tr}, nil)
		f, err := os.Create(filepath.Join(m.dir, "f"))
		require.NoError(t, err)
		defer f.Close()
		for i := range int64(5) {
			_, err = f.WriteAt(make([]byte, 8192), i<<16)
			require.NoError(t, err)
		}
		require.NoError(t, f.Sync())
		le := binary.LittleEndian
		var b [8192]byte
		ask := func(room uint32) uint32 {
			clear(b[:])
			le.PutUint64(b[8:], 1<<40)
			le.PutUint32(b[20:], room)
			_, _, e := unix.Syscall(unix.SYS_IOCTL, f.Fd(), vfsfuse.FiemapIoctl, uintptr(unsafe.Pointer(&b)))
			require.Zero(t, e)
			return le.Uint32(b[24:])
		}
		require.EqualValues(t, 5, ask(0), "count only")
		require.EqualValues(t, 2, ask(2))
		require.EqualValues(t, 5, ask(100))
		for i := range 5 {
			e := b[32+32*i:]
			require.EqualValues(t, i<<16, le.Uint64(e))
			require.EqualValues(t, 8192, le.Uint64(e[16:]))
			require.Equal(t, i == 4, le.Uint32(e[24:])&vfs.ExtentLast != 0)
		}
	})
}

// TestSeekWhileWriting asks for holes while others write, which makes the kernel write back under the question.
func TestSeekWhileWriting(t *testing.T) {
	each(t, func(t *testing.T, tr string) {
		m := mount(t, vfsfuse.Options{Transport: tr}, nil)
		f, err := os.Create(filepath.Join(m.dir, "f"))
		require.NoError(t, err)
		defer f.Close()
		var wg sync.WaitGroup
		stop := make(chan struct{})
		for w := range 3 {
			wg.Go(func() {
				b := bytes.Repeat([]byte{byte(w + 1)}, 5000)
				for i := int64(0); ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					if _, err := f.WriteAt(b, (i*3+int64(w))%200*8192); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		for i := range 300 {
			_, err := unix.Seek(int(f.Fd()), int64(i)*4096, unix.SEEK_HOLE)
			if err != nil {
				require.ErrorIs(t, err, unix.ENXIO)
			}
		}
		close(stop)
		wg.Wait()
	})
}

// TestSetID sees a write, a truncation and a change of owner drop the set-id bits, and root's write keep them.
func TestSetID(t *testing.T) {
	each(t, func(t *testing.T, tr string) {
		m := mount(t, vfsfuse.Options{Transport: tr, AllowOther: true}, nil)
		p := filepath.Join(m.dir, "f")
		mode := func() os.FileMode {
			fi, err := os.Stat(p)
			require.NoError(t, err)
			return fi.Mode()
		}
		set := func() {
			require.NoError(t, os.WriteFile(p, []byte("x"), 0o777))
			require.NoError(t, os.Chmod(p, 0o777|os.ModeSetuid|os.ModeSetgid))
		}
		set()
		f, err := os.OpenFile(p, os.O_WRONLY, 0)
		require.NoError(t, err)
		_, err = f.WriteString("y")
		require.NoError(t, err)
		require.NoError(t, f.Close())
		require.Equal(t, 0o777|os.ModeSetuid|os.ModeSetgid, mode(), "root may")
		for _, how := range []string{"write", "truncate"} {
			set()
			out, err := child(t, nobody, how, p).CombinedOutput()
			require.NoError(t, err, string(out))
			require.Equal(t, os.FileMode(0o777), mode(), how)
		}
		set()
		require.NoError(t, os.Chown(p, nobody, nobody))
		require.Equal(t, os.FileMode(0o777), mode(), "chown")
	})
}

func init() {
	children["write"] = func(p string) error {
		f, err := os.OpenFile(p, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		if _, err := f.WriteAt([]byte("z"), 3); err != nil {
			return err
		}
		return f.Close()
	}
	children["truncate"] = func(p string) error { return os.Truncate(p, 1) }
}
