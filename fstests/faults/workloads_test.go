package faults

import (
	"fmt"
	"strings"

	"github.com/iomapfs/iomapfs/vfs"
)

// workload is a piece of work: prepare runs where nothing fails.
type workload struct {
	name         string
	prepare, run func(b *box)
}

func nothing(*box) {}

// old is a synced file of n bytes.
func old(n int) func(b *box) {
	return func(b *box) {
		b.create("old")
		b.write("old", 0, n, 0)
	}
}

// onOld is work on that file.
func onOld(f func(b *box)) func(b *box) {
	return func(b *box) {
		b.known("old")
		f(b)
	}
}

// workloads is what the tests of this package run. Blocks are 1 KiB, so that 12 KiB are direct, 268 KiB below one indirect block.
var workloads = []workload{
	{"create", nothing, func(b *box) {
		for i := range 5 {
			p := fmt.Sprint("f", i)
			b.create(p)
			b.write(p, 0, 9000*i, 0)
			b.fsync(p)
		}
	}},
	{"append", old(11000), onOld(func(b *box) {
		for range 6 {
			if o := b.find("old"); o != nil {
				b.write("old", int64(len(o.want)), 3333, 0)
				b.fsync("old")
			}
		}
	})},
	{"overwrite", old(300_000), onOld(func(b *box) {
		b.write("old", 5000, 20000, 0)
		b.fsync("old")
		b.write("old", 270_100, 777, 0)
		b.fsync("old")
	})},
	{"holes", nothing, func(b *box) {
		b.create("f")
		for _, pos := range []int64{0, 20 << 10, 290 << 10, 1 << 20, 100 << 10} {
			b.write("f", pos+100, 1500, 0)
		}
		b.fsync("f")
		b.write("f", 500<<10, 3000, 0)
		b.fsync("f")
	}},
	{"truncate down", old(400_000), onOld(func(b *box) {
		for _, size := range []int{300_001, 100_000, 12_289, 5, 0} {
			b.truncate("old", size)
			b.fsync("old")
		}
	})},
	{"truncate up", old(3000), onOld(func(b *box) {
		for _, size := range []int{3001, 40_000, 400_000} {
			b.truncate("old", size)
			b.write("old", int64(size-500), 300, 0)
			b.fsync("old")
		}
	})},
	{"punch", old(400_000), onOld(func(b *box) {
		const punch = vfs.FallocPunchHole | vfs.FallocKeepSize
		b.fallocate("old", punch, 3000, 20_000)
		b.fsync("old")
		b.fallocate("old", punch, 100_500, 200_000)
		b.fallocate("old", vfs.FallocZeroRange, 390_000, 30_000)
		b.fsync("old")
		b.write("old", 120_000, 5000, 0)
		b.fsync("old")
	})},
	{"fallocate", old(5000), onOld(func(b *box) {
		b.fallocate("old", 0, 2000, 30_000)
		b.fsync("old")
		b.fallocate("old", vfs.FallocPunchHole|vfs.FallocKeepSize, 4096, 8192)
		b.fallocate("old", 0, 0, 200_000)
		b.fsync("old")
		b.write("old", 150_000, 5000, 0)
		b.fsync("old")
	})},
	{"rename", func(b *box) { old(5000)(b); b.mkdir("d"); b.mkdir("e") }, onOld(func(b *box) {
		b.rename("old", "new", 0)
		b.fsync("new")
		b.rename("new", "d/new", 0)
		b.fsync("d/new")
		b.rename("d", "e/d", 0)
		b.sync()
	})},
	{"rename over", old(5000), onOld(func(b *box) {
		for i := range 3 {
			b.create("tmp")
			b.write("tmp", 0, 4000+i*9000, 0)
			b.fsync("tmp")
			b.rename("tmp", "old", 0)
		}
		b.create("x")
		b.write("x", 0, 100, 0)
		b.rename("x", "old", vfs.RenameExchange)
		b.sync()
	})},
	{"link", old(5000), onOld(func(b *box) {
		b.link("old", "second")
		b.fsync("old")
		b.unlink("second")
		b.sync()
	})},
	{"unlink", func(b *box) {
		for i := range 6 {
			b.create(fmt.Sprint("f", i))
			b.write(fmt.Sprint("f", i), 0, 60_000*i, 0)
		}
	}, func(b *box) {
		for i := range 6 {
			b.known(fmt.Sprint("f", i))
		}
		for i := range 6 {
			b.unlink(fmt.Sprint("f", i))
			if i%2 == 1 {
				b.sync()
			}
		}
		b.create("again")
		b.write("again", 0, 300_000, 0)
		b.fsync("again")
	}},
	{"directories", nothing, func(b *box) {
		for i := range 4 {
			b.mkdir(fmt.Sprint("d", i))
			b.mkdir(fmt.Sprintf("d%d/sub", i))
		}
		b.sync()
		for i := range 2 {
			b.rmdir(fmt.Sprintf("d%d/sub", i))
			b.rmdir(fmt.Sprint("d", i))
		}
		b.create("d3/sub/f")
		b.write("d3/sub/f", 0, 5000, 0)
		b.fsync("d3/sub/f")
	}},
	{"symbolic links", nothing, func(b *box) {
		b.symlink("short", "s")
		b.symlink(strings.Repeat("long/", 60), "l")
		b.sync()
		b.unlink("l")
		b.symlink(strings.Repeat("more/", 100), "m")
		b.sync()
	}},
	{"attributes", old(100), onOld(func(b *box) {
		b.setXattr("old", "user.small", 20)
		b.fsync("old")
		b.setXattr("old", "user.large", 600)
		b.fsync("old")
		b.removeXattr("old", "user.large")
		b.setXattr("old", "user.small", 30)
		b.fsync("old")
		b.removeXattr("old", "user.small")
		b.fsync("old")
	})},
	{"direct write", old(60_000), onOld(func(b *box) {
		b.write("old", 4096, 8192, vfs.ODirect)
		b.fsync("old")
		b.write("old", 57_344, 40_960, vfs.ODirect) // over the end of the file
		b.fsync("old")
		b.write("old", 200<<10, 16384, vfs.ODirect) // behind a hole
		b.write("old", 140<<10, 8192, vfs.ODirect)  // into it
		b.fsync("old")
	})},
	{"around the cache", old(60_000), onOld(func(b *box) {
		b.around("old", 0, 128<<10)
		b.fsync("old")
		b.truncate("old", 600<<10)
		b.around("old", 300<<10, 128<<10) // into a hole
		b.fsync("old")
	})},
	{"big directory", func(b *box) {
		b.mkdir("d")
		for i := range 60 {
			b.create(fmt.Sprintf("d/%s%d", strings.Repeat("name", 20), i))
		}
	}, func(b *box) {
		b.add(&object{names: []string{"d"}, dir: true, told: true, sure: true})
		for i := range 20 {
			b.create(fmt.Sprintf("d/%s%d", strings.Repeat("more", 30), i))
		}
		b.sync()
		for i := range 20 {
			p := fmt.Sprintf("d/%s%d", strings.Repeat("name", 20), i*3)
			b.known(p)
			b.unlink(p)
		}
		b.sync()
	}},
	{"many small", nothing, func(b *box) {
		for i := range 30 {
			b.create(fmt.Sprint(i))
			b.write(fmt.Sprint(i), 0, 700, 0)
		}
		b.sync()
		for i := range 30 {
			if i%3 > 0 {
				b.unlink(fmt.Sprint(i))
			}
		}
		b.sync()
	}},
	{"large", nothing, func(b *box) {
		b.create("f")
		for i := range 12 {
			b.write("f", int64(i)*70_000, 70_000, 0)
		}
		b.fsync("f")
		b.truncate("f", 123_456)
		b.write("f", 700_000, 200_000, 0)
		b.fsync("f")
	}},
	{"synchronous", old(20_000), onOld(func(b *box) {
		b.write("old", 3000, 5000, vfs.OSync)
		b.write("old", 20_000, 30_000, vfs.ODSync)
		b.write("old", 4096, 4096, vfs.ODSync|vfs.ODirect)
	})},
}
