package arrows

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const prefix = "github.com/iomapfs/iomapfs/"

// pkg is what go list tells of a package.
type pkg struct {
	ImportPath, Dir string
	Standard        bool
	Imports         []string
	Module          *struct{ Path string }
}

func top(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../../..")
	require.NoError(t, err)
	require.FileExists(t, filepath.Join(dir, "go.work"))
	return dir
}

// modules gives the folders of the repository that are modules.
func modules(t *testing.T) []string {
	t.Helper()
	var dirs []string
	root := top(t)
	require.NoError(t, filepath.WalkDir(root, func(p string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if n := d.Name(); d.IsDir() && (strings.HasPrefix(n, ".") || n == "testdata" || p == filepath.Join(root, "tools")) && p != root {
			return filepath.SkipDir // tools: the linters, whose requirements are not ours
		}
		if d.Name() == "go.mod" {
			dirs = append(dirs, filepath.Dir(p))
		}
		return nil
	}))
	return dirs
}

// list runs go list -deps in a module alone, without the workspace.
func list(t *testing.T, dir string) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath,Dir,Standard,Imports,Module", "./...")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOWORK=off")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	require.NoError(t, err, "go list in %s", dir)
	var pkgs []pkg
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else {
			require.NoError(t, err)
		}
		pkgs = append(pkgs, p)
	}
}

// graph is the repository's own packages by folder, and outside packages by module.
type graph struct {
	ours    map[string]pkg
	modules map[string]string // outside package → module
}

func load(t *testing.T) *graph {
	g := &graph{map[string]pkg{}, map[string]string{}}
	for _, dir := range modules(t) {
		for _, p := range list(t, dir) {
			switch rel, ok := strings.CutPrefix(p.ImportPath, prefix); {
			case ok:
				g.ours[rel] = p
			case !p.Standard && p.Module != nil:
				g.modules[p.ImportPath] = p.Module.Path
			}
		}
	}
	return g
}

func TestArrows(t *testing.T) {
	tab, err := readTable("arrows.txt")
	require.NoError(t, err)
	g := load(t)
	require.Contains(t, g.ours, "vfs")
	for dir, p := range g.ours {
		if !tab.known(dir) && !strings.Contains(dir, "/internal/") {
			t.Errorf("%s: arrows.txt does not speak of it: say what it may import", dir)
			continue
		}
		of := owner(dir)
		for _, imp := range p.Imports {
			if rel, ok := strings.CutPrefix(imp, prefix); ok {
				if !tab.allowed(of, rel) && !tab.allowed(dir, rel) {
					t.Errorf("%s imports %s, which arrows.txt does not allow", dir, rel)
				}
			} else if m := g.modules[imp]; m != "" && !tab.mayUse(of, m) && !tab.mayUse(dir, m) {
				t.Errorf("%s uses %s, which arrows.txt does not allow", dir, m)
			}
		}
	}
	for _, f := range tab.forbidden {
		if way := g.way(f[1], f[0]); way != nil {
			t.Errorf("%s must not reach %s, but: %s", f[1], f[0], strings.Join(way, " → "))
		}
	}
}

// way finds a chain of imports from one folder to another.
func (g *graph) way(from, to string) []string {
	seen := map[string]bool{}
	var walk func(dir string) []string
	walk = func(dir string) []string {
		if dir == to {
			return []string{dir}
		}
		if seen[dir] {
			return nil
		}
		seen[dir] = true
		for _, imp := range g.ours[dir].Imports {
			if rel, ok := strings.CutPrefix(imp, prefix); ok {
				if w := walk(rel); w != nil {
					return append([]string{dir}, w...)
				}
			}
		}
		return nil
	}
	if _, ok := g.ours[from]; !ok {
		return nil
	}
	return walk(from)
}

func TestInternalPackagesAreUsed(t *testing.T) {
	g := load(t)
	used := map[string]bool{}
	for _, p := range g.ours {
		for _, imp := range p.Imports {
			used[strings.TrimPrefix(imp, prefix)] = true
		}
	}
	var unused []string
	for dir := range g.ours {
		if strings.Contains(dir, "internal/") && !used[dir] && !strings.HasSuffix(dir, "internal/arrows") {
			unused = append(unused, dir)
		}
	}
	sort.Strings(unused)
	require.Empty(t, unused, "internal packages that only their own tests import")
}

func TestEveryModuleIsInTheWorkspace(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(top(t), "go.work"))
	require.NoError(t, err)
	for _, dir := range modules(t) {
		rel, err := filepath.Rel(top(t), dir)
		require.NoError(t, err)
		require.Contains(t, strings.Fields(string(b)), "./"+rel, "go.work does not use it")
	}
}

func TestTableItself(t *testing.T) {
	tab, err := readTable("arrows.txt")
	require.NoError(t, err)
	for _, c := range []struct {
		rule     string
		from, to string
		want     bool
	}{
		{"one step", "vfs", "vfs/pagecache", true},
		{"several steps", "bufhead", "vfs/errno", true},
		{"not backwards", "vfs/pagecache", "vfs", false},
		{"not sideways", "bufhead", "iomap", false},
		{"the bridge sees both", "bufhead/bridge", "iomap", true},
		{"a filesystem does not know another", "fs/ext2", "fs/fat", false},
		{"the format knows nothing", "fs/ext2/disk", "vfs", false},
		{"packages of one family", "cmd/iomapfs", "cmd/internal/control", true},
		{"internal packages by Go's own rule", "vfs/block/file", "vfs/block/internal/inflight", true},
	} {
		t.Run(c.rule, func(t *testing.T) { require.Equal(t, c.want, tab.allowed(c.from, c.to)) })
	}
	require.True(t, tab.mayUse("vfs/fuse/transport", "github.com/hanwen/go-fuse/v2"))
	require.False(t, tab.mayUse("vfs", "github.com/hanwen/go-fuse/v2"))
	require.False(t, tab.mayUse("bufhead", "github.com/spf13/cobra"))
}
