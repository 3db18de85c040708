//go:build linux

package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/iomapfs/iomapfs/cmd/internal/hostmnt"
	"github.com/iomapfs/iomapfs/fstests/oracle"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

var update = flag.Bool("update", false, "rewrite the expected output of the scripts")

// asMain makes the test binary be the command.
const asMain = "IOMAPFS_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(asMain) != "" {
		main()
	}
	os.Exit(m.Run())
}

// Scripts are transcripts of a shell. A line that begins with "$ " is a command for bash (lines that begin with "> " go on
// with it), the lines after it are what it must print to stdout and stderr together; a last line [N] is an exit status
// other than 0. Lines before the first command are a comment, in which "needs:" lists what must be there: programs, fuse,
// root. The working directory is new and prints as $WORK.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) {
			t.Parallel()
			runScript(t, f)
		})
	}
}

// step is one command of a script.
type step struct {
	before  string // comment and empty lines
	command string
	want    string
}

func parseScript(text string) (steps []step, tail string) {
	var before strings.Builder
	lines := strings.SplitAfter(text, "\n")
	for i := 0; i < len(lines); {
		if !strings.HasPrefix(lines[i], "$ ") {
			before.WriteString(lines[i])
			i++
			continue
		}
		s := step{before: before.String(), command: strings.TrimPrefix(lines[i], "$ ")}
		before.Reset()
		for i++; i < len(lines) && strings.HasPrefix(lines[i], "> "); i++ {
			s.command += strings.TrimPrefix(lines[i], "> ")
		}
		for ; i < len(lines) && !strings.HasPrefix(lines[i], "$ ") && !strings.HasPrefix(lines[i], "# ") && lines[i] != "\n"; i++ {
			s.want += lines[i]
		}
		steps = append(steps, s)
	}
	return steps, before.String()
}

// sandbox is where a script runs.
type sandbox struct {
	dir string
	env []string
}

// newSandbox makes a directory with the binary under all its names, and takes away what was left mounted in it.
func newSandbox(t *testing.T) *sandbox {
	t.Helper()
	top, err := os.MkdirTemp("", "iomapfs-test-")
	require.NoError(t, err)
	top, err = filepath.EvalSymlinks(top)
	require.NoError(t, err)
	t.Cleanup(func() {
		list, err := hostmnt.Mounts()
		require.NoError(t, err)
		for _, m := range list {
			if strings.HasPrefix(m.Point, top+"/") {
				t.Errorf("%s is still mounted", m.Point)
				_ = unix.Unmount(m.Point, unix.MNT_DETACH)
			}
		}
		require.NoError(t, os.RemoveAll(top))
	})
	work, bin := filepath.Join(top, "work"), filepath.Join(top, "bin")
	require.NoError(t, os.Mkdir(work, 0o755))
	require.NoError(t, os.Mkdir(bin, 0o755))
	exe, err := os.Executable()
	require.NoError(t, err)
	// A binary of its own, in a place that other users may reach.
	if err := os.Link(exe, filepath.Join(bin, "iomapfs")); err != nil {
		b, err := os.ReadFile(exe)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(bin, "iomapfs"), b, 0o755))
	}
	for _, name := range []string{"mount.iomapfs", "mount.fuse.iomapfs", "umount.iomapfs", "umount.fuse.iomapfs"} {
		require.NoError(t, os.Symlink("iomapfs", filepath.Join(bin, name)))
	}
	return &sandbox{work, []string{
		"PATH=" + bin + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", asMain + "=1", "TZ=UTC", "LC_ALL=C.UTF-8", "HOME=" + top,
		"XDG_STATE_HOME=" + filepath.Join(top, "state"), "IOMAPFS_RUNTIME_DIR=" + filepath.Join(top, "run"), "E2FSPROGS_FAKE_TIME=1700000000",
		"MKE2FS_DEVICE_SECTSIZE=512", "TMPDIR=" + top,
	}}
}

// run runs a command in bash, for a minute at most, and gives what it printed and its exit status.
func (s *sandbox) run(t *testing.T, command string) (string, int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", command)
	cmd.Dir, cmd.Env = s.dir, s.env
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	if ctx.Err() != nil {
		t.Fatalf("took longer than a minute: %s\n%s", command, out.String())
	}
	if err != nil && cmd.ProcessState == nil {
		t.Fatalf("%s: %v", command, err)
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

var trailing = regexp.MustCompile(`[ \t]+\n`)

func runScript(t *testing.T, path string) {
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	steps, tail := parseScript(string(text))
	for _, line := range strings.Split(steps[0].before, "\n") {
		needs, ok := strings.CutPrefix(line, "# needs:")
		if !ok {
			continue
		}
		for _, n := range strings.Fields(needs) {
			switch n {
			case "fuse":
				oracle.NeedFuse(t)
			case "root":
				oracle.NeedRoot(t)
			default:
				oracle.Need(t, n)
			}
		}
	}
	s := newSandbox(t)
	var got strings.Builder
	for i, st := range steps {
		out, code := s.run(t, st.command)
		out = strings.ReplaceAll(out, s.dir, "$WORK")
		if out != "" && !strings.HasSuffix(out, "\n") {
			out += "\n"
		}
		if code != 0 {
			out += fmt.Sprintf("[%d]\n", code)
		}
		out = trailing.ReplaceAllString(out, "\n")
		out = strings.ReplaceAll(out, "\n\n", "\n~\n") // an empty line would end the expectation
		if !*update && out != st.want {
			require.Equal(t, st.want, out, "step %d of %s: %s", i+1, path, st.command)
		}
		got.WriteString(st.before)
		for j, l := range strings.Split(strings.TrimSuffix(st.command, "\n"), "\n") {
			got.WriteString([]string{"$ ", "> "}[min(j, 1)] + l + "\n")
		}
		got.WriteString(out)
	}
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(got.String()+tail), 0o644))
	}
}
