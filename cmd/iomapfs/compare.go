package main

import (
	"encoding/csv"
	"fmt"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

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

func (a *app) compareCmd() *cobra.Command {
	var names []string
	for _, op := range compare.Ops {
		names = append(names, op.Name)
	}
	var ops []string
	var fresh, html, size string
	var asJSON, asCSV bool
	var o compare.Options
	c := &cobra.Command{
		Use:   "compare [--op OP,OP] IMAGE|--new SIZE",
		Short: "Legacy path against iomap: same bytes, what each costs",
		Long: `compare runs each operation on the legacy and on the iomap path, on equal copies of an image in memory, by turns and several
times. It proves that both gave the same bytes and answers and left a filesystem that is accepted by the checker, and prints
medians: time with its spread, processor time, allocations, calls of get_block and of begin, bios, and the bytes of state beside
each cached page. IMAGE is only read. Lock acquisitions are not counted.

Operations: ` + strings.Join(names, ", "),
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (len(args) == 0) == (fresh == "") {
				return usage("name an IMAGE, or --new SIZE")
			}
			for _, name := range ops {
				i := indexOp(name)
				if i < 0 {
					return usage("there is no operation %q; there are %s", name, strings.Join(names, ", "))
				}
				o.Ops = append(o.Ops, compare.Ops[i])
			}
			var err error
			if o.Size, err = mountopt.ParseSize(size); err != nil {
				return usage("--size: %w", err)
			}
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			var dev block.Device
			if fresh != "" {
				dev, err = newImage(fresh)
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
				now = fmt.Sprintf("comparing %s on %s, run %d", op, path, run+1)
			}
			results, err := compare.Run(ctx, dev, o)
			p.Stop()
			if html != "" {
				if werr := writeReport(html, results); werr != nil {
					return werr
				}
			}
			switch {
			case asJSON:
				if perr := printJSON(a.stdout, results); perr != nil {
					return perr
				}
			case asCSV:
				if perr := a.compareCSV(results); perr != nil {
					return perr
				}
			default:
				if perr := a.compareTable(results); perr != nil {
					return perr
				}
				if err == nil {
					_, err = fmt.Fprintln(a.stdout, "both paths gave the same bytes and answers, and left a filesystem without problems")
				}
			}
			return err
		},
	}
	f := c.Flags()
	f.StringSliceVar(&ops, "op", nil, "operations to compare (all)")
	f.StringVar(&fresh, "new", "", "a new ext2 filesystem of that size, in memory")
	f.StringVar(&size, "size", "16M", "size of the files worked on")
	f.IntVar(&o.Runs, "runs", 5, "runs of each operation on each path")
	f.StringVar(&html, "html", "", "write a report with charts to this file")
	f.BoolVar(&asJSON, "json", false, "as JSON")
	f.BoolVar(&asCSV, "csv", false, "as CSV, a line a run")
	return a.imageFlags(c)
}

func indexOp(name string) int {
	for i, op := range compare.Ops {
		if op.Name == name {
			return i
		}
	}
	return -1
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

func micro(d time.Duration) string {
	return strconv.FormatFloat(float64(d.Nanoseconds())/1e3, 'f', 0, 64)
}

func (a *app) compareTable(results []compare.Result) error {
	w := tabwriter.NewWriter(a.stdout, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "operation\tpath\ttime µs\tspread\tCPU µs\tallocs\tget_block\tbegin\tbios\tmean KiB\tstate/page\t\t")
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
			name, verdict := "", ""
			if i == 0 {
				name = r.Op
			} else {
				verdict = "within the spread"
				if r.Clear {
					verdict = fmt.Sprintf("%.2f× as fast", r.Ratio)
				}
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%.0f%%\t%s\t%d\t%d\t%d\t%d\t%s\t%s\t%s\t\n", name, s.Path, micro(m.Time), 100*s.Spread, micro(m.CPU), m.Allocs,
				m.GetBlock, m.Begin, m.Bios, mean, state, verdict)
		}
	}
	return w.Flush()
}

func (a *app) compareCSV(results []compare.Result) error {
	w := csv.NewWriter(a.stdout)
	_ = w.Write([]string{"op", "path", "run", "time_ns", "cpu_ns", "allocs", "alloc_bytes", "get_block", "begin", "bios", "bio_bytes", "state_bytes", "pages"})
	for _, r := range results {
		for _, s := range r.Sides {
			for i, c := range s.Runs {
				row := []string{r.Op, s.Path, strconv.Itoa(i + 1)}
				for _, n := range []int64{int64(c.Time), int64(c.CPU), c.Allocs, c.AllocBytes, c.GetBlock, c.Begin, c.Bios, c.BioBytes, c.StateBytes, c.Pages} {
					row = append(row, strconv.FormatInt(n, 10))
				}
				_ = w.Write(row) // Error tells
			}
		}
	}
	w.Flush()
	return w.Error()
}

// writeReport writes a page that needs nothing else: a table, and for each operation two bars.
func writeReport(path string, results []compare.Result) error {
	var b strings.Builder
	b.WriteString(`<!doctype html><meta charset="utf-8"><title>legacy against iomap</title><style>
body{font:15px/1.5 sans-serif;margin:2em auto;max-width:60em}table{border-collapse:collapse}td,th{padding:.2em .8em;text-align:right}
td:first-child,th:first-child{text-align:left}tr:nth-child(4n+2),tr:nth-child(4n+3){background:#f3f3f3}</style>
<h1>Legacy against iomap</h1><p>Medians of runs that took turns. The thin line on a bar is the spread of the runs.</p>`)
	for _, r := range results {
		most := max(r.Sides[0].Median.Time, r.Sides[1].Median.Time, 1)
		fmt.Fprintf(&b, "<h3>%s</h3><p>%s</p><svg width=\"760\" height=\"56\">", r.Op, r.What)
		for i, s := range r.Sides {
			wide := 560 * float64(s.Median.Time) / float64(most)
			y := 4 + 26*i
			fmt.Fprintf(&b, `<text x="0" y="%d">%s</text><rect x="70" y="%d" width="%.0f" height="20" fill="%s"/>`, y+15, s.Path, y, wide, []string{"#b58b63", "#4f8f8b"}[i])
			fmt.Fprintf(&b, `<line x1="%.0f" x2="%.0f" y1="%d" y2="%d" stroke="#222"/><text x="%.0f" y="%d">%s µs</text>`,
				70+wide*(1-s.Spread/2), 70+wide*(1+s.Spread/2), y+10, y+10, 78+wide*(1+s.Spread/2), y+15, micro(s.Median.Time))
		}
		b.WriteString("</svg>")
	}
	b.WriteString("<h2>Figures</h2><table><tr><th>operation<th>path<th>time µs<th>CPU µs<th>allocations<th>get_block<th>begin<th>bios<th>bytes moved<th>state bytes<th>pages</tr>")
	for _, r := range results {
		for _, s := range r.Sides {
			m := s.Median
			fmt.Fprintf(&b, "<tr><td>%s<td>%s<td>%s<td>%s<td>%d<td>%d<td>%d<td>%d<td>%d<td>%d<td>%d</tr>", r.Op, s.Path, micro(m.Time), micro(m.CPU), m.Allocs,
				m.GetBlock, m.Begin, m.Bios, m.BioBytes, m.StateBytes, m.Pages)
		}
	}
	b.WriteString("</table>\n")
	return os.WriteFile(path, []byte(b.String()), 0o644)
}
