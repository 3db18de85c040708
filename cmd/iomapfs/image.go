package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/iomapfs/iomapfs/cmd/internal/mountopt"
	"github.com/iomapfs/iomapfs/fs/all"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/spf13/cobra"
)

// openFS mounts an image inside this process.
func (a *app) openFS(ctx context.Context, spec string, m access) (*vfs.SuperBlock, error) {
	var cache int64 = 64 << 20 // enough for one command, and small beside what the host caches
	if a.cacheSize != "" {
		n, err := mountopt.ParseSize(a.cacheSize)
		if err != nil {
			return nil, usage("--cache: %w", err)
		}
		cache = n
	}
	dev, err := openDevice(ctx, spec, m)
	if err != nil {
		return nil, err
	}
	k, err := all.Which(dev, a.fstype)
	if err != nil {
		return nil, errors.Join(err, dev.Close())
	}
	sb, err := k.Type.Mount(ctx, dev, &vfs.MountOptions{
		ReadOnly: !m.write, NoAtime: true, CacheBytes: cache, Log: a.logger(slog.LevelWarn), Words: k.Lenient,
	})
	if err != nil {
		return nil, errors.Join(err, dev.Close())
	}
	return sb, nil
}

// withFS runs f on an image opened for reading, and closes it.
func (a *app) withFS(ctx context.Context, spec string, f func(ctx context.Context, sb *vfs.SuperBlock) error) (err error) {
	ctx, stop := interruptible(ctx)
	defer stop()
	sb, err := a.openFS(ctx, spec, access{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sb.Unmount(context.WithoutCancel(ctx))) }()
	return f(ctx, sb)
}

// walk resolves a path of the image, without following a link at the end unless follow.
func walk(ctx context.Context, sb *vfs.SuperBlock, path string, follow bool) (*vfs.Inode, error) {
	ip, err := sb.Walk(ctx, path, follow)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", sb.Dev.Name(), err)
	}
	return ip, nil
}

// interruptible gives a context that ends with the first SIGINT or SIGTERM; the second one kills as usual.
func interruptible(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// logger writes to stderr in one-line form: what the layers below think a person should know.
func (a *app) logger(level slog.Level) *slog.Logger {
	if a.quiet {
		level = slog.LevelError
	}
	return slog.New(&lineHandler{w: a.stderr, level: level})
}

// lineHandler is a slog.Handler that writes "iomapfs: message key=value".
type lineHandler struct {
	w     io.Writer
	level slog.Level
	attrs []slog.Attr
}

// Enabled reports whether records of the level are written.
func (h *lineHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level }

// Handle writes one record.
func (h *lineHandler) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	b.WriteString("iomapfs: ")
	b.WriteString(r.Message)
	add := func(at slog.Attr) bool { fmt.Fprintf(&b, " %s=%v", at.Key, at.Value); return true }
	for _, at := range h.attrs {
		add(at)
	}
	r.Attrs(add)
	_, err := fmt.Fprintln(h.w, oneLine(errors.New(b.String())))
	return err
}

// WithAttrs adds attributes to every record.
func (h *lineHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *h
	c.attrs = append(append([]slog.Attr(nil), h.attrs...), attrs...)
	return &c
}

// WithGroup is the handler itself: one line needs no groups.
func (h *lineHandler) WithGroup(string) slog.Handler { return h }

// imageFlags are what every command has that opens an image by itself.
func (a *app) imageFlags(c *cobra.Command) *cobra.Command {
	c.Flags().StringVarP(&a.fstype, "type", "t", "", "filesystem type (default: probed)")
	c.Flags().StringVar(&a.cacheSize, "cache", "", "page cache while the command runs (default 64M)")
	c.Flags().BoolVarP(&a.quiet, "quiet", "q", false, "no warnings")
	return c
}

// printJSON writes v, indented, with a newline.
func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
