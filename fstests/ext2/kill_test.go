package ext2

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/fs/ext2"
	"github.com/iomapfs/iomapfs/fstests/oracle"
	"github.com/iomapfs/iomapfs/fstests/target"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block/file"
	vfsfuse "github.com/iomapfs/iomapfs/vfs/fuse"
)

// TestMain makes this program a daemon when TestKill asks for one, and the children of TestFsx and TestPosix.
func TestMain(m *testing.M) {
	if img := os.Getenv("IOMAPFS_TEST_IMAGE"); img != "" {
		serve(img, os.Getenv("IOMAPFS_TEST_MOUNT"))
	}
	if path := os.Getenv("IOMAPFS_TEST_FSX"); path != "" {
		runFsx(path)
	}
	if os.Getenv("IOMAPFS_TEST_NOBODY") != "" {
		become(nobody)
	}
	os.Exit(m.Run())
}

func serve(img, dir string) {
	dev, err := file.Open(img, file.Options{})
	if err == nil {
		var sb *vfs.SuperBlock
		if sb, err = ext2.Type.Mount(context.Background(), dev, &vfs.MountOptions{Words: append(target.PathWords(), "commit=1")}); err == nil {
			var srv *vfsfuse.Server
			if srv, err = vfsfuse.Serve(sb, dir, vfsfuse.Options{}); err == nil {
				fmt.Println("serving")
				srv.Wait()
				err = sb.Unmount(context.Background())
			}
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// TestKill kills the daemon at random moments of work: e2fsck -p repairs the image by itself, and every file that was
// fsynced is whole.
func TestKill(t *testing.T) {
	oracle.NeedFuse(t)
	s := seed(t)
	t.Logf("seed %d", s)
	r := rand.New(rand.NewPCG(s, 3))
	for round := range 12 {
		img, dir := oracle.Mke2fs(t, "1G", "-N", "32768", "-b", []string{"1024", "4096"}[round%2]), t.TempDir()
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "IOMAPFS_TEST_IMAGE="+img, "IOMAPFS_TEST_MOUNT="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		t.Cleanup(func() { // a test that failed leaves no daemon and no mount
			_ = cmd.Process.Kill()
			_ = exec.Command("umount", "-l", dir).Run()
		})
		line := make([]byte, 8)
		_, err = out.Read(line)
		require.NoError(t, err)

		synced := map[string][]byte{}
		deadline := time.Now().Add(time.Duration(100+r.IntN(1500)) * time.Millisecond)
		for i := 0; time.Now().Before(deadline) && i < 8000; i++ {
			name := filepath.Join("d"+fmt.Sprint(i/20), "f"+fmt.Sprint(i))
			data := bytes.Repeat([]byte{byte(1 + i%255)}, 1+r.IntN(100000))
			require.NoError(t, os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755))
			f, err := os.Create(filepath.Join(dir, name))
			require.NoError(t, err)
			_, err = f.Write(data)
			require.NoError(t, err)
			if r.IntN(3) == 0 {
				require.NoError(t, f.Sync())
				synced[name] = data
			}
			f.Close()
			if r.IntN(4) == 0 && i > 3 {
				old := filepath.Join("d"+fmt.Sprint((i-3)/20), "f"+fmt.Sprint(i-3))
				delete(synced, old)
				_ = os.Remove(filepath.Join(dir, old)) // may be gone
			}
		}
		require.NoError(t, cmd.Process.Kill())
		_ = cmd.Wait() // killed
		msg, rc := oracle.Run(t, "umount", "-l", dir)
		require.Zero(t, rc, msg)
		oracle.E2fsckPreen(t, img)
		oracle.E2fsck(t, img)
		kdir, kum := oracle.KernelMount(t, img, "ro")
		for name, data := range synced {
			got, err := os.ReadFile(filepath.Join(kdir, name))
			require.NoError(t, err)
			require.True(t, bytes.Equal(data, got), "%s: %d bytes, want %d", name, len(got), len(data))
		}
		kum()
	}
}
