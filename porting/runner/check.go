package runner

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Result is what the checks of a step said.
type Result struct {
	Passed   bool
	Tests    []Test
	Counters []string // "get_block calls  before 12, now 0": what the step was to change
	Output   string   // the compiler's, when it does not build
}

// Test is one test of a check.
type Test struct {
	Name   string // without "TestStep03"
	Passed bool
	Says   []string // why not
}

// overlay writes the toolchain's overlay file for the files and the tests of steps 1 to n.
func (c *Course) overlay(dir string, files Files, n int) (string, error) {
	replace := map[string]string{}
	pkg := filepath.Join(c.Root, "porting", "minix")
	for name, path := range files {
		replace[filepath.Join(pkg, name)] = path
	}
	common, err := filepath.Glob(filepath.Join(c.Root, "porting", "course", "_steps", "*_test.go"))
	if err != nil {
		return "", err
	}
	for _, path := range common {
		replace[filepath.Join(pkg, "course_"+filepath.Base(path))] = path
	}
	for _, s := range c.Steps[:n] {
		replace[filepath.Join(pkg, fmt.Sprintf("step%02d_test.go", s.N))] = filepath.Join(s.Dir, "step_test.go")
	}
	b, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "overlay.json")
	return path, os.WriteFile(path, b, 0o600)
}

// Check runs the tests of step n, or with all those of steps 1 to n, on a set of files.
func (c *Course) Check(ctx context.Context, n int, files Files, all bool) (*Result, error) {
	dir, err := os.MkdirTemp("", "iomapfs-port")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	over, err := c.overlay(dir, files, n)
	if err != nil {
		return nil, err
	}
	run := fmt.Sprintf("^TestStep%02d", n)
	if all {
		run = "^TestStep"
	}
	cmd := exec.CommandContext(ctx, "go", "test", "-json", "-count=1", "-timeout", "120s", "-overlay", over, "-run", run, "./minix")
	cmd.Dir = filepath.Join(c.Root, "porting")
	cmd.Env = append(os.Environ(), "GOWORK=off")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return nil, fmt.Errorf("the checks need the Go toolchain: %w", err)
	}
	return parse(out, stderr.String(), err == nil), nil
}

// event is one line of go test -json.
type event struct{ Action, Test, Output string }

// parse makes a result of the output of go test -json.
func parse(out []byte, stderr string, passed bool) *Result {
	r := &Result{Passed: passed, Output: stderr}
	at := map[string]int{}
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			r.Output += lines.Text() + "\n"
			continue
		}
		if e.Test == "" {
			if e.Action == "output" || e.Action == "build-output" {
				r.Output += e.Output
			}
			continue
		}
		i, ok := at[e.Test]
		if !ok {
			i = len(r.Tests)
			at[e.Test] = i
			r.Tests = append(r.Tests, Test{Name: short(e.Test)})
		}
		switch e.Action {
		case "pass":
			r.Tests[i].Passed = true
		case "output":
			say(r, &r.Tests[i], strings.TrimSpace(e.Output))
		}
	}
	return r
}

// short turns "TestStep03SeekHole/at_8192" into "SeekHole/at 8192".
func short(name string) string {
	name = strings.TrimPrefix(name, "TestStep")
	return strings.ReplaceAll(strings.TrimLeft(name, "0123456789"), "_", " ")
}

// say sorts a line of a test's output.
func say(r *Result, t *Test, line string) {
	if line == "" || strings.HasPrefix(line, "===") || strings.HasPrefix(line, "---") {
		return
	}
	if i := strings.Index(line, ".go:"); i >= 0 {
		if j := strings.Index(line[i:], ": "); j >= 0 {
			line = line[i+j+2:]
		}
	}
	if c, ok := strings.CutPrefix(line, "counter: "); ok {
		r.Counters = append(r.Counters, c)
		return
	}
	t.Says = append(t.Says, line)
}
