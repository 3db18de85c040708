package runner

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// At gives the step that the reader is at: -1 before the first.
func (c *Course) At() (int, error) {
	b, err := os.ReadFile(filepath.Join(c.Mine, "step"))
	if errors.Is(err, fs.ErrNotExist) {
		return -1, nil
	}
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || n < 0 || n > c.Last() {
		return 0, fmt.Errorf("%s does not hold the number of a step: run iomapfs port reset N", filepath.Join(c.Mine, "step"))
	}
	return n, nil
}

// Next takes the reader to the next step: its files are laid over his. A file of his that differs from the course's solution is
// kept beside it as NAME.before-N. It gives the step and the files that were kept.
func (c *Course) Next() (s *Step, kept []string, err error) {
	at, err := c.At()
	if err != nil {
		return nil, nil, err
	}
	if at == c.Last() {
		return nil, nil, fmt.Errorf("step %d was the last: the course is done", at)
	}
	return c.begin(at + 1)
}

// begin lays step n's start over the reader's files, which it makes when there are none: the whole filesystem, so that editors and
// debuggers understand it, with the tests of the steps so far.
func (c *Course) begin(n int) (s *Step, kept []string, err error) {
	if s, err = c.Step(n); err != nil {
		return nil, nil, err
	}
	fresh := !exists(c.Mine)
	if err := os.MkdirAll(c.Mine, 0o755); err != nil {
		return nil, nil, err
	}
	before, err := c.Solved(n - 1)
	if err != nil {
		return nil, nil, err
	}
	found := Files{} // what the reader had before him
	if n > 0 {
		if found, err = c.Start(n - 1); err != nil {
			return nil, nil, err
		}
	}
	task, err := s.task()
	if err != nil {
		return nil, nil, err
	}
	if fresh {
		for _, name := range before.Names() {
			if err := copyFile(before[name], filepath.Join(c.Mine, name)); err != nil {
				return nil, nil, err
			}
		}
	}
	for _, name := range task.Names() {
		dst := filepath.Join(c.Mine, name)
		if exists(dst) && !same(dst, before[name]) && !same(dst, found[name]) {
			keep := fmt.Sprintf("%s.before-%d", dst, n)
			if err := os.Rename(dst, keep); err != nil {
				return nil, nil, err
			}
			kept = append(kept, keep)
		}
		if err := copyFile(task[name], dst); err != nil {
			return nil, nil, err
		}
	}
	tests, err := c.tests(n)
	if err != nil {
		return nil, nil, err
	}
	for name, path := range tests {
		if err := copyFile(path, filepath.Join(c.Mine, name)); err != nil {
			return nil, nil, err
		}
	}
	return s, kept, os.WriteFile(filepath.Join(c.Mine, "step"), []byte(strconv.Itoa(n)+"\n"), 0o644)
}

// Reset puts the reader's files aside, in a folder whose name it gives, and begins step n again.
func (c *Course) Reset(n int) (kept string, err error) {
	if _, err := c.Step(n); err != nil {
		return "", err
	}
	if exists(c.Mine) {
		// With an underscore, so that the toolchain does not take it for a package of the module.
		base := filepath.Join(filepath.Dir(c.Mine), "_"+filepath.Base(c.Mine)+time.Now().Format("-20060102-150405"))
		kept = base
		for i := 2; exists(kept); i++ {
			kept = fmt.Sprintf("%s-%d", base, i)
		}
		if err := os.Rename(c.Mine, kept); err != nil {
			return "", err
		}
	}
	_, _, err = c.begin(n)
	return kept, err
}

// NextHint gives the number of the hint of step n to show next, from 1, and notes that it was shown.
func (c *Course) NextHint(n int) (int, error) {
	path := filepath.Join(c.Mine, "hints")
	step, k := -1, 0
	if b, err := os.ReadFile(path); err == nil {
		if _, err := fmt.Sscan(string(b), &step, &k); err != nil || step != n {
			k = 0
		}
	}
	return k + 1, os.WriteFile(path, fmt.Appendf(nil, "%d %d\n", n, k+1), 0o644)
}

// Solution shows what step n's solution changes in its start, as a unified diff.
func (c *Course) Solution(ctx context.Context, n int) (string, error) {
	s, err := c.Step(n)
	if err != nil {
		return "", err
	}
	start, err := c.Start(n)
	if err != nil {
		return "", err
	}
	done := Files{}
	if err := done.add(filepath.Join(s.Dir, "solution")); err != nil {
		return "", err
	}
	names := slices.Sorted(maps.Keys(done))
	var out strings.Builder
	for _, name := range names {
		from, to := start[name], done[name]
		if from == "" {
			from = os.DevNull
		}
		if to == "" {
			fmt.Fprintf(&out, "remove %s\n", name)
			continue
		}
		cmd := exec.CommandContext(ctx, "diff", "-u", "--label", "start/"+name, "--label", "solution/"+name, from, to)
		b, err := cmd.Output()
		var exit *exec.ExitError
		if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
			return "", fmt.Errorf("diff: %w", err)
		}
		out.Write(b)
	}
	return out.String(), nil
}

// same reports whether two files hold the same. No file is the same as none.
func same(a, b string) bool {
	x, err := os.ReadFile(a)
	if err != nil {
		return false
	}
	y, err := os.ReadFile(b)
	return err == nil && bytes.Equal(x, y)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func copyFile(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o644)
}
