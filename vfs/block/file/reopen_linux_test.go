package file

import (
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// An image that was closed can be opened again at once, also while the process starts others.
func TestReopenWhileForking(t *testing.T) {
	img := filepath.Join(t.TempDir(), "i")
	if err := os.WriteFile(img, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for {
				select {
				case <-stop:
					return
				default:
					_ = exec.Command("true").Run()
				}
			}
		}()
	}
	fails := 0
	for range 3000 {
		d, err := Open(img, Options{})
		if err != nil {
			fails++
			continue
		}
		d.Close()
	}
	close(stop)
	wg.Wait()
	t.Logf("%d of 3000 reopens refused", fails)
	if fails > 0 {
		t.Fail()
	}
}
