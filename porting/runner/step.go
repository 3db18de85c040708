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
	Steps []Step // Steps[i].N is i
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
		if s.N != i {
			return nil, fmt.Errorf("step %d is missing in %s", i, filepath.Dir(s.Dir))
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

// Last is the number of the last step.
func (c *Course) Last() int { return len(c.Steps) - 1 }

// Step gives step n.
func (c *Course) Step(n int) (*Step, error) {
	if n < 0 || n > c.Last() {
		return nil, fmt.Errorf("there is no step %d: the course has steps 0 to %d", n, c.Last())
	}
	return &c.Steps[n], nil
}

// Text is the README of a step. Without answers, those that it folds away are left out.
func (s *Step) Text(answers bool) (string, error) {
	b, err := os.ReadFile(filepath.Join(s.Dir, "README.md"))
	if err != nil {
		return "", err
	}
	with := strings.NewReplacer("<details><summary>Answer</summary>", "**Answer.**", "</details>", "").Replace(string(b))
	if answers {
		return with, nil
	}
	return folded.ReplaceAllString(string(b), fmt.Sprintf("(The answer: iomapfs port show --answers %d)", s.N)), nil
}

var folded = regexp.MustCompile(`(?s)<details>.*?</details>`)

// Hints are the hints of a step, the gentlest first.
func (s *Step) Hints() ([]string, error) {
	b, err := os.ReadFile(filepath.Join(s.Dir, "hints.md"))
	if err != nil {
		return nil, err
	}
	var hints []string
	for _, h := range strings.Split(string(b), "\n## ")[1:] {
		hints = append(hints, strings.TrimSpace(h))
	}
	return hints, nil
}

// Files is a set of files of the package minix: the name in the package → the file to take, or "" for one that is not there.
type Files map[string]string

// gone marks a file that a step removes: dir.go.gone.
const gone = ".gone"

// add adds the Go files of a folder, but tests. A folder that is not there adds nothing.
func (f Files) add(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		switch {
		case strings.HasSuffix(name, ".go"+gone):
			f[strings.TrimSuffix(name, gone)] = ""
		case strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go"):
			f[name] = filepath.Join(dir, name)
		}
	}
	return nil
}

// patient is the folder of the filesystem as it is before the course.
func (c *Course) patient() string { return filepath.Join(c.Root, "porting", "minix") }

// Solved gives the filesystem with steps 0 to n solved; n is -1 for the patient.
func (c *Course) Solved(n int) (Files, error) {
	f := Files{}
	if err := f.add(c.patient()); err != nil {
		return nil, err
	}
	for _, s := range c.Steps[:n+1] {
		if err := errors.Join(f.add(filepath.Join(s.Dir, "given")), f.add(filepath.Join(s.Dir, "solution"))); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// Start gives the filesystem as the reader finds it at step n: the steps before it solved, what the step gives, and its marked places.
func (c *Course) Start(n int) (Files, error) {
	f, err := c.Solved(n - 1)
	if err != nil {
		return nil, err
	}
	task, err := c.Steps[n].task()
	for name, path := range task {
		f[name] = path
	}
	return f, err
}

// task gives the files that a step lays over the reader's.
func (s *Step) task() (Files, error) {
	f := Files{}
	return f, errors.Join(f.add(filepath.Join(s.Dir, "given")), f.add(filepath.Join(s.Dir, "start")))
}

// Yours lists the files that the reader changes in the step.
func (s *Step) Yours() ([]string, error) {
	f := Files{}
	err := f.add(filepath.Join(s.Dir, "start"))
	return f.Names(), err
}

// Own gives the reader's filesystem. What he removed is not there.
func (c *Course) Own() (Files, error) {
	f := Files{}
	if err := f.add(c.patient()); err != nil {
		return nil, err
	}
	for name := range f {
		f[name] = ""
	}
	return f, f.add(c.Mine)
}

// Names lists the files that are there, sorted.
func (f Files) Names() []string {
	var names []string
	for n, path := range f {
		if path != "" {
			names = append(names, n)
		}
	}
	sort.Strings(names)
	return names
}
