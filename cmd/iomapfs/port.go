package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
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
iomap operation by operation. It works on the sources: run it inside a checkout of the repository. Your files are in porting/mine,
a Go package like any other. porting/README.md says how to follow it.

  iomapfs port next         go to the next step: its task, and its files
  iomapfs port check        run the checks of the steps so far on your files
  iomapfs port hint         the next hint
  iomapfs port solution     what the solution changes, as a diff`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(a.portStatusCmd(), a.portNextCmd(), a.portShowCmd(), a.portCheckCmd(), a.portHintCmd(), a.portSolutionCmd(), a.portResetCmd())
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
	if n == -1 && len(args) == 0 {
		return 0, errNotBegun
	}
	_, err = c.Step(n)
	return n, err
}

var errNotBegun = errors.New("you have not begun: iomapfs port next")

func (a *app) portStatusCmd() *cobra.Command {
	all := false
	c := &cobra.Command{
		Use: "status", Short: "Where you are; --all: where every filesystem of the repository is", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if all {
				return a.portMatrix(cmd.Context())
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
			if at == -1 {
				fmt.Fprintln(a.stdout, "begin with: iomapfs port next")
			}
			return nil
		},
	}
	c.Flags().BoolVar(&all, "all", false, "a table of all filesystems and operations")
	return c
}

func (a *app) portNextCmd() *cobra.Command {
	return &cobra.Command{
		Use: "next", Short: "Go to the next step: its task, and its files in porting/mine", Args: cobra.NoArgs,
		Long: `next checks the step that you are at, and goes to the next one: it prints the task, and lays the step's files over porting/mine.
Each step begins with the course's own files: one of yours that differs from them is kept as NAME.before-N beside it.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := runner.Open(".")
			if err != nil {
				return err
			}
			at, err := c.At()
			if err != nil {
				return err
			}
			if at >= 0 {
				ok, err := a.portCheck(cmd.Context(), c, at, true)
				if err != nil {
					return err
				}
				if !ok && at == c.Last() {
					return fmt.Errorf("step %d is not done; it is the last", at)
				}
				if !ok {
					return fmt.Errorf("step %d is not done: mend it, or give it up with iomapfs port reset %d", at, at+1)
				}
			}
			s, kept, err := c.Next()
			if err != nil {
				return err
			}
			for _, f := range kept {
				fmt.Fprintf(a.stderr, "your version is kept in %s\n", a.short(f))
			}
			return a.portShow(c, s, false)
		},
	}
}

func (a *app) portShowCmd() *cobra.Command {
	answers := false
	c := &cobra.Command{
		Use: "show [N]", Short: "Print the text of a step (the one you are at)", Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := runner.Open(".")
			if err != nil {
				return err
			}
			n, err := stepArg(c, args)
			if err != nil {
				return err
			}
			return a.portShow(c, &c.Steps[n], answers)
		},
	}
	c.Flags().BoolVar(&answers, "answers", false, "with the answers to what was to be predicted")
	return c
}

// portShow prints the text of a step and what to do with it.
func (a *app) portShow(c *runner.Course, s *runner.Step, answers bool) error {
	text, err := s.Text(answers)
	if err != nil {
		return err
	}
	files, err := s.Yours()
	if err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "Step %d of %d. %s\n", s.N, c.Last(), strings.TrimSpace(strings.TrimPrefix(text, "# ")))
	for _, f := range files {
		fmt.Fprintf(a.stdout, "\nyour file: %s", a.short(filepath.Join(c.Mine, f)))
	}
	fmt.Fprintln(a.stdout, "\nwhen done: iomapfs port check")
	return nil
}

// short gives a path from the working folder, when that is shorter.
func (a *app) short(path string) string {
	dir, err := os.Getwd()
	if err != nil {
		return path
	}
	if rel, err := filepath.Rel(dir, path); err == nil && len(rel) < len(path) {
		return rel
	}
	return path
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
			at, err := c.At()
			switch {
			case err != nil:
				return err
			case at == -1:
				return errNotBegun
			case n > at:
				return fmt.Errorf("you are at step %d: there is nothing of step %d to check yet", at, n)
			}
			ok, err := a.portCheck(cmd.Context(), c, n, false)
			if err == nil && !ok {
				err = &exitError{1, nil}
			}
			if err == nil && n == at {
				if n == c.Last() {
					fmt.Fprintln(a.stdout, "the course is done")
				} else {
					fmt.Fprintf(a.stdout, "step %d is done: iomapfs port next\n", n)
				}
			}
			return err
		},
	}
}

