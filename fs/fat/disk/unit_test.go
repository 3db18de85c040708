package disk_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/fs/fat/codepage"
	"github.com/iomapfs/iomapfs/fs/fat/disk"
)

func short(t *testing.T, name string, cp disk.CodePage, o disk.ChooseOptions, taken ...string) (string, bool) {
	t.Helper()
	units, err := disk.Units(name)
	require.NoError(t, err)
	c, ok := disk.Choose(units, cp, o, func(s [11]byte) bool {
		for _, n := range taken {
			if n == string(s[:]) {
				return true
			}
		}
		return false
	})
	require.True(t, ok)
	return string(c.Short[:]), c.Long
}

func TestShortNames(t *testing.T) {
	cp, err := codepage.Find(437)
	require.NoError(t, err)
	for _, c := range []struct {
		name, short string
		long        bool
	}{
		{"README.TXT", "README  TXT", false},
		{"readme.txt", "README  TXT", true},
		{"Makefile", "MAKEFILE   ", true},
		{"longfilename.txt", "LONGFI~1TXT", true},
		{"a b.txt", "AB~1    TXT", true},
		{"x.tar.gz", "XTAR~1  GZ ", true},
		{".profile", "PROFIL~1   ", true},
		{"a+b", "A_B~1      ", true},
		{"ÄÖ", "\x8e\x99         ", false},
		{"日本", "__~1       ", true},
		{"😀", "_~1        ", true},
		{"name.html", "NAME~1  HTM", true},
		{"A.B", "A       B  ", false},
		{"A.B.", "A       B  ", false},
		{"...", "", false},
	} {
		if c.short == "" {
			_, err := disk.Units(c.name)
			require.ErrorIs(t, err, disk.ErrName)
			continue
		}
		s, long := short(t, c.name, cp, disk.ChooseOptions{})
		require.Equal(t, c.short, s, c.name)
		require.Equal(t, c.long, long, c.name)
	}
	s, _ := short(t, "longfilename.txt", cp, disk.ChooseOptions{}, "LONGFI~1TXT", "LONGFI~2TXT")
	require.Equal(t, "LONGFI~3TXT", s)
	var taken []string
	for i := 1; i <= 9; i++ {
		taken = append(taken, "LONGFI~"+string(rune('0'+i))+"TXT")
	}
	s, _ = short(t, "longfilename.txt", cp, disk.ChooseOptions{}, taken...)
	require.Equal(t, "LO", s[:2])
	require.Equal(t, "~1TXT", s[6:])
	s, long := short(t, "readme.TXT", cp, disk.ChooseOptions{KeepCase: true})
	require.Equal(t, "README  TXT", s)
	require.False(t, long)
	s, _ = short(t, "longfilename.txt", cp, disk.ChooseOptions{NoNumber: true})
	require.Equal(t, "LONGFILETXT", s)

	jp, err := codepage.Find(932)
	require.NoError(t, err)
	s, _ = short(t, "日本語日本語", jp, disk.ChooseOptions{})
	require.Equal(t, "\x93\xfa\x96\x7b\x8c\xea~1   ", s)
	require.Equal(t, "日本語~1", disk.Name(disk.ShortUnits([11]byte([]byte(s)), 0, jp)))
}

func TestNames(t *testing.T) {
	for _, s := range []string{"a", "日本語", "😀 x", strings.Repeat("é", 255), "\xed\xa0\x80", "a\xed\xb0\x80b"} {
		u, err := disk.Units(s)
		require.NoError(t, err, s)
		require.Equal(t, s, disk.Name(u))
	}
	for _, s := range []string{"", "a:b", "a\x01", "a/b", "\xff", "a?", "\xed\x20\x80"} {
		_, err := disk.Units(s)
		require.ErrorIs(t, err, disk.ErrName, "%q", s)
	}
	_, err := disk.Units(strings.Repeat("😀", 128))
	require.ErrorIs(t, err, disk.ErrNameLong)
	require.Equal(t, disk.Fold("STRASSE é Я.txt"), disk.Fold("strasse É я.TXT. "))
	require.NotEqual(t, disk.Fold("ı"), disk.Fold("I"))
	require.NotEqual(t, disk.Fold("ß"), disk.Fold("ss"))
	require.Equal(t, disk.Fold("ǆ"), disk.Fold("Ǆ"))
}

// Long names come back from slots, whatever their length; a wrong checksum, order or mark makes them parts without an entry.
func TestLongNames(t *testing.T) {
	for n := 1; n <= disk.MaxUnits; n++ {
		units := make([]uint16, n)
		for i := range units {
			units[i] = uint16(0x100 + i)
		}
		e := disk.Dirent{Name: [11]byte([]byte("ABC~1      "))}
		k := disk.LongSlots(n)
		p := make([]byte, (k+1)*disk.DirentSize)
		disk.EncodeLong(p, units, disk.Checksum(e.Name))
		e.EncodeTo(p[k*disk.DirentSize:], disk.FAT16)
		feed := func() *disk.Assembler {
			a := new(disk.Assembler)
			for i := range k + 1 {
				a.Feed(i, p[i*disk.DirentSize:(i+1)*disk.DirentSize], disk.FAT16)
			}
			return a
		}
		a := feed()
		require.Equal(t, units, a.Long())
		require.Zero(t, a.First)
		p[13]++
		require.Nil(t, feed().Long())
		require.Equal(t, k, feed().Broken)
		p[13]--
		p[0] &^= 0x40
		require.Nil(t, feed().Long())
	}
}

func TestStamps(t *testing.T) {
	at := time.Date(2024, 2, 29, 23, 59, 59, 870_000_000, time.UTC)
	sec, nsec := disk.StampOf(at.Unix(), uint32(at.Nanosecond())).Unix()
	require.Equal(t, at.Unix(), sec)
	require.EqualValues(t, 870_000_000, nsec)
	sec, _ = disk.StampOf(0, 0).Unix()
	require.EqualValues(t, disk.MinTime, sec)
	sec, _ = disk.StampOf(1<<40, 0).Unix()
	require.EqualValues(t, disk.MaxTime, sec)
	sec, _ = disk.Stamp{}.Unix()
	require.EqualValues(t, disk.MinTime, sec)
}

func TestState(t *testing.T) {
	for _, w := range []disk.Width{disk.FAT16, disk.FAT32} {
		v := disk.FATView{G: &disk.Geometry{Width: w, Clusters: 100}, B: make([]byte, 64)}
		zero, one := disk.Reserved(0xF8)
		v.Set(0, zero)
		v.Set(1, one)
		dirty, bad := v.State()
		require.False(t, dirty || bad)
		v.SetDirty(true)
		dirty, bad = v.State()
		require.True(t, dirty)
		require.False(t, bad)
		v.SetDirty(false)
		require.True(t, v.At(1).IsEnd())
		require.EqualValues(t, 0xF8, v.At(0)&0xFF)
	}
}

func TestLabel(t *testing.T) {
	cp, err := codepage.Find(437)
	require.NoError(t, err)
	l, ok := disk.EncodeLabel("My Stück", cp)
	require.True(t, ok)
	require.Equal(t, "MY ST\x9aCK   ", string(l[:]))
	require.Equal(t, "MY STÜCK", disk.DecodeBytes([]byte("MY ST\x9aCK"), cp))
	_, ok = disk.EncodeLabel("a:b", cp)
	require.False(t, ok)
	_, ok = disk.EncodeLabel("日", cp)
	require.False(t, ok)
}
