//go:build linux

package control

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func serve(t *testing.T, h map[string]Handler) (string, *Server) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s.sock")
	s, err := Listen(path, h)
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return path, s
}

func dial(t *testing.T, path string) *Client {
	t.Helper()
	c, err := Dial(path)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

func TestCall(t *testing.T) {
	path, _ := serve(t, map[string]Handler{
		"add": func(_ context.Context, args json.RawMessage) (any, error) {
			var n []int
			err := json.Unmarshal(args, &n)
			return n[0] + n[1], err
		},
		"fail": func(context.Context, json.RawMessage) (any, error) { return nil, errors.New("it is frozen") },
	})
	fi, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), fi.Mode().Perm())
	c := dial(t, path)
	for i := range 3 {
		var sum int
		require.NoError(t, c.Call("add", []int{i, 40}, &sum), "several calls on one connection")
		require.Equal(t, 40+i, sum)
	}
	require.EqualError(t, c.Call("fail", nil, nil), "it is frozen")
	require.EqualError(t, c.Call("dance", nil, nil), `unknown command "dance"`)
}

func TestASecondServerIsRefused(t *testing.T) {
	path, s := serve(t, nil)
	_, err := Listen(path, nil)
	require.ErrorIs(t, err, syscall.EADDRINUSE)
	s.Close()
	_, err = Dial(path)
	require.ErrorIs(t, err, ErrGone)

	require.NoError(t, os.WriteFile(path, nil, 0o600), "what a killed server leaves")
	s2, err := Listen(path, nil)
	require.NoError(t, err)
	s2.Close()
}

func TestHangingUpEndsACommand(t *testing.T) {
	ended := make(chan struct{})
	path, _ := serve(t, map[string]Handler{"wait": func(ctx context.Context, _ json.RawMessage) (any, error) {
		<-ctx.Done()
		close(ended)
		return nil, ctx.Err()
	}})
	c := dial(t, path)
	go func() { _ = c.Call("wait", nil, nil) }()
	time.Sleep(20 * time.Millisecond)
	c.Close()
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		t.Fatal("the command goes on after its caller left")
	}
}

func TestShutdownAnswersFirst(t *testing.T) {
	release := make(chan struct{})
	path, s := serve(t, map[string]Handler{"wait": func(ctx context.Context, _ json.RawMessage) (any, error) {
		select {
		case <-release:
			return "closed", nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}})
	c := dial(t, path)
	got := make(chan error, 1)
	var said string
	go func() { got <- c.Call("wait", nil, &said) }()
	time.Sleep(20 * time.Millisecond)
	close(release)
	require.NoError(t, <-got)
	require.Equal(t, "closed", said)
	c.Close()
	s.Shutdown(5 * time.Second)

	path2, s2 := serve(t, map[string]Handler{"wait": func(ctx context.Context, _ json.RawMessage) (any, error) { <-ctx.Done(); return nil, ctx.Err() }})
	c2 := dial(t, path2)
	go func() { got <- c2.Call("wait", nil, nil) }()
	time.Sleep(20 * time.Millisecond)
	s2.Shutdown(10 * time.Millisecond)
	require.Error(t, <-got, "a caller is not left hanging")
}
