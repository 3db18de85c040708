package file

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/vfs/errno"
)

// Bytes of an image are written by one, beside writers of other bytes; the whole beside nobody.
func TestLockRange(t *testing.T) {
	const mib = 1 << 20
	img := filepath.Join(t.TempDir(), "i")
	require.NoError(t, os.WriteFile(img, make([]byte, 8*mib), 0o600))
	open := func(readOnly bool, off, n int64) (*Device, error) {
		d, err := Open(img, Options{ReadOnly: readOnly, Share: true})
		if err != nil {
			return nil, err
		}
		if err := d.LockRange(off, n); err != nil {
			require.NoError(t, d.Close())
			return nil, err
		}
		t.Cleanup(func() { d.Close() })
		return d, nil
	}
	first, err := open(false, mib, 2*mib)
	require.NoError(t, err)
	_, err = open(false, 3*mib, mib)
	require.NoError(t, err, "other bytes")
	_, err = open(true, 5*mib, mib)
	require.NoError(t, err, "a reader of other bytes")
	for _, c := range []struct {
		why      string
		readOnly bool
		off, n   int64
	}{
		{"the same bytes", false, mib, 2 * mib},
		{"the last byte", false, 3*mib - 1, 1},
		{"reading what is written", true, 2 * mib, 4096},
		{"writing what is read", false, 5 * mib, 4096},
		{"reading the whole", true, 0, 8 * mib},
		{"writing the whole", false, 0, 8 * mib},
	} {
		_, err = open(c.readOnly, c.off, c.n)
		require.ErrorIs(t, err, errno.BUSY, c.why)
	}
	_, err = Open(img, Options{})
	require.ErrorIs(t, err, errno.BUSY)
	_, err = Open(img, Options{ReadOnly: true})
	require.ErrorIs(t, err, errno.BUSY)
	require.NoError(t, first.Close())
	_, err = open(false, mib, 2*mib)
	require.NoError(t, err, "after its writer closed")
}

// Who has the whole keeps everybody out of any part.
func TestLockWhole(t *testing.T) {
	img := filepath.Join(t.TempDir(), "i")
	require.NoError(t, os.WriteFile(img, make([]byte, 1<<20), 0o600))
	d, err := Open(img, Options{Share: true})
	require.NoError(t, err)
	require.NoError(t, d.LockRange(0, d.Size()))
	_, err = Open(img, Options{Share: true})
	require.ErrorIs(t, err, errno.BUSY)
	require.NoError(t, d.Close())
	d, err = Open(img, Options{ReadOnly: true})
	require.NoError(t, err)
	w, err := Open(img, Options{Share: true})
	require.NoError(t, err)
	require.ErrorIs(t, w.LockRange(4096, 4096), errno.BUSY)
	require.NoError(t, w.Close())
	require.NoError(t, d.Close())
}
