package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/iomapfs/iomapfs/fs/all"
	"github.com/iomapfs/iomapfs/porting/minix"
	"github.com/iomapfs/iomapfs/porting/runner"
	"github.com/iomapfs/iomapfs/vfs"
)

func (a *app) portCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "port",
		Short: "The course: port a filesystem to iomap, step by step",
		Long: `port leads through the course. You take a small filesystem, Minix, that is given complete on buffer heads, and port it to
iomap operation by operation. It works on the sources: run it inside a checkout of the repository. Your files are in porting/mine.

  iomapfs port next         read the next step's task, and get its files
  iomapfs port check        run the step's checks on your files
  iomapfs port hint         the next hint
  iomapfs port solution     what the solution changes`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(a.portStatusCmd(), a.portNextCmd(), a.portCheckCmd(), a.portHintCmd(), a.portSolutionCmd(), a.portResetCmd())
	return c
}

// stepArg gives the step that an argument names, or the one that the reader is at.
func stepArg(c *runner.Course, args []string) (int, error) {
	n, err := c.At()
	if len(args) > 0 {
		if n, err = strconv.Atoi(args[0]); err != nil {
			return 0, usage("%q is not the number of a step", args[0])
		}
	}
	if err != nil {
		return 0, err
	}
	if n == 0 && len(args) == 0 {
		return 0, errors.New("you have not begun: iomapfs port next")
	}
	_, err = c.Step(n)
	return n, err
}

func (a *app) portStatusCmd() *cobra.Command {
	all := false
	c := &cobra.Command{
		Use: "status", Short: "Where you are; --all: where every filesystem of the repository is", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if all {
				return a.portMatrix()
			}
			c, err := runner.Open(".")
			if err != nil {
				return err
			}
			at, err := c.At()
			if err != nil {
				return err
			}
			for _, s := range c.Steps {
				mark := " "
				switch {
				case s.N < at:
					mark = "✓"
				case s.N == at:
					mark = "→"
				}
				fmt.Fprintf(a.stdout, "%s %2d  %s\n", mark, s.N, s.Title)
			}
			return nil
		},
	}
	c.Flags().BoolVar(&all, "all", false, "a table of all filesystems and operations")
	return c
}

func (a *app) portNextCmd() *cobra.Command {
	return &cobra.Command{
		Use: "next", Short: "Go to the next step: its text, and its files in porting/mine", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := runner.Open(".")
			if err != nil {
				return err
			}
			if at, err := c.At(); err != nil {
				return err
			} else if at > 0 {
				if ok, err := a.portCheck(cmd.Context(), c, at, true); err != nil || !ok {
					if err == nil {
						err = fmt.Errorf("step %d is not done: iomapfs port check, or iomapfs port reset %d to go on regardless", at, at+1)
					}
					return err
				}
			}
			s, files, err := c.Next()
			if err != nil {
				return err
			}
			text, err := os.ReadFile(filepath.Join(s.Dir, "README.md"))
			if err != nil {
				return err
			}
			fmt.Fprintf(a.stdout, "%s\n", text)
			for _, f := range files {
				fmt.Fprintf(a.stdout, "your file: %s\n", filepath.Join(c.Mine, f))
			}
			fmt.Fprintln(a.stdout, "when done: iomapfs port check")
			return nil
		},
	}
}

func (a *app) portCheckCmd() *cobra.Command {
	return &cobra.Command{
		Use: "check [N]", Short: "Run the checks of the steps up to N (the one you are at) on your files", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := runner.Open(".")
			if err != nil {
				return err
			}
			n, err := stepArg(c, args)
			if err != nil {
				return err
			}
			ok, err := a.portCheck(cmd.Context(), c, n, false)
			if err == nil && !ok {
				err = &exitError{1, nil}
			}
			return err
		},
	}
}

