package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/iomapfs/iomapfs/cmd/internal/mountopt"
	"github.com/iomapfs/iomapfs/cmd/internal/term"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
	"github.com/spf13/cobra"
)

// extent is one row of fiemap. Bytes.
type extent struct {
	Logical  uint64   `json:"logical"`
	Physical uint64   `json:"physical"` // from the beginning of the filesystem
	Length   uint64   `json:"length"`
	Flags    []string `json:"flags"`
}

// fiemapOut is what fiemap --json prints.
type fiemapOut struct {
	File      string   `json:"file"`
	Size      int64    `json:"size"`
	BlockSize uint32   `json:"block_size"`
	Extents   []extent `json:"extents"`
}

var extentFlags = []struct {
	bit  uint32
	name string
}{
	{vfs.ExtentLast, "last"},
	{vfs.ExtentUnknown, "unknown"},
	{vfs.ExtentDelalloc, "delalloc"},
	{vfs.ExtentEncoded, "encoded"},
	{vfs.ExtentEncrypted, "encrypted"},
	{vfs.ExtentNotAligned, "not_aligned"},
	{vfs.ExtentInline, "inline"},
	{vfs.ExtentTail, "tail"},
	{vfs.ExtentUnwritten, "unwritten"},
	{vfs.ExtentMerged, "merged"},
	{vfs.ExtentShared, "shared"},
}

func newExtent(e vfs.FiemapExtent) extent {
	x := extent{e.Logical, e.Physical, e.Length, []string{}}
	for _, f := range extentFlags {
		if e.Flags&f.bit != 0 {
			x.Flags = append(x.Flags, f.name)
		}
	}
	return x
}

func (a *app) fiemapCmd() *cobra.Command {
	var asJSON, xattr bool
	var start, length string
	c := &cobra.Command{
		Use:   "fiemap IMAGE PATH | fiemap FILE",
		Short: "Extents of a file: where its bytes lie",
		Long: `fiemap prints the extents of a file as filefrag does, in bytes.

With IMAGE and PATH the image is read without mounting. With one argument the file lies on an iomapfs mount, and its
server is asked: the kernel does not carry FIEMAP to FUSE. Physical addresses count from the beginning of the filesystem.`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			info, err := fiemapRequest(start, length, xattr)
			if err != nil {
				return err
			}
			out := &fiemapOut{Extents: []extent{}}
			info.Emit = func(e vfs.FiemapExtent) error {
				out.Extents = append(out.Extents, newExtent(e))
				return nil
			}
			if len(args) == 1 {
				out.File = args[0]
				if err := mountedFiemap(out, info); err != nil {
					return err
				}
				return a.printFiemap(out, asJSON)
			}
			out.File = args[1]
			err = a.withFS(cmd.Context(), args[0], func(ctx context.Context, sb *vfs.SuperBlock) error {
				ip, err := walk(ctx, sb, args[1], true)
				if err != nil {
					return err
				}
				defer ip.Put()
				out.Size, out.BlockSize = ip.Size(), uint32(ip.BlockSize())
				if err := ip.Fiemap(ctx, info); err != nil {
					return fmt.Errorf("%s: %s: fiemap: %w", args[0], args[1], err)
				}
				return nil
			})
			if err != nil {
				return err
			}
			return a.printFiemap(out, asJSON)
		},
	}
	c.Flags().StringVar(&start, "start", "0", "first byte asked for")
	c.Flags().StringVar(&length, "length", "", "bytes asked for (default: all)")
	c.Flags().BoolVarP(&xattr, "xattr", "x", false, "extents of the extended attributes instead")
	c.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return a.imageFlags(c)
}

func fiemapRequest(start, length string, xattr bool) (*vfs.FiemapInfo, error) {
	info := &vfs.FiemapInfo{Len: math.MaxInt64, Flags: vfs.FiemapSync, Max: math.MaxInt}
	from, err := parseBytes("--start", start)
	if err != nil {
		return nil, err
	}
	info.Start = uint64(from)
	if length != "" {
		n, err := parseBytes("--length", length)
		if err != nil {
			return nil, err
		}
		info.Len = uint64(n)
	}
	if xattr {
		info.Flags |= vfs.FiemapXattr
	}
	return info, nil
}

