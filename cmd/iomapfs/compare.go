package main

import (
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/iomapfs/iomapfs/cmd/internal/mountopt"
	"github.com/iomapfs/iomapfs/cmd/internal/term"
	"github.com/iomapfs/iomapfs/fs/ext2/mkfs"
	"github.com/iomapfs/iomapfs/fstests/compare"
	"github.com/iomapfs/iomapfs/images"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/block/mem"
)

// comparing is a run of compare.
type comparing struct {
	compare.Options
	ops, workloads           []string
	fresh, html, size        string
	asJSON, asCSV, withTrace bool
	bridge                   bool
}

func (a *app) compareCmd() *cobra.Command {
	var o comparing
	c := &cobra.Command{
		Use:   "compare [--op OP,OP] [--workload W,W] IMAGE|--new SIZE",
		Short: "Legacy path against iomap: same bytes, what each costs",
		Long: `compare runs each operation on the legacy and on the iomap path, with --bridge on the one between them too, on equal copies of
an image in memory, by turns and several times. IMAGE is only read.

First it proves, in a run that is not timed: the same bytes and answers; the same tree, which a reader that shares no code with the
paths finds in both images; FIEMAP and SEEK_DATA that agree with it, and FIEMAP with the device; the same free space; images that the
checker accepts. Then it prints medians: time with its spread (between the quartiles, as a share of the median), processor time,
allocations, calls of get_block and of begin, bios and their mean size, locks taken, and the bytes of state beside each cached page.
"noise" is how much the machine itself wavered: the spread of the time of a piece of work that is always the same.

Operations (all, unless --op or --workload is given):
` + listOps(compare.Ops) + `
Workloads (--workload all for all):
` + listOps(compare.Workloads),
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.compare(cmd, args, &o) },
	}
	f := c.Flags()
	f.StringSliceVar(&o.ops, "op", nil, "operations to compare")
	f.StringSliceVar(&o.workloads, "workload", nil, "workloads to compare")
	f.StringVar(&o.fresh, "new", "", "a new ext2 filesystem of that size, in memory")
	f.StringVar(&o.size, "size", "16M", "size of the files worked on")
	f.IntVar(&o.Runs, "runs", 5, "timed runs of each operation on each path")
	f.BoolVar(&o.bridge, "bridge", false, "compare the bridge too: buffer heads whose get_block asks iomap's begin")
	f.BoolVar(&o.withTrace, "trace", false, "show the calls and bios of each path side by side, the first hundred")
	f.StringVar(&o.html, "html", "", "write a report with charts to this file")
	f.BoolVar(&o.asJSON, "json", false, "as JSON")
	f.BoolVar(&o.asCSV, "csv", false, "as CSV, a line a run")
	return a.imageFlags(c)
}

func listOps(ops []compare.Op) string {
	var b strings.Builder
	for _, op := range ops {
		fmt.Fprintf(&b, "  %-12s %s\n", op.Name, op.What)
	}
	return b.String()
}

// pick finds operations by name; "all" is all of them.
func pick(what string, from []compare.Op, names []string) ([]compare.Op, error) {
	var list []compare.Op
next:
	for _, name := range names {
		if name == "all" {
			list = append(list, from...)
			continue
		}
		var known []string
		for _, op := range from {
			if op.Name == name {
				list = append(list, op)
				continue next
			}
			known = append(known, op.Name)
		}
		return nil, usage("there is no %s %q; there are %s", what, name, strings.Join(known, ", "))
	}
	return list, nil
}

func (a *app) compare(cmd *cobra.Command, args []string, o *comparing) error {
	if (len(args) == 0) == (o.fresh == "") {
		return usage("name an IMAGE, or --new SIZE")
	}
	ops, err := pick("operation", compare.Ops, o.ops)
	if err != nil {
		return err
	}
	workloads, err := pick("workload", compare.Workloads, o.workloads)
	if err != nil {
		return err
	}
	o.Ops = append(ops, workloads...)
	if o.Size, err = mountopt.ParseSize(o.size); err != nil {
		return usage("--size: %w", err)
	}
	if o.Size < 256<<10 {
		return usage("--size: at least 256K, for the operations that move pieces of files")
	}
	if o.Paths = []vfs.Path{vfs.Legacy, vfs.Iomap}; o.bridge {
		o.Paths = []vfs.Path{vfs.Legacy, vfs.Bridge, vfs.Iomap}
	}
	if o.withTrace {
		o.Trace = 100
	}
	ctx, stop := interruptible(cmd.Context())
	defer stop()
	var dev block.Device
	if o.fresh != "" {
		dev, err = newImage(o.fresh)
	} else {
		dev, err = openDevice(ctx, args[0], access{})
	}
	if err != nil {
		return err
	}
	defer dev.Close()
	o.Type = a.fstype
	now := ""
	p := term.StartProgress(a.stderr, func() string { return now })
	o.Progress = func(op string, path vfs.Path, run int) {
		now = fmt.Sprintf("comparing %s on %s, run %d of %d", op, path, run, o.Runs)
		if run == 0 {
			now = fmt.Sprintf("comparing %s on %s, the proof", op, path)
		}
	}
	results, err := compare.Run(ctx, dev, o.Options)
	p.Stop()
	return errors.Join(a.showCompared(o, results), err)
}

