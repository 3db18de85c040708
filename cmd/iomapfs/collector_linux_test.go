package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestCollector sees that garbage may gather while little is alive, and no more than that when much is.
func TestCollector(t *testing.T) {
	t.Setenv("GOGC", "")
	before := debug.SetGCPercent(100)
	defer debug.SetGCPercent(before)
	percent := func() uint64 {
		s := []metrics.Sample{{Name: "/gc/gogc:percent"}}
		metrics.Read(s)
		return s[0].Value.Uint64()
	}
	settles := func(ok func(p uint64) bool) {
		t.Helper()
		for range 200 {
			runtime.GC()
			if ok(percent()) {
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
		require.Fail(t, "the collector was not set", "it is at %d", percent())
	}
	rareCollections()
	settles(func(p uint64) bool { return p >= 150 })
	alive := make([]byte, 2*spareHeap)
	settles(func(p uint64) bool { return p == 100 })
	runtime.KeepAlive(alive)
	settles(func(p uint64) bool { return p >= 150 })
}
