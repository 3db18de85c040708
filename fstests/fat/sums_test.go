package fat

import (
	"crypto/md5"
	"fmt"
	"sort"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/fstests/target"
	"github.com/iomapfs/iomapfs/vfs"
)

// sumsOf is what "find . -type f | sort | xargs md5sum" prints of a tree.
func sumsOf(t testing.TB, fs target.Target, dir string) string {
	t.Helper()
	var lines [][2]string
	var walk func(dir string)
	walk = func(dir string) {
		names, e := fs.ReadDir(dir)
		require.Zero(t, e)
		for _, n := range names {
			p := strings.TrimPrefix(dir+"/"+n, "/")
			i, e := fs.Stat(p)
			require.Zero(t, e, p)
			if i.Mode&vfs.ModeType == vfs.ModeDir {
				walk(p)
				continue
			}
			b, e := fs.Read(p, 0, int(i.Size))
			require.Zero(t, e, p)
			lines = append(lines, [2]string{"./" + p, fmt.Sprintf("%x  ./%s\n", md5.Sum(b), p)})
		}
	}
	walk(dir)
	sort.Slice(lines, func(i, j int) bool { return lines[i][0] < lines[j][0] })
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(l[1])
	}
	return b.String()
}
