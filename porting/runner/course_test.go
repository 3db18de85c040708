package runner

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/fstests/oracle"
)

// The course holds: each start fails its own check and passes every earlier one, each solution passes all so far, and each
// mistake is caught.
func TestCourse(t *testing.T) {
	c, err := Open(".")
	require.NoError(t, err)
	require.NotEmpty(t, c.Steps)
	for i := range c.Steps {
		t.Run(c.Steps[i].Name, func(t *testing.T) {
			t.Parallel()
			testStep(t, c, &c.Steps[i])
		})
	}
}

func testStep(t *testing.T, c *Course, s *Step) {
	ctx := context.Background()
	require.NotEmpty(t, s.Title)
	hints, err := s.Hints()
	require.NoError(t, err)
	require.NotEmpty(t, hints)

	start, err := c.Start(s.N)
	require.NoError(t, err)
	r, err := c.Check(ctx, start, 0, s.N, false)
	require.NoError(t, err)
	require.NotEmpty(t, r.Tests, "the start of step %d does not build: %s", s.N, r.Output)
	failed := 0
	for _, test := range r.Tests {
		if !test.Passed && !test.Skipped {
			require.Equal(t, s.N, test.Step, "the start of step %d fails an earlier check: %+v", s.N, test)
			failed++
		}
	}
	require.NotZero(t, failed, "the start of step %d passes its own check", s.N)

	solved, err := c.Solved(s.N)
	require.NoError(t, err)
	r, err = c.Check(ctx, solved, 0, s.N, true)
	require.NoError(t, err)
	require.True(t, r.Passed, "the solution of step %d: %+v", s.N, r)

	diff, err := c.Solution(ctx, s.N)
	require.NoError(t, err)
	require.NotEmpty(t, diff)
	bugs, err := s.Bugs()
	require.NoError(t, err)
	require.NotEmpty(t, bugs)
	for _, b := range bugs {
		broken, err := b.Break(solved, t.TempDir())
		require.NoError(t, err)
		r, err := c.Check(ctx, broken, s.N, s.N, false)
		require.NoError(t, err)
		require.NotEmpty(t, r.Tests, "mistake %s does not build: %s", b.Name, r.Output)
		require.False(t, r.Passed, "mistake %s is not caught", b.Name)
	}
}

// The filesystem at the end of the course is a filesystem: it passes the patient's own tests, among them that Linux reads what it wrote.
func TestEnd(t *testing.T) {
	oracle.Need(t, "mkfs.minix", "fsck.minix", "linux.uml")
	c, err := Open(".")
	require.NoError(t, err)
	solved, err := c.Solved(c.Last())
	require.NoError(t, err)
	r, err := c.CheckWhole(context.Background(), solved, "^Test(Model|KernelReads|Mkfs)$")
	require.NoError(t, err)
	require.NotEmpty(t, r.Tests, r.Output)
	require.True(t, r.Passed, "%+v", r)
}

// What the reader wrote is never lost: next and reset keep it, and a file that he removed stays removed.
func TestMine(t *testing.T) {
	c, err := Open(".")
	require.NoError(t, err)
	c.Mine = filepath.Join(t.TempDir(), "mine")
	at, err := c.At()
	require.NoError(t, err)
	require.Equal(t, -1, at)
	for range 3 {
		_, kept, err := c.Next()
		require.NoError(t, err)
		require.Empty(t, kept)
	}
	own := filepath.Join(c.Mine, "iomap.go")
	before, err := os.ReadFile(own)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(own, append(before, "// mine\n"...), 0o600))
	require.NoError(t, os.Remove(filepath.Join(c.Mine, "needs.go")))
	_, kept, err := c.Next()
	require.NoError(t, err)
	require.Equal(t, []string{own + ".before-3"}, kept)
	text, err := os.ReadFile(kept[0])
	require.NoError(t, err)
	require.Contains(t, string(text), "// mine")
	files, err := c.Own()
	require.NoError(t, err)
	path, there := files["needs.go"]
	require.True(t, there)
	require.Empty(t, path)

	for range 2 { // within one second too
		aside, err := c.Reset(3)
		require.NoError(t, err)
		require.FileExists(t, filepath.Join(aside, "iomap.go"))
		require.FileExists(t, filepath.Join(c.Mine, "needs.go"))
	}
	at, err = c.At()
	require.NoError(t, err)
	require.Equal(t, 3, at)
	k, err := c.NextHint(3)
	require.NoError(t, err)
	require.Equal(t, 1, k)
	k, err = c.NextHint(3)
	require.NoError(t, err)
	require.Equal(t, 2, k)
	k, err = c.NextHint(2)
	require.NoError(t, err)
	require.Equal(t, 1, k)
}
