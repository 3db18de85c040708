package main

import (
	"context"
	"errors"
	"fmt"
	"html"
	"io"
	"math"
	"os"
	"strings"

	"github.com/iomapfs/iomapfs/cmd/internal/term"
	"github.com/iomapfs/iomapfs/fs/all"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/spf13/cobra"
)

// The looks of the kinds of a map, in their order; what comes first of those that fill a cell most is shown.
var mapLooks = []struct {
	glyph string
	color int    // of a terminal with 256 colors
	fill  string // of a page
}{
	{".", 240, "#e8e8e8"},
	{"x", 75, "#6fa8dc"},
	{"d", 114, "#6aa84f"},
	{"i", 214, "#f6b26b"},
	{"a", 176, "#c27ba0"},
	{"S", 196, "#cc0000"},
	{"B", 203, "#e06666"},
	{"I", 220, "#f1c232"},
}

// markLook is how cells with bytes of the file look that was asked for.
var markLook = struct {
	glyph string
	color int
	fill  string
}{"@", 231, "#000000"}

// mapOut is what map --json prints.
type mapOut struct {
	Image string `json:"image"`
	File  string `json:"file,omitempty"`
	*all.Map
}

func (a *app) mapCmd() *cobra.Command {
	var asJSON bool
	var svg string
	var rows, columns int
	c := &cobra.Command{
		Use:   "map IMAGE [PATH]",
		Short: "Picture of the layout: groups, metadata, files",
		Long: `map draws what the blocks of a filesystem hold: a row for each group (or for several, in a large one), a letter for each
stretch of it: for metadata at fixed places where there is some, else for what most of its used blocks hold. With PATH the
blocks of that file are marked @. On a terminal it is in colors, unless NO_COLOR is set; --svg writes a drawing.`,
		Example: `  iomapfs map disk.img
  iomapfs map --svg disk.svg disk.img@2 /var/lib/db`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if rows < 1 || columns < 1 || rows > 4096 || columns > 4096 {
				return usage("--rows and --columns: from 1 to 4096")
			}
			m, err := a.readMap(cmd.Context(), args, rows, columns)
			if err != nil {
				return err
			}
			out := mapOut{Image: args[0], Map: m}
			if len(args) == 2 {
				out.File = args[1]
			}
			switch {
			case asJSON:
				return printJSON(a.stdout, out)
			case svg == "-":
				return drawMap(a.stdout, &out)
			case svg != "":
				return writeFile(svg, func(w io.Writer) error { return drawMap(w, &out) })
			}
			return a.printMap(&out)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "as JSON: the counts of each stretch")
	c.Flags().StringVar(&svg, "svg", "", "write a drawing to this file (-: standard output)")
	c.Flags().IntVar(&rows, "rows", 32, "at most so many rows")
	c.Flags().IntVar(&columns, "columns", 64, "at most so many stretches in a row")
	return a.imageFlags(c)
}