func (a *app) printFiemap(out *fiemapOut, asJSON bool) error {
	if asJSON {
		return printJSON(a.stdout, out)
	}
	fmt.Fprintf(a.stdout, "%s: %d bytes, blocks of %d, %s\n", term.Printable(out.File), out.Size, out.BlockSize, count(len(out.Extents), "extent"))
	rows := [][]string{{"", "logical", "physical", "length", "flags"}}
	for i, e := range out.Extents {
		rows = append(rows, []string{fmt.Sprint(i), fmt.Sprint(e.Logical), fmt.Sprint(e.Physical), fmt.Sprint(e.Length), strings.Join(e.Flags, ",")})
	}
	if len(rows) == 1 {
		return nil
	}
	return alignRight(a.stdout, rows)
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// alignRight prints a table with every column but the last flush right.
func alignRight(w io.Writer, rows [][]string) error {
	width := make([]int, len(rows[0]))
	for _, r := range rows {
		for i, c := range r {
			width[i] = max(width[i], len(c))
		}
	}
	for _, r := range rows {
		var b strings.Builder
		for i, c := range r {
			if i == len(r)-1 {
				b.WriteString(c)
				continue
			}
			fmt.Fprintf(&b, "%*s  ", width[i], c)
		}
		if _, err := fmt.Fprintln(w, strings.TrimRight(b.String(), " ")); err != nil {
			return err
		}
	}
	return nil
}

// segment is one row of seek.
type segment struct {
	Kind  string `json:"kind"` // data or hole
	Start int64  `json:"start"`
	End   int64  `json:"end"` // exclusive
}

// segments walks a file by seek, which answers SEEK_DATA and SEEK_HOLE: errno.NXIO when only holes follow.
func segments(size int64, seek func(pos int64, whence int) (int64, error)) ([]segment, error) {
	list := []segment{}
	for pos := int64(0); pos < size; {
		data, err := seek(pos, vfs.SeekData)
		if errors.Is(err, errno.NXIO) {
			data, err = size, nil
		}
		if err != nil {
			return list, fmt.Errorf("SEEK_DATA from %d: %w", pos, err)
		}
		if data > pos {
			list = append(list, segment{"hole", pos, data})
		}
		if data >= size {
			break
		}
		end, err := seek(data, vfs.SeekHole)
		if err != nil {
			return list, fmt.Errorf("SEEK_HOLE from %d: %w", data, err)
		}
		if end <= data {
			return list, fmt.Errorf("SEEK_HOLE from %d answered %d: %w", data, end, errno.UCLEAN)
		}
		list = append(list, segment{"data", data, end})
		pos = end
	}
	return list, nil
}

func (a *app) seekCmd() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "seek IMAGE PATH | seek FILE",
		Short: "Data and holes of a file, as SEEK_DATA and SEEK_HOLE tell them",
		Args:  cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			var list []segment
			if len(args) == 1 {
				list, err = mountedSeek(args[0])
			} else {
				err = a.withFS(cmd.Context(), args[0], func(ctx context.Context, sb *vfs.SuperBlock) error {
					f, err := openFile(ctx, sb, args[1])
					if err != nil {
						return err
					}
					defer f.Close()
					list, err = segments(f.Inode.Size(), func(pos int64, whence int) (int64, error) { return f.Seek(ctx, pos, whence) })
					if err != nil {
						return fmt.Errorf("%s: %s: %w", args[0], args[1], err)
					}
					return nil
				})
			}
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(a.stdout, list)
			}
			rows := [][]string{{"start", "end", "length", "kind"}}
			for _, s := range list {
				rows = append(rows, []string{fmt.Sprint(s.Start), fmt.Sprint(s.End), fmt.Sprint(s.End - s.Start), s.Kind})
			}
			return alignRight(a.stdout, rows)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return a.imageFlags(c)
}

