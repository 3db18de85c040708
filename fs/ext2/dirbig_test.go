package ext2

import (
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/fs/ext2/disk/disktest"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// listAll lists a directory in calls of at most batch entries.
func listAll(t testing.TB, dir *vfs.Inode, batch int) []string {
	t.Helper()
	f, err := dir.Open(tctx, vfs.ORdonly)
	require.NoError(t, err)
	defer f.Close()
	var names []string
	for pos := int64(0); ; {
		n := 0
		require.NoError(t, f.ReadDir(tctx, pos, func(de *vfs.DirEntry) bool {
			if n == batch {
				return false
			}
			n++
			pos = de.Next
			names = append(names, strings.Clone(de.Name))
			return true
		}))
		if n == 0 {
			return names
		}
	}
}

// A directory of 100,000 names (a million in the soak): made, found, missed, emptied, each in microseconds whatever the size.
func TestSoakManyNames(t *testing.T) {
	n := 100_000
	switch {
	case testing.Short() || raceEnabled:
		n = 20_000
	case os.Getenv("IOMAPFS_SOAK") != "":
		n = 1_000_000
	}
	img := nameImage(t, "512M", "-b", "4096", "-N", fmt.Sprint(n+100))
	sb := nameMount(t, img)
	dir, err := sb.Root.Mkdir(tctx, vfs.Root, "big", 0o755)
	require.NoError(t, err)
	ip, err := dir.Create(tctx, vfs.Root, "f0", 0o644)
	require.NoError(t, err)
	step := func(what string, f func(i int)) {
		start := time.Now()
		for i := 1; i < n; i++ {
			f(i)
		}
		d := time.Since(start)
		t.Logf("%-8s %v each", what, d/time.Duration(n))
		if !raceEnabled {
			require.Less(t, d/time.Duration(n), 50*time.Microsecond, what)
		}
	}
	// Links, so that the directory is measured and not inodes; the limit of links wants a new file now and then.
	step("link", func(i int) {
		if i%30000 == 0 {
			ip.Put()
			ip, err = dir.Create(tctx, vfs.Root, fmt.Sprintf("f%d", i), 0o644)
			require.NoError(t, err)
			return
		}
		if err := dir.Link(tctx, fmt.Sprintf("f%d", i), ip); err != nil {
			require.NoError(t, err)
		}
	})
	ip.Put()
	step("lookup", func(i int) {
		ip, err := dir.Lookup(tctx, fmt.Sprintf("f%d", i))
		if err != nil {
			require.NoError(t, err)
		}
		ip.Put()
	})
	step("miss", func(i int) {
		if _, err := dir.Lookup(tctx, fmt.Sprintf("g%d", i)); errno.From(err) != errno.NOENT {
			require.ErrorIs(t, err, errno.NOENT)
		}
	})
	require.Len(t, listAll(t, dir, 1000), n+2)
	// Without the index in memory, as after pressure: made again when needed.
	inodeOf(dir).dropDir()
	step("unlink", func(i int) {
		if i%3 != 0 {
			if err := dir.Unlink(tctx, fmt.Sprintf("f%d", i)); err != nil {
				require.NoError(t, err)
			}
		}
	})
	size := dir.Size()
	// What was freed is used again: the directory does not grow.
	ip, err = dir.Create(tctx, vfs.Root, "again", 0o644)
	require.NoError(t, err)
	for i := range min(n/4, 30_000) {
		if err := dir.Link(tctx, fmt.Sprintf("x%d", i), ip); err != nil {
			require.NoError(t, err)
		}
	}
	ip.Put()
	require.Equal(t, size, dir.Size())
	names := listAll(t, dir, 333)
	dir.Put()
	nameDone(t, sb, img)

	sb = nameMount(t, img)
	dir, err = sb.Walk(tctx, "/big", false)
	require.NoError(t, err)
	require.Equal(t, names, listAll(t, dir, 5000))
	for _, name := range names[2:] {
		if err := dir.Unlink(tctx, name); err != nil {
			require.NoError(t, err)
		}
	}
	dir.Put()
	require.NoError(t, sb.Root.Rmdir(tctx, "big"))
	nameDone(t, sb, img)
}

// Creating real files, as a whole.
func TestManyCreates(t *testing.T) {
	n := 20_000
	img := nameImage(t, "256M", "-b", "4096", "-N", fmt.Sprint(n+100))
	sb := nameMount(t, img)
	start := time.Now()
	for i := range n {
		ip, err := sb.Root.Create(tctx, vfs.Root, fmt.Sprintf("file-%d", i), 0o644)
		if err != nil {
			require.NoError(t, err)
		}
		ip.Put()
	}
	t.Logf("create %v each", time.Since(start)/time.Duration(n))
	require.NoError(t, sb.Sync(tctx))
	start = time.Now()
	for i := range n {
		if err := sb.Root.Unlink(tctx, fmt.Sprintf("file-%d", i)); err != nil {
			require.NoError(t, err)
		}
	}
	t.Logf("unlink %v each", time.Since(start)/time.Duration(n))
	nameDone(t, sb, img)
}

// hashedImage makes an image whose directory /d has n names and an index by e2fsck -D.
func hashedImage(t testing.TB, n int, alg string, args ...string) (string, func(i int) string) {
	src := t.TempDir()
	name := func(i int) string { return fmt.Sprintf("name-%d-é", i) }
	require.NoError(t, os.Mkdir(filepath.Join(src, "d"), 0o755))
	for i := range n {
		require.NoError(t, os.WriteFile(filepath.Join(src, "d", name(i)), nil, 0o644))
	}
	img := nameImage(t, "128M", append([]string{"-N", fmt.Sprint(n + 1000), "-d", src}, args...)...)
	code, out := disktest.Run(t, "", "tune2fs", "-E", "hash_alg="+alg, img)
	require.Zero(t, code, out)
	code, out = disktest.Run(t, "", "e2fsck", "-fyD", img)
	require.LessOrEqual(t, code, 1, out)
	return img, name
}

// The index on the medium serves look-ups without reading the directory; removals leave it right; a new name gives it up.
func TestIndexOnMedium(t *testing.T) {
	for _, args := range [][]string{{"half_md4", "-b", "1024"}, {"half_md4", "-b", "4096"}, {"tea", "-b", "1024"}, {"legacy", "-b", "4096"}} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			t.Parallel()
			const n = 4500
			img, name := hashedImage(t, n, args[0], args[1:]...)
			sb := nameMount(t, img)
			dir, err := sb.Walk(tctx, "/d", false)
			require.NoError(t, err)
			require.NotZero(t, dir.Flags()&vfs.FlagIndex)
			d := inodeOf(dir)
			for i := range n {
				ip, err := dir.Lookup(tctx, name(i))
				require.NoError(t, err, name(i))
				ip.Put()
				_, err = dir.Lookup(tctx, name(i)+"x")
				require.ErrorIs(t, err, errno.NOENT)
			}
			aux := d.dirState.aux.Load()
			require.False(t, aux.noTree.Load())
			require.Nil(t, aux.index.Load(), "the directory was read through")
			// Removal and replacement keep the index.
			for i := 0; i < n; i += 3 {
				require.NoError(t, dir.Unlink(tctx, name(i)))
			}
			require.NoError(t, dir.RenameTo(tctx, name(1), dir, name(2), 0))
			require.NotZero(t, dir.Flags()&vfs.FlagIndex)
			dir.Put()
			nameDone(t, sb, img)

			sb = nameMount(t, img)
			dir, err = sb.Walk(tctx, "/d", false)
			require.NoError(t, err)
			require.NotZero(t, dir.Flags()&vfs.FlagIndex)
			for i := range n {
				ip, err := dir.Lookup(tctx, name(i))
				if i%3 == 0 || i == 1 {
					require.ErrorIs(t, err, errno.NOENT)
				} else {
					require.NoError(t, err)
					ip.Put()
				}
			}
			// A name added gives the index up.
			ip, err := dir.Create(tctx, vfs.Root, "new", 0o644)
			require.NoError(t, err)
			ip.Put()
			require.Zero(t, dir.Flags()&vfs.FlagIndex)
			for i := 2; i < n; i++ {
				if i%3 != 0 {
					ip, err := dir.Lookup(tctx, name(i))
					require.NoError(t, err)
					ip.Put()
				}
			}
			for i := 1; i < 1500; i++ { // name(1) was renamed over name(2)
				require.NoError(t, dir.RenameTo(tctx, name(i/2*3+1+i%2), dir, fmt.Sprintf("moved-%d", i), 0), i)
			}
			dir.Put()
			nameDone(t, sb, img)
		})
	}
}

