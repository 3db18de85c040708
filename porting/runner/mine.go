package runner

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// At gives the step that the reader is at: 0 before the first.
func (c *Course) At() (int, error) {
	b, err := os.ReadFile(filepath.Join(c.Mine, "step"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || n < 0 || n > len(c.Steps) {
		return 0, fmt.Errorf("%s does not hold the number of a step: run port reset", filepath.Join(c.Mine, "step"))
	}
	return n, nil
}

// Next takes the reader to the next step, whose start is laid over the reader's files where the step changes them: a file that he
// changed himself is kept beside it as NAME.before-N. It gives the step and the files to work on.
func (c *Course) Next() (*Step, []string, error) {
	at, err := c.At()
	if err != nil {
		return nil, nil, err
	}
	if at == len(c.Steps) {
		return nil, nil, fmt.Errorf("step %d was the last: the course is done", at)
	}
	return c.begin(at + 1)
}

// begin lays step n's start in the reader's folder.
func (c *Course) begin(n int) (*Step, []string, error) {
	s, err := c.Step(n)
	if err != nil {
		return nil, nil, err
	}
	if err := os.MkdirAll(c.Mine, 0o755); err != nil {
		return nil, nil, err
	}
	before, err := c.Solved(n - 1)
	if err != nil {
		return nil, nil, err
	}
	task := Files{}
	if err := task.goFiles(filepath.Join(s.Dir, "start")); err != nil {
		return nil, nil, err
	}
	// What earlier steps solved and the reader has no file of comes from their solutions.
	for name, path := range before {
		if _, err := os.Stat(filepath.Join(c.Mine, name)); err == nil || task[name] != "" {
			continue
		}
		if err := copyFile(path, filepath.Join(c.Mine, name)); err != nil {
			return nil, nil, err
		}
	}
	for _, name := range task.Names() {
		dst := filepath.Join(c.Mine, name)
		if own, err := os.ReadFile(dst); err == nil {
			if given, err := os.ReadFile(before[name]); err != nil || !bytes.Equal(own, given) {
				if err := os.Rename(dst, fmt.Sprintf("%s.before-%d", dst, n)); err != nil {
					return nil, nil, err
				}
			}
		}
		if err := copyFile(task[name], dst); err != nil {
			return nil, nil, err
		}
	}
	return s, task.Names(), os.WriteFile(filepath.Join(c.Mine, "step"), []byte(strconv.Itoa(n)+"\n"), 0o644)
}

// Reset puts the reader's files aside, in a folder whose name it gives, and begins step n again; 0 begins before the first.
func (c *Course) Reset(n int) (kept string, err error) {
	if n < 0 || n > len(c.Steps) {
		return "", fmt.Errorf("there is no step %d: the course has steps 1 to %d", n, len(c.Steps))
	}
	if _, err := os.Stat(c.Mine); err == nil {
		kept = c.Mine + time.Now().Format("-20060102-150405")
		if err := os.Rename(c.Mine, kept); err != nil {
			return "", err
		}
	}
	if n == 0 {
		return kept, nil
	}
	_, _, err = c.begin(n)
	return kept, err
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
	if err := done.goFiles(filepath.Join(s.Dir, "solution")); err != nil {
		return "", err
	}
	var out strings.Builder
	for _, name := range done.Names() {
		from := start[name]
		if from == "" {
			if from = filepath.Join(c.Root, "porting", "minix", name); !exists(from) {
				from = os.DevNull
			}
		}
		cmd := exec.CommandContext(ctx, "diff", "-u", "--label", "start/"+name, "--label", "solution/"+name, from, done[name])
		b, err := cmd.Output()
		var exit *exec.ExitError
		if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
			return "", fmt.Errorf("diff: %w", err)
		}
		out.Write(b)
	}
	return out.String(), nil
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
