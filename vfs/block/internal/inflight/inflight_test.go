package inflight

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCloseWaitsAndRefuses(t *testing.T) {
	var g Gate
	var inside atomic.Int64
	var wg sync.WaitGroup
	start := make(chan struct{})
	for range 8 {
		wg.Go(func() {
			for i := 0; ; i++ {
				if !g.Enter() {
					return
				}
				inside.Add(1)
				inside.Add(-1)
				g.Exit()
				if i == 100 {
					start <- struct{}{}
				}
			}
		})
	}
	for range 8 {
		<-start
	}
	require.True(t, g.Close())
	require.Zero(t, inside.Load())
	require.False(t, g.Enter())
	require.False(t, g.Close(), "only the first closes")
	wg.Wait()
	require.Zero(t, g.Inside())
}

func TestCloseOfAnIdleGateReturns(t *testing.T) {
	var g Gate
	require.True(t, g.Enter())
	g.Exit()
	require.True(t, g.Close())
}
