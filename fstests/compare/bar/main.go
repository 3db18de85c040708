// Command bar measures the iomap path of ext2 against the legacy one in process, in one run, and prints a table: processor time of
// each operation on both, and the ratio, beside what the project asks of itself.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"runtime/pprof"
	"strconv"
	"strings"

	"github.com/iomapfs/iomapfs/fstests/compare"
	"github.com/iomapfs/iomapfs/vfs"
)

func main() {
	var o compare.BarOptions
	flag.IntVar(&o.Rounds, "rounds", 15, "rounds of each operation on each path")
	flag.StringVar(&o.Only, "run", "", "operations whose name contains this")
	flag.BoolVar(&o.Copies, "copy", false, "the device copies memory")
	flag.IntVar(&o.Extents, "extents", 1_000_000, "extents of the file of very many")
	sizes := flag.String("b", "1024,4096", "block sizes")
	profile := flag.String("cpuprofile", "", "measure one path alone (-path), and write a profile of it here")
	path := flag.String("path", "iomap", "which path, legacy or iomap")
	flag.Parse()
	if err := run(o, strings.Split(*sizes, ","), *profile, *path); err != nil {
		fmt.Fprintln(os.Stderr, "bar:", err)
		os.Exit(1)
	}
}

func run(o compare.BarOptions, sizes []string, profile, path string) error {
	if profile != "" {
		f, err := os.Create(profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if o.Alone, o.Path = true, vfs.Iomap; path == "legacy" {
			o.Path = vfs.Legacy
		}
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	for _, size := range sizes {
		n, err := strconv.ParseUint(size, 10, 32)
		if err != nil {
			return fmt.Errorf("-b %s: want block sizes: %w", size, err)
		}
		o.BlockSize = uint32(n)
		list, err := compare.MeasureBar(context.Background(), o)
		if err != nil {
			return err
		}
		fmt.Printf("\nBlocks of %d bytes:\n\n| operation | ns of CPU a | legacy | iomap | legacy : iomap | quartiles | asked |\n|---|---|---:|---:|---:|---:|---:|\n", n)
		for _, b := range list {
			met := ""
			if !b.Met() {
				met = ", missed"
			}
			if !b.Clear() {
				met += ", within the spread"
			}
			fmt.Printf("| %s | %s | %.0f | %.0f | %.2f | %.2f–%.2f | %.2g%s |\n", b.Op, b.Unit, b.Legacy, b.Iomap, b.Ratio, b.Low, b.High, b.Want, met)
		}
	}
	return nil
}
