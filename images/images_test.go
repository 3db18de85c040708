package images

import (
	"encoding/binary"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/block/file"
	"github.com/iomapfs/iomapfs/vfs/block/mem"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// probe knows a filesystem that begins with FS and its label.
func probe(dev block.Device) (vfs.Probe, bool) {
	b := make([]byte, 512)
	if block.ReadAt(dev, b, 0) != nil || string(b[:2]) != "FS" {
		return vfs.Probe{}, false
	}
	return vfs.Probe{Type: "testfs", Label: strings.TrimRight(string(b[2:10]), "\x00"), UUID: "abc" + string(b[2:3])}, true
}

// disk makes an image with a table from sfdisk's script and a filesystem at each of the offsets (MiB).
func disk(t *testing.T, script string, at map[int64]string) string {
	t.Helper()
	if _, err := exec.LookPath("sfdisk"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("sfdisk is not installed: run make deps")
		}
		t.Skip("NOT TESTED: sfdisk is not installed")
	}
	img := filepath.Join(t.TempDir(), "disk.img")
	require.NoError(t, os.WriteFile(img, nil, 0o600))
	require.NoError(t, os.Truncate(img, 64<<20))
	cmd := exec.Command("sfdisk", "-q", img)
	cmd.Stdin = strings.NewReader(script)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	f, err := os.OpenFile(img, os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	for mib, label := range at {
		_, err := f.WriteAt([]byte("FS"+label), mib<<20)
		require.NoError(t, err)
	}
	return img
}

func TestTables(t *testing.T) {
	for name, script := range map[string]string{
		"gpt": "label: gpt\nstart=1MiB,size=8MiB,name=one\nstart=16MiB,size=8MiB,name=two\n",
		"mbr": "label: dos\nstart=1MiB,size=8MiB,type=83\nstart=16MiB,size=8MiB,type=83\n",
	} {
		t.Run(name, func(t *testing.T) {
			img := disk(t, script, map[int64]string{1: "root", 16: "home"})
			d, p, err := Open(img+"@2", file.Options{ReadOnly: true}, probe)
			require.NoError(t, err)
			require.Equal(t, int64(8<<20), d.Size())
			require.Equal(t, 2, p.Number)
			what, ok := probe(d)
			require.True(t, ok)
			require.Equal(t, "home", what.Label)
			require.NoError(t, d.Close())

			d, p, err = Open(img+"@LABEL=root", file.Options{ReadOnly: true}, probe)
			require.NoError(t, err)
			require.Equal(t, 1, p.Number)
			require.NoError(t, d.Close())

			_, _, err = Open(img, file.Options{ReadOnly: true}, probe)
			require.ErrorIs(t, err, ErrAmbiguous)
			_, _, err = Open(img+"@3", file.Options{ReadOnly: true}, probe)
			require.ErrorIs(t, err, ErrNothing)

			one := disk(t, script, map[int64]string{16: "only"})
			d, p, err = Open(one, file.Options{ReadOnly: true}, probe)
			require.NoError(t, err)
			require.Equal(t, 2, p.Number)
			require.NoError(t, d.Close())

			d, _, err = Open(img+"@offset=16M,size=1M", file.Options{ReadOnly: true}, probe)
			require.NoError(t, err)
			require.Equal(t, int64(1<<20), d.Size())
			require.NoError(t, d.Close())
		})
	}
}

func TestLogicalPartitions(t *testing.T) {
	img := disk(t, "label: dos\nlabel-id: 0xcafe0001\nstart=1MiB,size=1MiB,type=82\nstart=4MiB,size=40MiB,type=5\nstart=5MiB,size=4MiB,type=83\n"+
		"start=12MiB,size=2MiB,type=83\nstart=20MiB,size=8MiB,type=83\n", map[int64]string{12: "deep"})
	dev, err := file.Open(img, file.Options{ReadOnly: true})
	require.NoError(t, err)
	tab, err := ReadTable(dev)
	require.NoError(t, err)
	require.NoError(t, dev.Close())
	require.Equal(t, "dos", tab.Kind)
	require.Equal(t, "cafe0001", tab.UUID)
	var got [][3]int64
	for _, p := range tab.Partitions {
		got = append(got, [3]int64{int64(p.Number), p.Start >> 20, p.Size >> 20})
	}
	require.Equal(t, [][3]int64{{1, 1, 1}, {2, 4, 40}, {5, 5, 4}, {6, 12, 2}, {7, 20, 8}}, got)
	require.Equal(t, "cafe0001-06", tab.Partitions[3].UUID)
	d, p, err := Open(img, file.Options{ReadOnly: true}, probe)
	require.NoError(t, err)
	require.Equal(t, 6, p.Number, "the only filesystem")
	require.NoError(t, d.Close())

	// A ring of descriptions ends.
	f, err := os.OpenFile(img, os.O_RDWR, 0)
	require.NoError(t, err)
	le := binary.LittleEndian
	b := make([]byte, 512)
	_, err = f.ReadAt(b, 4<<20)
	require.NoError(t, err)
	b[462+4] = 5
	le.PutUint32(b[462+8:], 11<<11) // where the third description lies
	_, err = f.WriteAt(b, (4+11)<<20)
	require.NoError(t, err)
	_, err = f.WriteAt(b, 4<<20)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	dev, err = file.Open(img, file.Options{ReadOnly: true})
	require.NoError(t, err)
	defer dev.Close()
	tab, err = ReadTable(dev)
	require.NoError(t, err)
	require.LessOrEqual(t, len(tab.Partitions), 4+maxLogical)
}

// FuzzTable reads partition tables from any bytes: no panic, no entry outside the device.
func FuzzTable(f *testing.F) {
	f.Add([]byte("EFI PART"))
	header := make([]byte, 72+92) // from byte 440 on: to the header in the second sector, and all of it
	copy(header[72:], "EFI PART\x00\x00\x01\x00\x5c\x00\x00\x00")
	for _, size := range []uint64{128 | 4<<32, 0, 1 << 63, 0xffffffff_ffffffff, 0x10000000_00000010} {
		binary.LittleEndian.PutUint64(header[72+80:], size>>32|size<<32)
		binary.LittleEndian.PutUint64(header[72+72:], 2)
		f.Add(append([]byte(nil), header...))
	}
	f.Add([]byte("\x01\x02\x03\x04\x00\x00\x80\x00\x00\x00\x05\x00\x00\x00\x01\x00\x00\x00\x40\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		buf := make([]byte, 64<<10)
		copy(buf[440:], b)
		buf[510], buf[511] = 0x55, 0xaa
		// A header with a right checksum, or the fuzzer would never come past it.
		if h := buf[512 : 512+92]; string(h[:8]) == "EFI PART" {
			clear(h[16:20])
			binary.LittleEndian.PutUint32(h[16:], crc32.ChecksumIEEE(h))
		}
		dev, err := mem.New(int64(len(buf)), mem.Options{})
		require.NoError(t, err)
		defer dev.Close()
		require.NoError(t, block.WriteAt(dev, buf, 0, 0))
		tab, err := ReadTable(dev)
		require.NoError(t, err)
		for _, p := range tab.Partitions {
			require.LessOrEqual(t, p.Start+p.Size, dev.Size())
		}
	})
}

func TestParse(t *testing.T) {
	for spec, ok := range map[string]bool{
		"a": true, "a@1": true, "a@UUID=x": true, "a@offset=1k": true, "a@0": false, "a@-1": false,
		"a@size=9999999999T": false, "a@what=1": false, "a@": false,
	} {
		_, err := Parse(spec)
		require.Equal(t, ok, err == nil, spec)
	}
}

// Two partitions of one image are written at once; neither twice, and not the whole beside them.
func TestWritersOfPartitions(t *testing.T) {
	img := filepath.Join(t.TempDir(), "d")
	require.NoError(t, os.WriteFile(img, make([]byte, 8<<20), 0o600))
	anything := func(block.Device) (vfs.Probe, bool) { return vfs.Probe{}, true }
	open := func(spec string) (block.Device, error) {
		d, _, err := Open(img+spec, file.Options{}, anything)
		return d, err
	}
	first, err := open("@offset=1M,size=2M")
	require.NoError(t, err)
	second, err := open("@offset=3M,size=2M")
	require.NoError(t, err)
	for _, spec := range []string{"@offset=1M,size=2M", "@offset=4M,size=1M", ""} {
		_, err = open(spec)
		require.ErrorIs(t, err, errno.BUSY, spec)
	}
	require.NoError(t, first.Close())
	require.NoError(t, second.Close())
	whole, err := open("")
	require.NoError(t, err)
	_, err = open("@offset=1M,size=2M")
	require.ErrorIs(t, err, errno.BUSY)
	require.NoError(t, whole.Close())
}
