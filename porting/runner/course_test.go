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
	ctx := context.Background()
	for i := range c.Steps {
		s := &c.Steps[i]
		t.Run(s.Name, func(t *testing.T) {
			require.NotEmpty(t, s.Title)
			start, err := c.Start(s.N)
			require.NoError(t, err)
			if s.N > 1 {
				r, err := c.Check(ctx, s.N-1, start, true)
				require.NoError(t, err)
				require.True(t, r.Passed, "the start of step %d fails an earlier check: %+v", s.N, r)
			}
			r, err := c.Check(ctx, s.N, start, false)
			require.NoError(t, err)
			require.False(t, r.Passed, "the start of step %d passes its own check", s.N)
			require.NotEmpty(t, r.Tests, "the start of step %d does not build: %s", s.N, r.Output)

			solved, err := c.Solved(s.N)
			require.NoError(t, err)
			r, err = c.Check(ctx, s.N, solved, true)
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
				r, err := c.Check(ctx, s.N, broken, false)
				require.NoError(t, err)
				require.False(t, r.Passed, "mistake %s is not caught", b.Name)
				require.NotEmpty(t, r.Tests, "mistake %s does not build: %s", b.Name, r.Output)
			}
		})
	}
}