// openFile opens a regular file for reading.
func openFile(ctx context.Context, sb *vfs.SuperBlock, path string) (*vfs.File, error) {
	ip, err := walk(ctx, sb, path, true)
	if err != nil {
		return nil, err
	}
	defer ip.Put()
	if !ip.IsRegular() {
		return nil, fmt.Errorf("%s: %s: is a %s, not a file", sb.Dev.Name(), path, typeName(ip.Mode()))
	}
	f, err := ip.Open(ctx, vfs.ORdonly)
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", sb.Dev.Name(), path, err)
	}
	return f, nil
}

// swapOut is what swap --json prints. Pages are of 4096 bytes.
type swapOut struct {
	File    string       `json:"file"`
	Header  bool         `json:"header"`    // the file carries a swap header
	Pages   uint64       `json:"max_pages"` // as the header says, or as fit into the file
	Extents []swapExtent `json:"extents"`
}

type swapExtent struct {
	Page    uint64 `json:"page"`
	Pages   uint64 `json:"pages"`
	Address int64  `json:"address"` // bytes from the beginning of the filesystem
}

func (a *app) swapCmd() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "swap IMAGE PATH",
		Short: "Swap extents: what swapon would use of a file",
		Long: `swap prints the page ranges that swapon(8) would take from a file, and why it would refuse it.
swapon itself does not work on a FUSE mount.`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			out := &swapOut{File: args[1], Extents: []swapExtent{}}
			err := a.withFS(cmd.Context(), args[0], func(ctx context.Context, sb *vfs.SuperBlock) error {
				f, err := openFile(ctx, sb, args[1])
				if err != nil {
					return err
				}
				defer f.Close()
				if out.Pages, out.Header, err = swapHeader(ctx, f); err != nil {
					return fmt.Errorf("%s: %s: %w", args[0], args[1], err)
				}
				err = f.Inode.SwapActivate(ctx, out.Pages, func(e vfs.SwapExtent) error {
					out.Extents = append(out.Extents, swapExtent{e.Page, e.Pages, e.Addr})
					return nil
				})
				if err != nil {
					return fmt.Errorf("%s: %s: cannot be a swap file: %w", args[0], args[1], err)
				}
				f.Inode.SwapDeactivate()
				return nil
			})
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(a.stdout, out)
			}
			what := "its header says so"
			if !out.Header {
				what = "no swap header: all of the file (mkswap writes one)"
			}
			fmt.Fprintf(a.stdout, "%s: %d pages of 4096 bytes at most, %s\n", term.Printable(out.File), out.Pages, what)
			rows := [][]string{{"page", "pages", "address", ""}}
			for _, e := range out.Extents {
				rows = append(rows, []string{fmt.Sprint(e.Page), fmt.Sprint(e.Pages), fmt.Sprint(e.Address), ""})
			}
			return alignRight(a.stdout, rows)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return a.imageFlags(c)
}

// swapHeader reads the number of pages that may be used. Source: union swap_header of linux/swap.h, whose magic is at
// the end of the first page and whose last page is at byte 1028.
func swapHeader(ctx context.Context, f *vfs.File) (pages uint64, header bool, err error) {
	size := uint64(f.Inode.Size())
	if size < 2*4096 {
		return 0, false, fmt.Errorf("a swap file has two pages of 4096 bytes at least, this has %d bytes: %w", size, errno.INVAL)
	}
	var page [4096]byte
	if _, err := f.ReadAt(ctx, page[:], 0); err != nil && err != io.EOF {
		return 0, false, err
	}
	if string(page[4086:]) != "SWAPSPACE2" {
		return size / 4096, false, nil
	}
	last := uint64(binary.LittleEndian.Uint32(page[1028:]))
	if last == 0 || last >= size/4096 {
		return 0, true, fmt.Errorf("the swap header counts %d pages, the file has %d: %w", last+1, size/4096, errno.INVAL)
	}
	return last + 1, true, nil
}

// parseBytes reads the value of a flag that counts bytes.
func parseBytes(flag, val string) (int64, error) {
	n, err := mountopt.ParseSize(val)
	if err != nil {
		return 0, usage("%s: %w", flag, err)
	}
	return n, nil
}
