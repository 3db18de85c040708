package disk

import (
	"fmt"
	"math/rand"
	"testing"

	"github.com/stretchr/testify/require"
)

// A block is filled and emptied at random. The checked readers must agree with the plain ones at every step.
func TestRecordSeekPlace(t *testing.T) {
	seed := int64(20261)
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewSource(seed))
	for _, size := range []int{1024, 4096, 65536} {
		db := InitFirstDirBlock(make([]byte, size), 12, 2, true)
		for step := range 3000 {
			name := fmt.Sprintf("%0*d", 1+rng.Intn(30), rng.Intn(50))
			if off, prev, ok := db.Find(name); ok {
				db.Remove(off, prev)
			} else {
				off, left, ok := db.Place(len(name))
				require.True(t, ok)
				want, fits := db.FindRoom(len(name))
				require.Equal(t, fits, off >= 0)
				if fits {
					require.Equal(t, want, off)
					db.Insert(off, name, Ino(20+step%50), TypeRegular)
				}
				require.Equal(t, db.MaxRoom(), left)
			}
			_, err := AsDirBlock(db, 100)
			require.NoError(t, err)
			at := rng.Intn(size/4) * 4
			got, ok := db.Seek(at)
			require.True(t, ok)
			want := 0
			for want < at {
				want = db.Next(want)
			}
			require.Equal(t, want, got)
			for off := 0; off < size; off = db.Next(off) {
				r, ok := db.Record(off)
				require.True(t, ok)
				require.Equal(t, DirRecord{off, db.Next(off), db.Ino(off), db.FileType(off), db.Name(off)}, r)
				require.Equal(t, db.Room(off), r.Room())
			}
		}
	}
}

// On any bytes: no panic, and progress.
func FuzzRecord(f *testing.F) {
	f.Add([]byte(InitFirstDirBlock(make([]byte, 1024), 12, 2, true)), 12)
	f.Add([]byte(InitDirBlock(make([]byte, 1024))), -1)
	f.Fuzz(func(t *testing.T, b []byte, off int) {
		db := DirBlock(b)
		if r, ok := db.Record(off); ok && (r.Next <= off || r.Next > len(b)) {
			t.Fatalf("record at %d ends at %d of %d", off, r.Next, len(b))
		}
		db.Seek(off)
		db.Place(off & 0xFF)
	})
}