func (a *app) showCompared(o *comparing, results []compare.Result) error {
	if o.html != "" {
		f, err := os.Create(o.html)
		if err != nil {
			return err
		}
		how := fmt.Sprintf("iomapfs compare, %d timed runs, files of %s, %s/%s, %d processors", o.Runs, o.size, runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
		if err := errors.Join(compare.WriteHTML(f, how, results), f.Close()); err != nil {
			return err
		}
	}
	switch {
	case o.asJSON:
		return printJSON(a.stdout, results)
	case o.asCSV:
		return a.compareCSV(results)
	}
	if err := a.compareTable(results); err != nil {
		return err
	}
	for i := range results {
		if err := a.compareCalls(&results[i]); err != nil {
			return err
		}
	}
	for _, r := range results {
		if !r.Same {
			return nil // the error says so
		}
	}
	_, err := fmt.Fprintln(a.stdout, "the paths gave the same bytes and answers, and left the same tree in images that the checker accepts")
	return err
}

// newImage makes an ext2 filesystem in memory.
func newImage(size string) (block.Device, error) {
	n, err := mountopt.ParseSize(size)
	if err != nil {
		return nil, usage("--new: %w", err)
	}
	dev, err := mem.New(n, mem.Options{})
	if err != nil {
		return nil, err
	}
	_, err = mkfs.Format(images.WriterAt(dev), n, mkfs.Options{Zeroed: true})
	return dev, err
}

func (a *app) compareTable(results []compare.Result) error {
	w := tabwriter.NewWriter(a.stdout, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "operation\tpath\ttime µs\tspread\tCPU µs\tallocs\tget_block\tbegin\tbios\tmean KiB\tlocks\tstate/page\tnoise\t\t")
	for _, r := range results {
		for i, s := range r.Sides {
			m := s.Median
			mean, state := "–", "–"
			if m.Bios > 0 {
				mean = strconv.FormatInt(m.BioBytes/m.Bios>>10, 10)
			}
			if m.Pages > 0 {
				state = strconv.FormatFloat(float64(m.StateBytes)/float64(m.Pages), 'f', 1, 64)
			}
			name, noise, verdict := "", "", ""
			if i == 0 {
				name, noise = r.Op, fmt.Sprintf("%.0f%%", 100*r.Noise)
			}
			if i == len(r.Sides)-1 && r.Ratio > 0 {
				verdict = "within the spread"
				if r.Clear {
					verdict = fmt.Sprintf("%.2f× as fast", r.Ratio)
				}
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%.0f%%\t%s\t%d\t%d\t%d\t%d\t%s\t%d\t%s\t%s\t%s\t\n", name, s.Path, compare.Micro(m.Time), 100*s.Spread,
				compare.Micro(m.CPU), m.Allocs, m.GetBlock, m.Begin, m.Bios, mean, s.Taken(), state, noise, verdict)
		}
	}
	return w.Flush()
}

// compareCalls shows the first calls of each path side by side, each path in a column.
func (a *app) compareCalls(r *compare.Result) error {
	if len(r.Calls) == 0 {
		return nil
	}
	fmt.Fprintf(a.stdout, "\n%s: %s\n", r.Op, r.What)
	w := tabwriter.NewWriter(a.stdout, 0, 8, 3, ' ', 0)
	rows := 0
	for i, s := range r.Sides {
		fmt.Fprintf(w, "%s\t", s.Path)
		rows = max(rows, len(r.Calls[i]))
	}
	fmt.Fprintln(w)
	for row := range rows {
		for _, list := range r.Calls {
			if row < len(list) {
				fmt.Fprint(w, list[row])
			}
			fmt.Fprint(w, "\t")
		}
		fmt.Fprintln(w)
	}
	return w.Flush()
}

func (a *app) compareCSV(results []compare.Result) error {
	w := csv.NewWriter(a.stdout)
	_ = w.Write([]string{"op", "path", "run", "time_ns", "cpu_ns", "allocs", "alloc_bytes", "get_block", "begin", "bios", "bio_bytes", "state_bytes", "pages", "locks"})
	for _, r := range results {
		for _, s := range r.Sides {
			for i, c := range s.Runs {
				row := []string{r.Op, s.Path, strconv.Itoa(i + 1)}
				for _, n := range []int64{int64(c.Time), int64(c.CPU), c.Allocs, c.AllocBytes, c.GetBlock, c.Begin, c.Bios, c.BioBytes, c.StateBytes, c.Pages, s.Taken()} {
					row = append(row, strconv.FormatInt(n, 10))
				}
				_ = w.Write(row) // Error tells
			}
		}
	}
	w.Flush()
	return w.Error()
}
