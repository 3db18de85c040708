package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// spareHeap is how much garbage may gather before the collector runs, in bytes. By its own rule (as much as is alive) it
// would run ten times a second while files are made, as little is alive, and take a fifth of the daemon's time.
const spareHeap = 16 << 20

// rareCollections sets the collector by what is alive, anew after each collection. Who sets GOGC is obeyed.
func rareCollections() {
	if os.Getenv("GOGC") == "" {
		setCollector()
	}
}

// cycle is an object that nobody keeps: it goes with the next collection.
type cycle struct{ _ *[64]byte }

func setCollector() {
	runtime.AddCleanup(&cycle{}, func(struct{}) { setCollector() }, struct{}{})
	s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/gogc:percent"}}
	metrics.Read(s)
	live := max(s[0].Value.Uint64(), 1<<20)
	want := max(100, spareHeap*100/live)
	if now := s[1].Value.Uint64(); want > now+now/4 || want < now-now/4 || want == 100 && now != 100 {
		debug.SetGCPercent(int(want)) // stops the world for a moment: not for every little change
	}
}
