package runner

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
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
