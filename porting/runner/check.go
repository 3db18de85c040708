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
	"strconv"
	"strings"
)

// Result is what the checks of a step said.
type Result struct {
	Passed bool
	Tests  []Test
	Output string // the compiler's, when it does not build
}

// Test is one test of a check.
type Test struct {
	Step    int    // whose test it is
	Name    string // without "TestStep03"
	Passed  bool
	Skipped bool     // Says why
	Says    []string // why not
	// Counters are what the step was to change: "get_block calls  before 12, now 0".
	Counters []string
}

// tests gives the test files of steps 0 to n, by their names in the package.
func (c *Course) tests(n int) (map[string]string, error) {
	common, err := filepath.Glob(filepath.Join(c.Root, "porting", "course", "_steps", "*_test.go"))
	if err != nil {
		return nil, err
	}
	t := map[string]string{}
	for _, path := range common {
		t["course_"+filepath.Base(path)] = path
	}
	for _, s := range c.Steps[:n+1] {
		t[fmt.Sprintf("step%02d_test.go", s.N)] = filepath.Join(s.Dir, "step_test.go")
	}
	return t, nil
}

// overlay writes the toolchain's overlay file, which puts the files and the tests of steps 0 to n in the place of the patient's.
func (c *Course) overlay(dir string, files Files, n int) (string, error) {
	replace := map[string]string{}
	for name, path := range files {
		replace[filepath.Join(c.patient(), name)] = path
	}
	if n >= 0 {
		tests, err := c.tests(n)
		if err != nil {
			return "", err
		}
		for name, path := range tests {
			replace[filepath.Join(c.patient(), name)] = path
		}
		replace[filepath.Join(c.patient(), "minix_test.go")] = "" // the patient's own
	}
	b, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "overlay.json")
	return path, os.WriteFile(path, b, 0o600)
}

// Check runs the tests of steps first to n on a set of files. vet lets the toolchain's vet look at them too.
func (c *Course) Check(ctx context.Context, files Files, first, n int, vet bool) (*Result, error) {
	var steps []string
	for i := first; i <= n; i++ {
		steps = append(steps, fmt.Sprintf("%02d", i))
	}
	return c.test(ctx, files, n, "^TestStep("+strings.Join(steps, "|")+")", vet)
}

// CheckWhole runs the patient's own tests that match the pattern on a set of files, in place of those of the course.
func (c *Course) CheckWhole(ctx context.Context, files Files, pattern string) (*Result, error) {
	return c.test(ctx, files, -1, pattern, true)
}

// Sides gives the paths that a set of files has for each operation, "legacy iomap", by the operation's name; none when the files do
// not build.
func (c *Course) Sides(ctx context.Context, files Files) (map[string]string, error) {
	r, err := c.test(ctx, files, 0, "^TestSides$", false)
	if err != nil {
		return nil, err
	}
	sides := map[string]string{}
	for _, t := range r.Tests {
		for _, line := range t.Counters {
			op, paths, _ := strings.Cut(line, " ")
			sides[op] = paths
		}
	}
	return sides, nil
}

func (c *Course) test(ctx context.Context, files Files, n int, pattern string, vet bool) (*Result, error) {
	dir, err := os.MkdirTemp("", "iomapfs-port")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	over, err := c.overlay(dir, files, n)
	if err != nil {
		return nil, err
	}
	// What runs for a second need not be optimised: building is what takes time.
	args := []string{"test", "-json", "-count=1", "-timeout", "300s", "-gcflags=-N -l", "-ldflags", "-s -w", "-overlay", over, "-run", pattern}
	if !vet {
		args = append(args, "-vet=off")
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "./minix")...)
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
			r.Tests = append(r.Tests, Test{Step: stepOf(e.Test), Name: short(e.Test)})
		}
		switch e.Action {
		case "pass":
			r.Tests[i].Passed = true
		case "skip":
			r.Tests[i].Skipped = true
		case "output":
			r.Tests[i].say(strings.TrimSpace(e.Output))
		}
	}
	return r
}

// stepOf gives 3 for "TestStep03SeekHole", and 0 for what is no step's.
func stepOf(name string) int {
	n, _ := strconv.Atoi(name[min(len("TestStep"), len(name)):min(len("TestStep00"), len(name))])
	return n
}

// short turns "TestStep03SeekHole/at_8192" into "SeekHole/at 8192".
func short(name string) string {
	name = strings.TrimPrefix(name, "TestStep")
	return strings.ReplaceAll(strings.TrimLeft(name, "0123456789"), "_", " ")
}

// say sorts a line of the test's output.
func (t *Test) say(line string) {
	if line == "" || strings.HasPrefix(line, "===") || strings.HasPrefix(line, "---") {
		return
	}
	if i := strings.Index(line, ".go:"); i >= 0 {
		if j := strings.Index(line[i:], ": "); j >= 0 {
			line = line[i+j+2:]
		}
	}
	if c, ok := strings.CutPrefix(line, "counter: "); ok {
		t.Counters = append(t.Counters, c)
		return
	}
	t.Says = append(t.Says, line)
}
