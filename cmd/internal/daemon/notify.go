//go:build linux

package daemon

import (
	"net"
	"os"
	"strings"
)

// Notify tells systemd about the service: "READY=1", "STATUS=…", "STOPPING=1". Without a $NOTIFY_SOCKET it does nothing.
// Source: sd_notify(3).
func Notify(lines ...string) error {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	if strings.HasPrefix(path, "@") {
		path = "\x00" + path[1:]
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.Write([]byte(strings.Join(lines, "\n") + "\n"))
	return err
}