// Names that are there all the time are listed once, whatever goes and comes between the calls.
func TestListingIsStable(t *testing.T) {
	seed := rand.Int63()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewSource(seed))
	img := nameImage(t, "64M", "-b", "1024", "-N", "8000")
	sb := nameMount(t, img)
	dir := sb.Root
	live := map[string]bool{}
	ip, err := dir.Create(tctx, vfs.Root, "file", 0o644)
	require.NoError(t, err)
	for i := range 3000 {
		n := fmt.Sprintf("%0*d", 1+rng.Intn(60), i)
		if !live[n] {
			require.NoError(t, dir.Link(tctx, n, ip))
			live[n] = true
		}
	}
	for range 5 {
		kept, seen := map[string]bool{}, map[string]int{}
		for n := range live {
			kept[n] = true
		}
		f, err := dir.Open(tctx, vfs.ORdonly)
		require.NoError(t, err)
		for pos := int64(0); ; {
			n, max := 0, 1+rng.Intn(40)
			var last string
			require.NoError(t, f.ReadDir(tctx, pos, func(de *vfs.DirEntry) bool {
				if n == max {
					return false
				}
				n++
				pos, last = de.Next, strings.Clone(de.Name)
				seen[last]++
				return true
			}))
			if n == 0 {
				break
			}
			if live[last] && rng.Intn(2) == 0 { // the entry at the cookie's edge
				require.NoError(t, dir.Unlink(tctx, last))
				delete(live, last)
				delete(kept, last)
			}
			for n := range live {
				if rng.Intn(40) == 0 {
					require.NoError(t, dir.Unlink(tctx, n))
					delete(live, n)
					delete(kept, n)
				}
				if rng.Intn(40) == 0 {
					break
				}
			}
			for range rng.Intn(6) {
				n := fmt.Sprintf("%0*d", 1+rng.Intn(60), rng.Intn(1<<20))
				if !live[n] {
					require.NoError(t, dir.Link(tctx, n, ip))
					live[n] = true
				}
			}
		}
		f.Close()
		for n := range kept {
			require.Equal(t, 1, seen[n], n)
		}
		for n, k := range seen {
			require.Equal(t, 1, k, n)
		}
	}
	ip.Put()
	nameDone(t, sb, img)
}

