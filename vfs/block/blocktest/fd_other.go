//go:build !unix

package blocktest

import "os"

func readFD(fd uintptr, n, off int64) ([]byte, error) { return nil, os.ErrInvalid }
