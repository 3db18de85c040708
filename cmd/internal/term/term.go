package term

import (
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/iomapfs/iomapfs/vfs"
)

// IsTerminal reports whether w is a terminal.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && isTerminal(f)
}

// Size writes bytes with three digits or so: 512, 4.0K, 37M, 1.2T.
func Size(n int64) string {
	if n < 1024 && n > -1024 {
		return fmt.Sprint(n)
	}
	f, i := float64(n), -1
	for (f >= 1023.95 || f <= -1023.95) && i < 5 {
		f /= 1024
		i++
	}
	if f < 9.95 && f > -9.95 {
		return fmt.Sprintf("%.1f%c", f, "KMGTPE"[i])
	}
	return fmt.Sprintf("%.0f%c", f, "KMGTPE"[i])
}

// Table writes rows in columns two spaces apart. head may be nil.
func Table(w io.Writer, head []string, rows [][]string) error {
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	line := func(cells []string) {
		fmt.Fprintln(tw, strings.Join(cells, "\t"))
	}
	if head != nil {
		line(head)
	}
	for _, r := range rows {
		line(r)
	}
	return tw.Flush()
}

// Mode writes type and permissions as ls -l does.
func Mode(mode uint32) string {
	b := []byte("?rwxrwxrwx")
	if c, ok := map[uint32]byte{
		vfs.ModeSocket: 's', vfs.ModeSymlink: 'l', vfs.ModeRegular: '-', vfs.ModeBlock: 'b',
		vfs.ModeDir: 'd', vfs.ModeChar: 'c', vfs.ModeFIFO: 'p',
	}[mode&vfs.ModeType]; ok {
		b[0] = c
	}
	for i := range 9 {
		if mode&(1<<(8-i)) == 0 {
			b[1+i] = '-'
		}
	}
	for _, s := range []struct {
		bit uint32
		at  int
		set byte
	}{{vfs.ModeSetUID, 3, 's'}, {vfs.ModeSetGID, 6, 's'}, {vfs.ModeSticky, 9, 't'}} {
		if mode&s.bit == 0 {
			continue
		}
		if b[s.at] == 'x' {
			b[s.at] = s.set
		} else {
			b[s.at] = s.set - 'a' + 'A'
		}
	}
	return string(b)
}

// Printable makes a name from a medium safe to show: control characters and what is not UTF-8 are escaped as in Go, so
// that a terminal obeys nobody's file names.
func Printable(name string) string {
	clean := true
	for _, r := range name {
		if r < ' ' || r == 0x7f || r == '\uFFFD' || r >= 0x80 && r < 0xa0 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			clean = false
			break
		}
	}
	if clean {
		return name
	}
	q := fmt.Sprintf("%+q", name)
	return q[1 : len(q)-1]
}

// Progress shows a line that changes. Nothing is shown when its writer is not a terminal.
type Progress struct {
	w    io.Writer
	stop chan struct{}
	done chan struct{}
}

// StartProgress calls line five times a second and shows what it gives. Stop takes the line away. w is usually stderr.
func StartProgress(w io.Writer, line func() string) *Progress {
	p := &Progress{w: w, stop: make(chan struct{}), done: make(chan struct{})}
	if !IsTerminal(w) {
		close(p.done)
		return p
	}
	go func() {
		defer close(p.done)
		t := time.NewTicker(200 * time.Millisecond)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				s := []rune(line())
				fmt.Fprintf(w, "\r\x1b[K%s", string(s[:min(len(s), width(w)-1)]))
			case <-p.stop:
				fmt.Fprint(w, "\r\x1b[K")
				return
			}
		}
	}()
	return p
}

// Stop ends it. Call once.
func (p *Progress) Stop() {
	close(p.stop)
	<-p.done
}