// Look-ups, listings, creations, renames and removals at once. What nobody touches is always there.
func TestConcurrentNames(t *testing.T) {
	img := nameImage(t, "64M", "-b", "1024", "-N", "8000")
	sb := nameMount(t, img)
	var dirs []*vfs.Inode
	for i := range 3 {
		d, err := sb.Root.Mkdir(tctx, vfs.Root, fmt.Sprintf("d%d", i), 0o755)
		require.NoError(t, err)
		for k := range 800 {
			ip, err := d.Create(tctx, vfs.Root, fmt.Sprintf("stays-%d", k), 0o644)
			require.NoError(t, err)
			ip.Put()
		}
		dirs = append(dirs, d)
	}
	var stop atomic.Bool
	var wg sync.WaitGroup
	fail := make(chan error, 64)
	run := func(f func(rng *rand.Rand) error) {
		wg.Add(1)
		seed := rand.Int63()
		go func() {
			defer wg.Done()
			rng := rand.New(rand.NewSource(seed))
			for !stop.Load() {
				if err := f(rng); err != nil {
					select {
					case fail <- err:
					default:
					}
					return
				}
			}
		}()
	}
	ignore := func(err error, ok ...errno.Errno) error {
		for _, e := range ok {
			if errno.From(err) == e {
				return nil
			}
		}
		return err
	}
	for range 2 {
		run(func(rng *rand.Rand) error { // readers
			ip, err := dirs[rng.Intn(3)].Lookup(tctx, fmt.Sprintf("stays-%d", rng.Intn(800)))
			if err == nil {
				ip.Put()
			}
			return err
		})
		run(func(rng *rand.Rand) error {
			f, err := dirs[rng.Intn(3)].Open(tctx, vfs.ORdonly)
			if err != nil {
				return err
			}
			defer f.Close()
			found := 0
			for pos := int64(0); ; {
				n := 0
				err := f.ReadDir(tctx, pos, func(de *vfs.DirEntry) bool {
					if strings.HasPrefix(de.Name, "stays-") {
						found++
					}
					n++
					pos = de.Next
					return n < 100
				})
				if err != nil {
					return err
				}
				if n == 0 {
					break
				}
			}
			if found != 800 {
				return fmt.Errorf("listed %d of 800 names", found)
			}
			return nil
		})
		run(func(rng *rand.Rand) error { // writers
			d, n := dirs[rng.Intn(3)], fmt.Sprintf("x%d", rng.Intn(200))
			ip, err := d.Create(tctx, vfs.Root, n, 0o644)
			if err == nil {
				ip.Put()
			}
			return ignore(err, errno.EXIST)
		})
		run(func(rng *rand.Rand) error {
			return ignore(dirs[rng.Intn(3)].Unlink(tctx, fmt.Sprintf("x%d", rng.Intn(200))), errno.NOENT, errno.ISDIR)
		})
		run(func(rng *rand.Rand) error {
			flags := uint32(rng.Intn(2)) * vfs.RenameExchange
			return ignore(dirs[rng.Intn(3)].RenameTo(tctx, fmt.Sprintf("x%d", rng.Intn(200)), dirs[rng.Intn(3)], fmt.Sprintf("x%d", rng.Intn(200)), flags),
				errno.NOENT, errno.ISDIR, errno.NOTDIR, errno.NOTEMPTY)
		})
		run(func(rng *rand.Rand) error {
			d, n := dirs[rng.Intn(3)], fmt.Sprintf("x%d", rng.Intn(200))
			if rng.Intn(2) == 0 {
				return ignore(d.Rmdir(tctx, n), errno.NOENT, errno.NOTDIR, errno.NOTEMPTY)
			}
			ip, err := d.Mkdir(tctx, vfs.Root, n, 0o755)
			if err == nil {
				ip.Put()
			}
			return ignore(err, errno.EXIST)
		})
		run(func(rng *rand.Rand) error {
			if rng.Intn(50) == 0 {
				inodeOf(dirs[rng.Intn(3)]).dropDir()
			}
			time.Sleep(time.Millisecond)
			return nil
		})
	}
	run(func(rng *rand.Rand) error { time.Sleep(10 * time.Millisecond); return sb.Sync(tctx) })
	time.Sleep(time.Second)
	stop.Store(true)
	wg.Wait()
	select {
	case err := <-fail:
		t.Fatal(err)
	default:
	}
	for _, d := range dirs {
		d.Put()
	}
	nameDone(t, sb, img)
}
