//go:build linux

package hostmnt

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Holders names the processes that use something in the mount: "bash[312] is in /mnt/src", at most limit of them.
// It reads links of /proc only, so it never waits for the mount's server. Processes of other users show when root asks.
func Holders(point string, limit int) []string {
	var out []string
	procs, _ := os.ReadDir("/proc") // without /proc nobody can be named, which the caller's message survives
	for _, p := range procs {
		pid, err := strconv.Atoi(p.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		if how := holds(pid, point); how != "" {
			if len(out) == limit {
				return append(out, "others")
			}
			out = append(out, fmt.Sprintf("%s[%d] %s", command(pid), pid, how))
		}
	}
	return out
}

func command(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return "process"
	}
	return strings.TrimSpace(string(b))
}

// holds tells how a process uses the mount, or "".
func holds(pid int, point string) string {
	dir := fmt.Sprintf("/proc/%d", pid)
	inside := func(link string) (string, bool) {
		t, err := os.Readlink(filepath.Join(dir, link))
		return t, err == nil && (t == point || strings.HasPrefix(t, point+"/"))
	}
	if t, ok := inside("cwd"); ok {
		return "is in " + t
	}
	if t, ok := inside("root"); ok {
		return "has its root at " + t
	}
	if t, ok := inside("exe"); ok {
		return "runs " + t
	}
	fds, err := os.ReadDir(dir + "/fd")
	if err != nil {
		return ""
	}
	for _, fd := range fds {
		if t, ok := inside("fd/" + fd.Name()); ok {
			return "has " + t + " open"
		}
	}
	maps, err := os.ReadFile(dir + "/maps")
	if err != nil {
		return ""
	}
	for _, line := range strings.Split(string(maps), "\n") {
		if i := strings.IndexByte(line, '/'); i >= 0 && (line[i:] == point || strings.HasPrefix(line[i:], point+"/")) {
			return "has " + line[i:] + " mapped"
		}
	}
	return ""
}
