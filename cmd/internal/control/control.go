//go:build linux

package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// maxLine bounds a request and an answer, in bytes.
const maxLine = 1 << 20

type request struct {
	Cmd  string          `json:"cmd"`
	Args json.RawMessage `json:"args,omitempty"`
}

type answer struct {
	Data  json.RawMessage `json:"data,omitempty"`
	Error string          `json:"error,omitempty"`
}

// Handler answers one command. ctx ends when the caller hangs up or the server closes.
type Handler func(ctx context.Context, args json.RawMessage) (any, error)

// Server listens on a socket.
type Server struct {
	l        *net.UnixListener
	path     string
	handlers map[string]Handler
	wg       sync.WaitGroup
	ctx      context.Context // ends with Close; a server's life is no request's
	stop     context.CancelFunc
}

// Listen serves the handlers on the socket at path. The socket of a process that is gone is replaced; one that answers
// is errno EADDRINUSE.
func Listen(path string, handlers map[string]Handler) (*Server, error) {
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		return nil, fmt.Errorf("%s: another iomapfs answers there: %w", path, syscall.EADDRINUSE)
	}
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil { // its directory is 0700, so nobody was there before
		l.Close()
		return nil, err
	}
	s := &Server{l: l, path: path, handlers: handlers}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.wg.Add(1)
	go s.accept()
	return s, nil
}

func (s *Server) accept() {
	defer s.wg.Done()
	for {
		c, err := s.l.AcceptUnix()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			time.Sleep(10 * time.Millisecond) // out of descriptors: others will close theirs
			continue
		}
		s.wg.Add(1)
		go s.serve(c)
	}
}

// serve answers the requests of one connection. A second goroutine reads, so that hanging up ends a command that waits.
func (s *Server) serve(c *net.UnixConn) {
	defer s.wg.Done()
	defer c.Close()
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	lines := make(chan []byte)
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		defer cancel()
		defer close(lines)
		sc := bufio.NewScanner(c)
		sc.Buffer(nil, maxLine)
		for sc.Scan() {
			select {
			case lines <- append([]byte(nil), sc.Bytes()...):
			case <-ctx.Done():
				return
			}
		}
	}()
	for line := range lines {
		b, err := json.Marshal(s.do(ctx, line))
		if err != nil {
			return
		}
		if _, err := c.Write(append(b, '\n')); err != nil {
			return
		}
	}
}

func (s *Server) do(ctx context.Context, line []byte) answer {
	var r request
	if err := json.Unmarshal(line, &r); err != nil {
		return answer{Error: "request: " + err.Error()}
	}
	h, ok := s.handlers[r.Cmd]
	if !ok {
		return answer{Error: fmt.Sprintf("unknown command %q", r.Cmd)}
	}
	v, err := h(ctx, r.Args)
	if err != nil {
		return answer{Error: err.Error()}
	}
	b, err := json.Marshal(v)
	if err != nil {
		return answer{Error: err.Error()}
	}
	return answer{Data: b}
}

// Close takes the socket away, ends waiting commands and waits for all of them.
func (s *Server) Close() {
	s.l.Close() // removes the file
	s.stop()
	s.wg.Wait()
}

// Shutdown closes like Close, but gives commands that are being answered up to d first. No new connection is taken.
func (s *Server) Shutdown(d time.Duration) {
	s.l.Close()
	t := time.AfterFunc(d, s.stop)
	s.wg.Wait()
	t.Stop()
	s.stop()
}

// Client is one connection.
type Client struct {
	c  *net.UnixConn
	sc *bufio.Scanner
}

// ErrGone says that nobody answers on the socket any more.
var ErrGone = errors.New("the server is gone")

// Dial connects. ErrGone when the socket is left over from a process that ended.
func Dial(path string) (*Client, error) {
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("%s: %w", path, ErrGone)
		}
		return nil, err
	}
	sc := bufio.NewScanner(c)
	sc.Buffer(nil, maxLine)
	return &Client{c, sc}, nil
}

// Call sends a command and stores its answer in out, unless that is nil. args may be nil. A server that ends before it
// answers is ErrGone.
func (c *Client) Call(cmd string, args, out any) error {
	r := request{Cmd: cmd}
	if args != nil {
		b, err := json.Marshal(args)
		if err != nil {
			return err
		}
		r.Args = b
	}
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if _, err := c.c.Write(append(b, '\n')); err != nil {
		return ErrGone
	}
	if !c.sc.Scan() {
		if err := c.sc.Err(); err != nil && !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return err
		}
		return ErrGone
	}
	var a answer
	if err := json.Unmarshal(c.sc.Bytes(), &a); err != nil {
		return fmt.Errorf("answer to %s: %w", cmd, err)
	}
	if a.Error != "" {
		return errors.New(a.Error)
	}
	if out == nil || a.Data == nil {
		return nil
	}
	return json.Unmarshal(a.Data, out)
}

// Timeout bounds all later calls together.
func (c *Client) Timeout(d time.Duration) error { return c.c.SetDeadline(time.Now().Add(d)) }

// Close hangs up.
func (c *Client) Close() { c.c.Close() }
