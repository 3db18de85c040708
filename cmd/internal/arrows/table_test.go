package arrows

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
)

// table is arrows.txt.
type table struct {
	imports   map[string][]string // pattern → patterns it may import, as written
	external  map[string][]string // module → patterns that may use it
	forbidden [][2]string         // [0] must not be reached from [1]
}

func readTable(path string) (*table, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	t := &table{imports: map[string][]string{}, external: map[string][]string{}}
	for i, line := range strings.Split(string(b), "\n") {
		line, _, _ = strings.Cut(line, "#")
		if strings.TrimSpace(line) == "" {
			continue
		}
		var ok bool
		var l, r string
		switch {
		case strings.Contains(line, "!<"):
			l, r, ok = strings.Cut(line, "!<")
			for _, to := range strings.Fields(l) {
				for _, from := range strings.Fields(r) {
					t.forbidden = append(t.forbidden, [2]string{to, from})
				}
			}
		case strings.Contains(line, "<-"):
			l, r, ok = strings.Cut(line, "<-")
			for _, m := range strings.Fields(l) {
				t.external[m] = append(t.external[m], strings.Fields(r)...)
			}
		default:
			l, r, ok = strings.Cut(line, "<")
			for _, from := range strings.Fields(r) {
				t.imports[from] = append(t.imports[from], strings.Fields(l)...)
			}
		}
		if !ok || strings.TrimSpace(l) == "" || strings.TrimSpace(r) == "" {
			return nil, fmt.Errorf("%s:%d: %q is no arrow", path, i+1, line)
		}
	}
	return t, nil
}

// matches reports whether a folder is meant by a pattern.
func matches(pattern, dir string) bool {
	if p, ok := strings.CutSuffix(pattern, "/..."); ok {
		return dir == p || strings.HasPrefix(dir, p+"/")
	}
	return dir == pattern
}

// known reports whether the table speaks of dir as one that imports, or as a leaf.
func (t *table) known(dir string) bool {
	for from, to := range t.imports {
		if matches(from, dir) || slices.ContainsFunc(to, func(p string) bool { return matches(p, dir) }) {
			return true
		}
	}
	return false
}

// allowed reports whether from may import to: in one step or through what that step may import.
func (t *table) allowed(from, to string) bool {
	if internalOf(from, to) || slices.ContainsFunc(slices.Collect(maps.Keys(t.imports)), func(p string) bool {
		return strings.HasSuffix(p, "/...") && matches(p, from) && matches(p, to)
	}) {
		return true // by Go's own rule, or packages of one family
	}
	seen := map[string]bool{}
	var walk func(dir string) bool
	walk = func(dir string) bool {
		if seen[dir] {
			return false
		}
		seen[dir] = true
		for pattern, list := range t.imports {
			if !matches(pattern, dir) && pattern != dir {
				continue
			}
			for _, p := range list {
				if matches(p, to) || walk(p) {
					return true
				}
			}
		}
		return false
	}
	return walk(from)
}

// owner is the folder that an internal package belongs to, or dir itself.
func owner(dir string) string {
	d, _, _ := strings.Cut(dir, "/internal")
	return d
}

// internalOf reports whether to is an internal package that Go lets from import.
func internalOf(from, to string) bool {
	parent, _, ok := strings.Cut(to, "/internal/")
	return ok && (from == parent || strings.HasPrefix(from, parent+"/"))
}

// mayUse reports whether dir may use the outside module m.
func (t *table) mayUse(dir, m string) bool {
	return slices.ContainsFunc(t.external[m], func(p string) bool { return matches(p, dir) })
}
