package mountopt

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestSplit(t *testing.T) {
	for _, c := range []struct {
		rule, in string
		want     []string
	}{
		{"commas separate", "ro,uid=1000,noatime", []string{"ro", "uid=1000", "noatime"}},
		{"empty words vanish", ",ro,,", []string{"ro"}},
		{"nothing is nothing", "", nil},
		{"quotes protect commas", `context="a:b,c",ro`, []string{"context=a:b,c", "ro"}},
		{"a backslash protects one letter", `fsname=a\,b\\,ro`, []string{`fsname=a,b\`, "ro"}},
		{"quotes may be escaped", `fsname=\"x\"`, []string{`fsname="x"`}},
		{"an empty quoted word stays", `""`, []string{""}},
	} {
		t.Run(c.rule, func(t *testing.T) {
			got, err := Split(c.in)
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}
	for _, bad := range []string{`a="b`, `a\`} {
		_, err := Split(bad)
		require.ErrorContains(t, err, "options")
	}
}

func TestJoinIsTheInverseOfSplit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.SliceOf(rapid.StringMatching(`[a-c,"\\= ]{1,6}`)).Draw(t, "words")
		got, err := Split(Join(words))
		require.NoError(t, err)
		require.Equal(t, append([]string(nil), words...), got)
	})
}

func FuzzParse(f *testing.F) {
	f.Add("ro,uid=1,cache=5M,umask=022")
	f.Add(`path=iomap,"`)
	f.Fuzz(func(t *testing.T, s string) {
		words, err := Split(s)
		if err != nil {
			return
		}
		again, err := Split(Join(words))
		require.NoError(t, err)
		require.Equal(t, words, again)
		if o, err := Parse(words); err == nil {
			_ = Unknown(o.Words, []string{"sb=N"})
		}
	})
}

func parse(t *testing.T, s string) (*Options, error) {
	t.Helper()
	words, err := Split(s)
	require.NoError(t, err)
	return Parse(words)
}

func TestParse(t *testing.T) {
	o, err := parse(t, "defaults,nofail,x-systemd.automount,_netdev,comment=hello,user,noauto,ro,nosuid,noatime,uid=1000,gid=root,"+
		"fmask=0111,dmask=22,cache_size=64M,direct-io,path=iomap,legacy=seek+bmap,entry_timeout=1.5,attr-timeout=2m,sb=32768,errors=remount-ro")
	require.NoError(t, err)
	require.True(t, o.ReadOnly)
	require.True(t, o.NoAtime)
	require.True(t, o.DirectIO)
	require.Equal(t, uint32(1000), *o.UID)
	require.Equal(t, uint32(0), *o.GID)
	require.Equal(t, uint32(0o111), *o.Fmask)
	require.Equal(t, uint32(0o22), *o.Dmask)
	require.Equal(t, int64(64<<20), o.Cache)
	require.Equal(t, []string{"path=iomap", "legacy=seek+bmap"}, o.Paths)
	require.Equal(t, 1500*time.Millisecond, *o.EntryTTL)
	require.Equal(t, 2*time.Minute, *o.AttrTTL)
	require.Equal(t, []string{"ro", "nosuid", "noatime"}, o.Kernel, "what mount(8) drops is not passed on")
	require.Equal(t, []string{"sb=32768", "errors=remount-ro"}, o.Words)

	o, err = parse(t, "ro,rw")
	require.NoError(t, err)
	require.False(t, o.ReadOnly, "the last of ro and rw counts")
}

func TestParseRefuses(t *testing.T) {
	for in, want := range map[string]string{
		"uid=nosuchperson": `option uid=nosuchperson: "nosuchperson" is neither a number nor a known name`,
		"uid":              "option uid needs a value",
		"uid=4294967295":   "neither a number",
		"umask=9":          "octal mask",
		"umask=7777":       "octal mask",
		"ro=1":             "option ro takes no value",
		"cache=12":         "at least 1M",
		"cache=x":          "is not a size",
		"cache=9999999P":   "is not a size",
		"transport=smoke":  "auto, fuse and uring",
		"allow_root":       "allow_other",
		"auto_unmount":     "looks like deleted files",
		"max_write=1":      "from 4K to 1M",
		"attr_timeout=-1":  "is not a time",
	} {
		_, err := parse(t, in)
		require.ErrorContains(t, err, want, in)
	}
}

func TestUnknownNamesTheNearestWord(t *testing.T) {
	known := []string{"sb=N", "errors=continue|remount-ro|panic", "minixdf", "bsddf", "user_xattr"}
	require.NoError(t, Unknown([]string{"sb=1", "user-xattr"}, known))
	for in, want := range map[string]string{
		"minxdf":         "minixdf",
		"erors=continue": "errors",
		"allow_othr":     "allow-other",
		"preserv":        "preserve",
		"user_xatrt":     "user_xattr",
	} {
		require.ErrorContains(t, Unknown([]string{in}, known), "(did you mean "+want+"?)", in)
	}
	err := Unknown([]string{"zzzzzzzzqqqq"}, known)
	require.ErrorContains(t, err, `unknown mount option "zzzzzzzzqqqq"`)
	require.NotContains(t, err.Error(), "did you mean")
}

func TestTableIsWellFormed(t *testing.T) {
	seen := map[string]bool{}
	for _, d := range table {
		require.Equal(t, canonical(d.key), d.key)
		require.False(t, seen[d.key], "%s stands twice", d.key)
		require.False(t, dropped(d.key), "%s is dropped before the table is asked", d.key)
		seen[d.key] = true
	}
	require.True(t, strings.HasPrefix(Help()[0][0], "ro"))
}
