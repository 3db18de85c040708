//go:build !linux

package term

import (
	"io"
	"os"
)

// isTerminal takes a character device other than the null device for a terminal.
func isTerminal(f *os.File) bool {
	fi, err := f.Stat()
	return err == nil && fi.Mode()&os.ModeCharDevice != 0 && f.Name() != os.DevNull
}

func width(io.Writer) int { return 80 }
