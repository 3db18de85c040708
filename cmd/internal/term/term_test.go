package term

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0", 1023: "1023", 1024: "1.0K", 1536: "1.5K", 10 << 10: "10K", 1<<20 - 1: "1.0M",
		64 << 20: "64M", 5 << 40: "5.0T", -2048: "-2.0K",
	} {
		require.Equal(t, want, Size(n), n)
	}
}

func TestMode(t *testing.T) {
	for m, want := range map[uint32]string{
		0o100644: "-rw-r--r--", 0o040755: "drwxr-xr-x", 0o104755: "-rwsr-xr-x", 0o104644: "-rwSr--r--",
		0o041777: "drwxrwxrwt", 0o102745: "-rwxr-Sr-x", 0o120777: "lrwxrwxrwx", 0o020600: "crw-------", 0: "?---------",
	} {
		require.Equal(t, want, Mode(m))
	}
}

func TestPrintable(t *testing.T) {
	require.Equal(t, "plain name äöü", Printable("plain name äöü"))
	require.Equal(t, `a\x1b[31mb`, Printable("a\x1b[31mb"))
	require.Equal(t, `x\xff`, Printable("x\xff"))
	require.Equal(t, `two\nlines`, Printable("two\nlines"))
}

func TestTableAndProgressInAPipe(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, Table(&b, []string{"A", "B"}, [][]string{{"xxxx", "1"}, {"y", "2"}}))
	require.Equal(t, "A     B\nxxxx  1\ny     2\n", b.String())
	b.Reset()
	p := StartProgress(&b, func() string { return "busy" })
	p.Stop()
	require.Empty(t, b.String(), "silent in a pipe")
}
