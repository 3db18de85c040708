package runner

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"strings"
)

// Step is one step of the course.
type Step struct {
	N     int
	Name  string // "fiemap"
	Title string // the first heading of its README
	Dir   string
}

// Course is the course in a checkout of the repository.
type Course struct {
	Root  string // of the repository
	Mine  string // the reader's files
	Steps []Step // from 1; Steps[i].N is i+1
}

var stepName = regexp.MustCompile(`^(\d\d)-([a-z-]+)$`)

// Open finds the course from a folder inside a checkout, or from the folder above.
func Open(from string) (*Course, error) {
	dir, err := filepath.Abs(from)
	if err != nil {
		return nil, err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "porting", "course", "_steps")); err == nil {
			break
		}
		up := filepath.Dir(dir)
		if up == dir {
			return nil, fmt.Errorf("%s is not inside a checkout of iomapfs: the course works on the sources; clone the repository and run it there", from)
		}
		dir = up
	}
	c := &Course{Root: dir, Mine: filepath.Join(dir, "porting", "mine")}
	entries, err := os.ReadDir(filepath.Join(dir, "porting", "course", "_steps"))
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		m := stepName.FindStringSubmatch(e.Name())
		if m == nil || !e.IsDir() {
			continue
		}
		n, _ := strconv.Atoi(m[1]) // two digits
		s := Step{N: n, Name: m[2], Dir: filepath.Join(dir, "porting", "course", "_steps", e.Name())}
		s.Title = heading(filepath.Join(s.Dir, "README.md"))
		c.Steps = append(c.Steps, s)
	}
	for i, s := range c.Steps {
		if s.N != i+1 {
			return nil, fmt.Errorf("step %d is missing in %s", i+1, filepath.Dir(s.Dir))
		}
	}
	return c, nil
}

// heading gives the first heading of a Markdown file.
func heading(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for _, line := range strings.Split(string(b), "\n") {
		if t, ok := strings.CutPrefix(line, "# "); ok {
			return t
		}
	}
	return ""
}

// Step gives step n.
func (c *Course) Step(n int) (*Step, error) {
	if n < 1 || n > len(c.Steps) {
		return nil, fmt.Errorf("there is no step %d: the course has steps 1 to %d", n, len(c.Steps))
	}
	return &c.Steps[n-1], nil
}

// Files is a set of files of the package minix: the name in the package → the file to take.
type Files map[string]string

// goFiles adds the Go files of a folder. A folder that is not there adds nothing.
func (f Files) goFiles(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".go") {
			f[e.Name()] = filepath.Join(dir, e.Name())
		}
	}
	return nil
}

// Solved gives the files of the solutions of steps 1 to n.
func (c *Course) Solved(n int) (Files, error) {
	f := Files{}
	for _, s := range c.Steps[:n] {
		if err := f.goFiles(filepath.Join(s.Dir, "solution")); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// Start gives the files as the reader finds them at step n: the solutions before it, and the marked places of the step.
func (c *Course) Start(n int) (Files, error) {
	f, err := c.Solved(n - 1)
	if err != nil {
		return nil, err
	}
	return f, f.goFiles(filepath.Join(c.Steps[n-1].Dir, "start"))
}

// Own gives the reader's files.
func (c *Course) Own() (Files, error) {
	f := Files{}
	return f, f.goFiles(c.Mine)
}

// Names lists the files, sorted.
func (f Files) Names() []string {
	var names []string
	for n := range f {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}
