package ext2

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"maps"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/fs/ext2/disk/disktest"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// kernelMount mounts an image by the kernel's ext2 over a loop device and gives the directory; the test is skipped where
// that cannot be.
func kernelMount(t testing.TB, img string, opts string) (dir string, umount func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: mounting by the kernel needs root")
	}
	dir = t.TempDir()
	out, err := exec.Command("mount", "-t", "ext2", "-o", "loop,"+opts, img, dir).CombinedOutput()
	if err != nil {
		t.Skipf("SKIPPED: the kernel cannot mount here: %s", out)
	}
	mounted := true
	umount = func() {
		if mounted {
			mounted = false
			out, err := exec.Command("umount", dir).CombinedOutput()
			require.NoError(t, err, string(out))
		}
	}
	t.Cleanup(umount)
	return dir, umount
}

var aclValue = vfs.ACL{
	{Tag: vfs.ACLUserObj, Perm: 7, ID: ^uint32(0)},
	{Tag: vfs.ACLUser, Perm: 5, ID: 1000},
	{Tag: vfs.ACLGroupObj, Perm: 5, ID: ^uint32(0)},
	{Tag: vfs.ACLMask, Perm: 7, ID: ^uint32(0)},
	{Tag: vfs.ACLOther, Perm: 4, ID: ^uint32(0)},
}.Encode()

// Random changes of attributes against a model, on inodes with and without room in the body, some with attributes there
// already; the kernel reads what the model holds.
func TestXattrModel(t *testing.T) {
	for _, v := range []struct {
		bs, is string
		words  []string
	}{{"1024", "128", nil}, {"4096", "256", nil}, {"1024", "512", nil}, {"1024", "256", []string{"xattrshare"}}, {"4096", "1024", []string{"xattrshare"}}} {
		t.Run(v.bs+"-"+v.is+strings.Join(v.words, ""), func(t *testing.T) {
			seed := rand.Int63()
			if s := os.Getenv("SEED"); s != "" {
				_, err := fmt.Sscan(s, &seed)
				require.NoError(t, err)
			}
			t.Logf("SEED=%d", seed)
			rng := rand.New(rand.NewSource(seed))
			img := nameImage(t, "16M", "-b", v.bs, "-I", v.is)
			// Attributes that stand in the body: debugfs puts them there.
			script := "write /dev/null pre0\nwrite /dev/null pre1\nea_set pre0 user.a one\nea_set pre1 user.b two\nea_set pre1 trusted.c three\n"
			code, out := disktest.Run(t, script, "debugfs", "-w", "-f", "-", img)
			require.Zero(t, code, out)
			type file map[string][]byte
			model := map[string]file{"pre0": {"user.a": []byte("one")}, "pre1": {"user.b": []byte("two"), "trusted.c": []byte("three")}}
			for round := range 3 {
				sb := nameMount(t, img, v.words...)
				if round == 0 {
					for i := range 6 {
						n := fmt.Sprintf("f%d", i)
						ip, err := sb.Root.Create(tctx, vfs.Root, n, 0o644)
						require.NoError(t, err)
						ip.Put()
						model[n] = file{}
					}
				}
				names := slices.Sorted(maps.Keys(model))
				for range 600 {
					n := names[rng.Intn(len(names))]
					f := model[n]
					ip, err := sb.Walk(tctx, n, false)
					require.NoError(t, err)
					key := []string{"user.a", "user.b", "trusted.c", "security.label", "user." + strings.Repeat("l", 1+rng.Intn(3)*100), vfs.XattrACLAccess}[rng.Intn(6)]
					old, had := f[key]
					switch rng.Intn(5) {
					case 0:
						err := ip.RemoveXattr(tctx, vfs.Root, key)
						if had || key == vfs.XattrACLAccess {
							require.NoError(t, err)
						} else {
							require.ErrorIs(t, err, errno.NODATA)
						}
						delete(f, key)
					case 1:
						got, err := ip.GetXattr(tctx, key)
						if had {
							require.NoError(t, err)
							require.Equal(t, old, got)
						} else {
							require.ErrorIs(t, err, errno.NODATA)
						}
					case 2:
						list, err := ip.ListXattr(tctx, vfs.Root)
						require.NoError(t, err)
						require.ElementsMatch(t, slices.Collect(maps.Keys(f)), list)
					default:
						value := bytes.Repeat([]byte{byte(rng.Intn(3))}, rng.Intn([]int{8, 60, 300, 3000}[rng.Intn(4)]))
						if key == vfs.XattrACLAccess {
							value = aclValue
						}
						flags := rng.Intn(3)
						err := ip.SetXattr(tctx, vfs.Root, key, value, flags)
						switch {
						case key == vfs.XattrACLAccess && err == nil:
							f[key] = value
						case flags == vfs.XattrCreate && had && key != vfs.XattrACLAccess:
							require.ErrorIs(t, err, errno.EXIST)
						case flags == vfs.XattrReplace && !had && key != vfs.XattrACLAccess:
							require.ErrorIs(t, err, errno.NODATA)
						case err != nil:
							require.ErrorIs(t, err, errno.NOSPC)
						default:
							f[key] = value
						}
					}
					ip.Put()
				}
				nameDone(t, sb, img)
				dir, umount := kernelMount(t, img, "ro,user_xattr,acl")
				for n, f := range model {
					kernel := kernelXattrs(t, filepath.Join(dir, n))
					if v.is == "128" {
						// The kernel's ext2 sees the block only, which is all there is here.
						require.Equal(t, map[string][]byte(f), kernel, n)
					} else {
						for k, val := range kernel {
							require.Equal(t, f[k], val, "%s %s", n, k)
						}
					}
				}
				umount()
			}
			sb := nameMount(t, img, v.words...)
			for n := range model {
				require.NoError(t, sb.Root.Unlink(tctx, n))
			}
			nameDone(t, sb, img)
		})
	}
}

