package pagecache

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestTree compares the tree with a map: folios of all orders, near and far, their tags and searches from everywhere.
func TestTree(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for range 20 {
		var tr tree
		model := map[uint64]*Folio{} // by first page
		tags := map[*Folio]*[numTags]bool{}
		far := []uint64{0, 0, 1 << 12, 1 << 30, maxIndex - 1<<12}
		page := func() uint64 { return far[r.IntN(len(far))] + r.Uint64N(1<<11) }
		covering := func(i uint64) *Folio {
			for o := uint8(0); o <= MaxOrder; o++ {
				if fo := model[i&^(1<<o-1)]; fo != nil && i < fo.index+fo.pages() {
					return fo
				}
			}
			return nil
		}
		for range 600 {
			i := page()
			switch r.IntN(6) {
			case 0, 1:
				fo := &Folio{order: uint8(r.IntN(MaxOrder + 1))}
				fo.index = i &^ (fo.pages() - 1)
				if tr.next(fo.index, fo.index+fo.pages(), TagAny) == nil {
					tr.insert(fo)
					model[fo.index], tags[fo] = fo, new([numTags]bool)
				}
			case 2:
				if fo := covering(i); fo != nil {
					tr.remove(fo)
					delete(model, fo.index)
					delete(tags, fo)
				}
			case 3, 4:
				if fo := covering(i); fo != nil {
					tag, on := Tag(r.IntN(numTags)), r.IntN(3) > 0
					if tags[fo][tag] = on; on {
						tr.setTag(fo.index, tag)
					} else {
						tr.clearTag(fo.index, tag)
					}
				}
			}
			require.Same(t, covering(i), tr.get(i))
			end := i + 1 + r.Uint64N(1<<uint(r.IntN(50)))
			for tag := TagAny; tag < numTags; tag++ {
				var want *Folio
				any := false
				for _, at := range slices.Sorted(maps.Keys(model)) {
					fo := model[at]
					has := tag == TagAny || tags[fo][tag]
					any = any || has
					if has && want == nil && at < end && at+fo.pages() > i {
						want = fo
					}
				}
				require.Same(t, want, tr.next(i, end, tag), "from %d to %d, tag %d", i, end, tag)
				if tag != TagAny {
					require.Equal(t, any, tr.tagged(tag))
				}
			}
		}
		for _, fo := range model {
			tr.remove(fo)
		}
		require.Equal(t, tree{}, tr, "nothing is left")
	}
}