// portCheck runs the checks of steps 1 to n on the reader's files and prints what they say; quiet says nothing of what passed.
func (a *app) portCheck(ctx context.Context, c *runner.Course, n int, quiet bool) (bool, error) {
	own, err := c.Own()
	if err != nil {
		return false, err
	}
	r, err := c.Check(ctx, n, own, true)
	if err != nil {
		return false, err
	}
	if len(r.Tests) == 0 {
		fmt.Fprint(a.stdout, r.Output)
		return false, nil
	}
	for _, t := range r.Tests {
		if t.Passed && !quiet {
			fmt.Fprintf(a.stdout, "✓ %s\n", t.Name)
		}
		if !t.Passed {
			fmt.Fprintf(a.stdout, "✗ %s\n", t.Name)
			for _, line := range t.Says {
				fmt.Fprintf(a.stdout, "    %s\n", line)
			}
		}
	}
	if quiet {
		return r.Passed, nil
	}
	for _, line := range r.Counters {
		fmt.Fprintf(a.stdout, "  %s\n", line)
	}
	if r.Passed {
		fmt.Fprintf(a.stdout, "step %d is done: iomapfs port next\n", n)
	}
	return r.Passed, nil
}

func (a *app) portHintCmd() *cobra.Command {
	return &cobra.Command{
		Use: "hint [K]", Short: "Hint K of the step you are at (1: the gentlest)", Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := runner.Open(".")
			if err != nil {
				return err
			}
			n, err := stepArg(c, nil)
			if err != nil {
				return err
			}
			k := 1
			if len(args) > 0 {
				if k, err = strconv.Atoi(args[0]); err != nil || k < 1 {
					return usage("%q is not the number of a hint", args[0])
				}
			}
			text, err := os.ReadFile(filepath.Join(c.Steps[n-1].Dir, "hints.md"))
			if err != nil {
				return err
			}
			hints := strings.Split(string(text), "\n## ")[1:]
			if k > len(hints) {
				return fmt.Errorf("step %d has %d hints; then there is iomapfs port solution", n, len(hints))
			}
			fmt.Fprintf(a.stdout, "%s\n", strings.TrimSpace(hints[k-1]))
			return nil
		},
	}
}

func (a *app) portSolutionCmd() *cobra.Command {
	return &cobra.Command{
		Use: "solution [N]", Short: "Show what the solution of a step changes", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := runner.Open(".")
			if err != nil {
				return err
			}
			n, err := stepArg(c, args)
			if err != nil {
				return err
			}
			diff, err := c.Solution(cmd.Context(), n)
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(a.stdout, diff)
			return err
		},
	}
}

func (a *app) portResetCmd() *cobra.Command {
	return &cobra.Command{
		Use: "reset [N]", Short: "Put your files aside and begin step N again, or the course", Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := runner.Open(".")
			if err != nil {
				return err
			}
			n := 0
			if len(args) > 0 {
				if n, err = strconv.Atoi(args[0]); err != nil {
					return usage("%q is not the number of a step", args[0])
				}
			}
			kept, err := c.Reset(n)
			if err != nil {
				return err
			}
			if kept != "" {
				fmt.Fprintf(a.stdout, "your files are kept in %s\n", kept)
			}
			return nil
		},
	}
}

// portMatrix prints which paths serve which operation, for every filesystem of the repository.
func (a *app) portMatrix() error {
	w := tabwriter.NewWriter(a.stdout, 0, 8, 2, ' ', 0)
	types := append(all.Types(), minix.Type)
	fmt.Fprint(w, "operation")
	for _, t := range types {
		fmt.Fprintf(w, "\t%s", t.Name)
	}
	fmt.Fprintln(w)
	for op, name := range vfs.PathOpNames() {
		fmt.Fprint(w, name)
		for _, t := range types {
			sides := []vfs.Path{vfs.Legacy}
			if t.Sides != nil {
				sides = t.Sides(vfs.PathOp(op))
			}
			var words []string
			for _, s := range sides {
				words = append(words, s.String())
			}
			fmt.Fprintf(w, "\t%s", strings.Join(words, " "))
		}
		fmt.Fprintln(w)
	}
	return w.Flush()
}