// portCheck runs the checks of steps 0 to n on the reader's files and prints what they say: of the steps before only what fails. quiet
// says nothing of what passed.
func (a *app) portCheck(ctx context.Context, c *runner.Course, n int, quiet bool) (bool, error) {
	own, err := c.Own()
	if err != nil {
		return false, err
	}
	r, err := c.Check(ctx, own, 0, n, true)
	if err != nil {
		return false, err
	}
	if len(r.Tests) == 0 {
		fmt.Fprint(a.stdout, r.Output)
		return false, nil
	}
	before := 0
	skipped := map[string]int{} // of the steps before, by the reason
	for _, t := range r.Tests {
		switch {
		case !t.Passed && !t.Skipped:
			fmt.Fprintf(a.stdout, "✗ step %d: %s\n", t.Step, t.Name)
			for _, line := range t.Says {
				fmt.Fprintf(a.stdout, "    %s\n", line)
			}
		case t.Step < n && t.Skipped:
			skipped[strings.Join(t.Says, "; ")]++
		case t.Step < n:
			before++
		case quiet:
		case t.Skipped:
			fmt.Fprintf(a.stdout, "– step %d: %s: %s\n", t.Step, t.Name, strings.Join(t.Says, "; "))
		default:
			fmt.Fprintf(a.stdout, "✓ step %d: %s\n", t.Step, t.Name)
		}
		if quiet || t.Step < n {
			continue
		}
		for _, line := range t.Counters {
			fmt.Fprintf(a.stdout, "    %s\n", line)
		}
	}
	if !quiet && before > 0 {
		fmt.Fprintf(a.stdout, "✓ %d checks of earlier steps\n", before)
	}
	for _, why := range slices.Sorted(maps.Keys(skipped)) {
		if !quiet {
			fmt.Fprintf(a.stdout, "– %d checks of earlier steps: %s\n", skipped[why], why)
		}
	}
	return r.Passed, nil
}

func (a *app) portHintCmd() *cobra.Command {
	return &cobra.Command{
		Use: "hint [K]", Short: "The next hint of the step you are at, or hint K (1: the gentlest)", Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := runner.Open(".")
			if err != nil {
				return err
			}
			n, err := stepArg(c, nil)
			if err != nil {
				return err
			}
			hints, err := c.Steps[n].Hints()
			if err != nil {
				return err
			}
			k := 0
			if len(args) > 0 {
				if k, err = strconv.Atoi(args[0]); err != nil || k < 1 {
					return usage("%q is not the number of a hint", args[0])
				}
			} else if k, err = c.NextHint(n); err != nil {
				return err
			}
			if k > len(hints) {
				return fmt.Errorf("step %d has %d hints; then there is iomapfs port solution", n, len(hints))
			}
			fmt.Fprintf(a.stdout, "Hint %d of %d: %s\n", k, len(hints), hints[k-1])
			return nil
		},
	}
}

func (a *app) portSolutionCmd() *cobra.Command {
	return &cobra.Command{
		Use: "solution [N]", Short: "Show what the solution of a step changes, as a diff", Args: cobra.MaximumNArgs(1),
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
		Use: "reset [N]", Short: "Keep your files aside and begin step N again (the one you are at)", Args: cobra.MaximumNArgs(1),
		Long: `reset moves porting/mine aside, says where, and begins step N with the course's files. From 0 on: reset 0 begins the course again.`,
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := runner.Open(".")
			if err != nil {
				return err
			}
			n, err := stepArg(c, args)
			if err != nil {
				return err
			}
			kept, err := c.Reset(n)
			if err != nil {
				return err
			}
			if kept != "" {
				fmt.Fprintf(a.stdout, "your files are kept in %s\n", a.short(kept))
			}
			fmt.Fprintf(a.stdout, "you are at step %d: iomapfs port show\n", n)
			return nil
		},
	}
}

// portMatrix prints which paths serve which operation: for every filesystem of the repository, and inside a checkout for the reader's.
func (a *app) portMatrix(ctx context.Context) error {
	types := append(all.Types(), minix.Type)
	head := []string{"operation"}
	for _, t := range types {
		head = append(head, t.Name)
	}
	var mine map[string]string
	if c, err := runner.Open("."); err == nil {
		if at, err := c.At(); err == nil && at >= 0 {
			own, err := c.Own()
			if err != nil {
				return err
			}
			if mine, err = c.Sides(ctx, own); err != nil {
				return err
			}
			head = append(head, fmt.Sprintf("yours, at step %d", at))
		}
	}
	w := tabwriter.NewWriter(a.stdout, 0, 8, 3, ' ', 0)
	fmt.Fprintln(w, strings.Join(head, "\t"))
	for op, name := range vfs.PathOpNames() {
		row := []string{name}
		for _, t := range types {
			sides := []vfs.Path{vfs.Legacy}
			if t.Sides != nil {
				sides = t.Sides(vfs.PathOp(op))
			}
			var words []string
			for _, s := range sides {
				words = append(words, s.String())
			}
			row = append(row, strings.Join(words, " "))
		}
		switch {
		case len(mine) > 0:
			row = append(row, mine[name])
		case mine != nil:
			row = append(row, "does not build")
		}
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	return w.Flush()
}