// writeFile makes a file of what f writes; none when it fails.
func writeFile(path string, f func(io.Writer) error) error {
	w, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := errors.Join(f(w), w.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// readMap makes the picture, with the file marked if one is named.
func (a *app) readMap(ctx context.Context, args []string, rows, columns int) (m *all.Map, err error) {
	dev, err := openDevice(ctx, args[0], access{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, dev.Close()) }()
	k, err := all.Which(dev, a.fstype)
	if err != nil {
		return nil, err
	}
	if m, err = k.Map(ctx, dev, rows, columns); err != nil || len(args) == 1 {
		return m, err
	}
	return m, a.withFS(ctx, args[0], func(ctx context.Context, sb *vfs.SuperBlock) error {
		ip, err := walk(ctx, sb, args[1], true)
		if err != nil {
			return err
		}
		defer ip.Put()
		err = ip.Fiemap(ctx, &vfs.FiemapInfo{Len: math.MaxInt64, Max: math.MaxInt, Emit: func(e vfs.FiemapExtent) error {
			if e.Flags&(vfs.ExtentUnknown|vfs.ExtentDelalloc) == 0 {
				m.Mark(int64(e.Physical), int64(e.Length))
			}
			return nil
		}})
		if err != nil {
			return fmt.Errorf("%s: %s: fiemap: %w", args[0], args[1], err)
		}
		return nil
	})
}

// kindOf gives what a cell is shown as: -1 for marked ones, else metadata at fixed places, else what most of its used blocks
// hold, unless next to nothing is used.
func (o *mapOut) kindOf(c *all.MapCell) int {
	if c.Marked > 0 {
		return -1
	}
	most := func(from, to int) (kind int) {
		for i := from; i < to; i++ {
			if c.Counts[i] > c.Counts[kind] || kind == 0 && c.Counts[i] > 0 {
				kind = i
			}
		}
		return kind
	}
	if k := most(o.Fixed, len(c.Counts)); k > 0 {
		return k
	}
	if k := most(1, o.Fixed); k > 0 && c.Counts[k] > c.Counts[0]/8 {
		return k
	}
	return 0
}

// lookOf gives glyph, color of terminals and color of pages.
func lookOf(kind int) (glyph string, color int, fill string) {
	if kind < 0 {
		return markLook.glyph, markLook.color, markLook.fill
	}
	l := mapLooks[kind%len(mapLooks)]
	return l.glyph, l.color, l.fill
}

// totals sums up the blocks of each kind.
func (o *mapOut) totals() (sums []int64, marked int64) {
	sums = make([]int64, len(o.Kinds))
	for _, r := range o.Rows {
		for _, c := range r.Cells {
			for i, n := range c.Counts {
				sums[i] += n
			}
			marked += c.Marked
		}
	}
	return sums, marked
}

// groupName names the groups of a row.
func groupName(r *all.MapRow) string {
	if r.Groups == 1 {
		return fmt.Sprint(r.Group)
	}
	return fmt.Sprintf("%d-%d", r.Group, r.Group+r.Groups-1)
}

func (a *app) printMap(o *mapOut) error {
	color := term.IsTerminal(a.stdout) && os.Getenv("NO_COLOR") == ""
	paint := func(kind int, s string) string {
		if !color {
			return s
		}
		_, c, _ := lookOf(kind)
		return fmt.Sprintf("\x1b[38;5;%dm%s\x1b[0m", c, s)
	}
	var b strings.Builder
	stretch := int64(0)
	if len(o.Rows) > 0 && len(o.Rows[0].Cells) > 0 {
		stretch = o.Rows[0].Cells[0].Length
	}
	fmt.Fprintf(&b, "%s: %s, blocks of %d, each sign %s\n", term.Printable(o.Image), term.Size(o.Size), o.BlockSize, term.Size(stretch))
	width := 0
	for i := range o.Rows {
		width = max(width, len(groupName(&o.Rows[i])))
	}
	for i := range o.Rows {
		r := &o.Rows[i]
		fmt.Fprintf(&b, "%*s ", width, groupName(r))
		for j := range r.Cells {
			kind := o.kindOf(&r.Cells[j])
			glyph, _, _ := lookOf(kind)
			b.WriteString(paint(kind, glyph))
		}
		b.WriteByte('\n')
	}
	sums, marked := o.totals()
	for i, name := range o.Kinds {
		glyph, _, _ := lookOf(i)
		fmt.Fprintf(&b, "%s  %s in %s\n", paint(i, glyph), term.Size(sums[i]*o.BlockSize), name)
	}
	if o.File != "" {
		fmt.Fprintf(&b, "%s  %s of %s\n", paint(-1, markLook.glyph), term.Size(marked), term.Printable(o.File))
	}
	_, err := io.WriteString(a.stdout, b.String())
	return err
}

// drawMap writes the picture as SVG: a square for each stretch, which tells its counts when pointed at.
func drawMap(w io.Writer, o *mapOut) error {
	const side, left, top = 12, 70, 30
	columns := 0
	for _, r := range o.Rows {
		columns = max(columns, len(r.Cells))
	}
	height := top + side*len(o.Rows) + 16 + 18*(len(o.Kinds)+1)
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="11">`+"\n", max(left+side*columns+10, 420), height)
	title := o.Image
	if o.File != "" {
		title += ": " + o.File
	}
	fmt.Fprintf(&b, `<text x="%d" y="18" font-size="14">%s</text>`+"\n", left, xmlText(title))
	for y := range o.Rows {
		r := &o.Rows[y]
		fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", left-6, top+side*y+10, groupName(r))
		for x := range r.Cells {
			c := &r.Cells[x]
			_, _, fill := lookOf(o.kindOf(c))
			fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%d" height="%d" fill="%s"><title>bytes %d to %d%s</title></rect>`+"\n",
				left+side*x, top+side*y, side-1, side-1, fill, c.Start, c.Start+c.Length, cellCounts(o, c))
		}
	}
	sums, marked := o.totals()
	y := top + side*len(o.Rows) + 16
	legend := func(kind int, text string) {
		_, _, fill := lookOf(kind)
		fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%d" height="%d" fill="%s"/><text x="%d" y="%d">%s</text>`+"\n", left, y, side-1, side-1, fill, left+side+4, y+10, xmlText(text))
		y += 18
	}
	for i, name := range o.Kinds {
		legend(i, term.Size(sums[i]*o.BlockSize)+" in "+name)
	}
	if o.File != "" {
		legend(-1, term.Size(marked)+" of "+o.File)
	}
	b.WriteString("</svg>\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// cellCounts lists what a cell holds.
func cellCounts(o *mapOut, c *all.MapCell) string {
	var s strings.Builder
	for i, n := range c.Counts {
		if n > 0 {
			fmt.Fprintf(&s, ", %s: %s", o.Kinds[i], count(int(n), "block"))
		}
	}
	return xmlText(s.String())
}

// xmlText makes any text fit to stand in a drawing.
func xmlText(s string) string { return html.EscapeString(term.Printable(s)) }
