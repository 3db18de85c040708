package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync/atomic"

	"github.com/iomapfs/iomapfs/cmd/internal/term"
	"github.com/iomapfs/iomapfs/fs/all"
	"github.com/spf13/cobra"
)

// checkFailed is the exit status of a check that could not be made, as fsck(8) has it.
const checkFailed = 8

func (a *app) checkCmd() *cobra.Command {
	var asJSON bool
	var most int
	c := &cobra.Command{
		Use:   "check IMAGE",
		Short: "Verify a filesystem; changes nothing",
		Long:  "check reads all metadata of a filesystem and tells what is wrong. Exit status: 0 clean, 1 problems found, 8 could not check.",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			r, err := a.check(ctx, args[0], most)
			if err != nil {
				return &exitError{checkFailed, err}
			}
			if asJSON {
				err = printJSON(a.stdout, r)
			} else {
				err = a.printChecked(args[0], r)
			}
			if err == nil && len(r.Problems) > 0 {
				err = &exitError{1, nil}
			}
			return err
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	c.Flags().IntVar(&most, "max", 100, "stop after so many problems")
	return a.imageFlags(c)
}

func (a *app) check(ctx context.Context, spec string, most int) (r *all.Checked, err error) {
	dev, err := openDevice(ctx, spec, access{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, dev.Close()) }()
	k, err := all.Which(dev, a.fstype)
	if err != nil {
		return nil, err
	}
	var done atomic.Uint64
	p := term.StartProgress(a.stderr, func() string {
		return fmt.Sprintf("checking %s: %.0f%%", term.Printable(spec), 100*math.Float64frombits(done.Load()))
	})
	defer p.Stop()
	return k.Check(ctx, dev, most, func(d float64) { done.Store(math.Float64bits(d)) })
}

func (a *app) printChecked(spec string, r *all.Checked) error {
	for _, p := range r.Problems {
		fmt.Fprintf(a.stdout, "%s: %s [%s]\n", term.Printable(p.Where), term.Printable(p.What), p.Code)
	}
	state := "clean"
	if n := len(r.Problems); n > 0 {
		state = count(n, "problem") + " (e2fsck repairs; work on a copy)"
		if r.More {
			state = fmt.Sprintf("%s and more (--max lists more; e2fsck repairs; work on a copy)", count(n, "problem"))
		}
	} else if r.Dirty {
		state = "no problem, though it was not unmounted cleanly"
	}
	_, err := fmt.Fprintf(a.stdout, "%s: %s, %s, %s\n", spec, state, count(int(r.Files), "inode"), dirs(int(r.Directories)))
	return err
}

func dirs(n int) string {
	if n == 1 {
		return "1 directory"
	}
	return fmt.Sprintf("%d directories", n)
}