// kernelXattrs reads all attributes with getfattr.
func kernelXattrs(t testing.TB, path string) map[string][]byte {
	out, err := exec.Command("getfattr", "-d", "-m", "-", "-e", "hex", "--absolute-names", path).Output()
	require.NoError(t, err)
	m := map[string][]byte{}
	for _, line := range strings.Split(string(out), "\n") {
		if k, v, ok := strings.Cut(line, "="); ok {
			b, err := hex.DecodeString(strings.TrimPrefix(v, "0x"))
			require.NoError(t, err)
			m[k] = b
		} else if line != "" && line[0] != '#' {
			m[line] = []byte{}
		}
	}
	return m
}

// What the kernel's ext2 stored, shared blocks among it, is read, changed and freed; the counts come out right.
func TestXattrsOfTheKernel(t *testing.T) {
	img := nameImage(t, "16M", "-b", "1024", "-I", "128")
	dir, umount := kernelMount(t, img, "user_xattr,acl")
	for i := range 10 {
		p := filepath.Join(dir, fmt.Sprintf("s%d", i))
		require.NoError(t, os.WriteFile(p, nil, 0o644))
		out, err := exec.Command("setfattr", "-n", "user.same", "-v", "shared value", p).CombinedOutput()
		require.NoError(t, err, string(out))
	}
	require.NoError(t, os.Mkdir(filepath.Join(dir, "d"), 0o755))
	out, err := exec.Command("setfacl", "-d", "-m", "u:1000:rwx,g:100:rx", filepath.Join(dir, "d")).CombinedOutput()
	require.NoError(t, err, string(out))
	umount()

	sb := nameMount(t, img)
	at := func(p string) *vfs.Inode {
		ip, err := sb.Walk(tctx, p, false)
		require.NoError(t, err)
		return ip
	}
	s0, s1 := at("s0"), at("s1")
	require.Equal(t, inodeOf(s0).fileACL.Load(), inodeOf(s1).fileACL.Load(), "the kernel shares equal blocks")
	for i := range 10 {
		ip := at(fmt.Sprintf("s%d", i))
		v, err := ip.GetXattr(tctx, "user.same")
		require.NoError(t, err)
		require.Equal(t, "shared value", string(v))
		ip.Put()
	}
	require.NoError(t, s0.SetXattr(tctx, vfs.Root, "user.same", []byte("own value"), 0))
	require.NotEqual(t, inodeOf(s0).fileACL.Load(), inodeOf(s1).fileACL.Load())
	require.NoError(t, s1.RemoveXattr(tctx, vfs.Root, "user.same"))
	v, err := s0.GetXattr(tctx, "user.same")
	require.NoError(t, err)
	require.Equal(t, "own value", string(v))
	s0.Put()
	s1.Put()
	// A file that goes leaves the block at once, and keeps its attributes while it is open.
	s2 := at("s2")
	require.NoError(t, sb.Root.Unlink(tctx, "s2"))
	require.Zero(t, inodeOf(s2).fileACL.Load())
	v, err = s2.GetXattr(tctx, "user.same")
	require.NoError(t, err)
	require.Equal(t, "shared value", string(v))
	require.NoError(t, s2.SetXattr(tctx, vfs.Root, "user.more", []byte("m"), 0))
	list, err := s2.ListXattr(tctx, vfs.Root)
	require.NoError(t, err)
	require.Equal(t, []string{"user.more", "user.same"}, list)
	s2.Put()
	// Default ACLs pass on: to files as access ACL, to directories as both.
	d := at("d")
	f, err := d.Create(tctx, &vfs.Cred{Umask: 0o077}, "f", 0o666)
	require.NoError(t, err)
	require.Equal(t, uint32(0o664), f.Mode()&0o777)
	f.Put()
	sub, err := d.Mkdir(tctx, vfs.Root, "sub", 0o777)
	require.NoError(t, err)
	want, err := d.GetXattr(tctx, vfs.XattrACLDefault)
	require.NoError(t, err)
	got, err := sub.GetXattr(tctx, vfs.XattrACLDefault)
	require.NoError(t, err)
	require.Equal(t, want, got)
	sub.Put()
	d.Put()
	nameDone(t, sb, img)

	dir, _ = kernelMount(t, img, "user_xattr,acl")
	out, err = exec.Command("getfacl", "-cn", "--absolute-names", filepath.Join(dir, "d", "f")).CombinedOutput()
	require.NoError(t, err, string(out))
	require.Contains(t, string(out), "user:1000:rwx")
	require.Contains(t, string(out), "mask::rw-")
	require.Equal(t, map[string][]byte{"user.same": []byte("own value")}, kernelXattrs(t, filepath.Join(dir, "s0")))
	require.Empty(t, kernelXattrs(t, filepath.Join(dir, "s1")))
	require.Equal(t, map[string][]byte{"user.same": []byte("shared value")}, kernelXattrs(t, filepath.Join(dir, "s3")))
}

// The question that is asked before every write is answered without reading.
func BenchmarkNoXattr(b *testing.B) {
	img := nameImage(b, "8M")
	sb := nameMount(b, img)
	ip, err := sb.Root.Create(tctx, vfs.Root, "f", 0o644)
	require.NoError(b, err)
	require.NoError(b, ip.SetXattr(tctx, vfs.Root, "user.x", []byte("y"), 0))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ip.GetXattr(tctx, "security.capability"); err == nil {
			b.Fatal("found")
		}
	}
	ip.Put()
	nameDone(b, sb, img)
}
