//go:build linux

package main

import (
	"fmt"
	"slices"
	"strings"
)

// print writes the tables.
func (b *bench) print() {
	b.printRates()
	b.printCost()
	fmt.Printf("\nThe middle of %d rounds.\n", b.rounds)
}

// ratios lists the pairs of one of ours and a reference, by their places in sys.
func (b *bench) ratios() (pairs [][2]int) {
	for _, name := range b.references {
		ref := slices.IndexFunc(b.sys, func(s system) bool { return s.name == name })
		for i, s := range b.sys {
			if s.ours && ref >= 0 {
				pairs = append(pairs, [2]int{i, ref})
			}
		}
	}
	return pairs
}

// column gives one number of each round of a workload on a system.
func (b *bench) column(w string, sys int, of func(r result) float64) (list []float64) {
	for _, r := range b.results[w][sys] {
		list = append(list, of(r))
	}
	return list
}

func rateOf(r result) float64 { return r.rate }

// printRates writes the middle of the rounds, and how many times the rate of each reference in the same round each of ours
// has: the middle, and from the least to the most.
func (b *bench) printRates() {
	head, rule := "| workload | unit |", "|---|---|"
	for _, s := range b.sys {
		head += " " + s.name + " |"
		rule += "---:|"
	}
	for _, p := range b.ratios() {
		head += " " + strings.TrimPrefix(b.sys[p[0]].name, "iomapfs ") + " : " + b.sys[p[1]].name + " |"
		rule += "---:|"
	}
	fmt.Println(head)
	fmt.Println(rule)
	for _, w := range b.work {
		line := "| " + w.name + " | " + w.unit + " |"
		for i := range b.sys {
			line += cell(b.column(w.name, i, rateOf), "%.0f")
		}
		for _, p := range b.ratios() {
			ratio, base := b.column(w.name, p[0], rateOf), b.column(w.name, p[1], rateOf)
			if len(base) == 0 {
				ratio = nil
			}
			for r := range ratio {
				ratio[r] /= base[r]
			}
			text := cell(ratio, "%.1f")
			if len(ratio) > 1 {
				text = strings.TrimSuffix(text, "|") + fmt.Sprintf("(%.1f to %.1f) |", slices.Min(ratio), slices.Max(ratio))
			}
			line += text
		}
		fmt.Println(line)
	}
}

// cell writes the middle of the rounds, or nothing for a system that does not do this.
func cell(v []float64, format string) string {
	if len(v) == 0 {
		return " |"
	}
	return " " + fmt.Sprintf(format, middle(v)) + " |"
}

// one makes a unit singular.
var one = strings.NewReplacer("files", "file", "reads", "read", "writes", "write", "entries", "entry")

// printCost writes what one operation costs the processor: the daemon's share and the caller's, who is charged for what
// the kernel does on his behalf.
func (b *bench) printCost() {
	head, rule, peak := "| µs of CPU, daemon + caller | for one |", "|---|---|", "| peak memory of the daemon, MiB | |"
	for i, s := range b.sys {
		head += " " + s.name + " |"
		rule += "---:|"
		most := 0.0
		for _, w := range b.work {
			for _, r := range b.results[w.name][i] {
				most = max(most, r.peak)
			}
		}
		peak += fmt.Sprintf(" %.0f |", most)
	}
	fmt.Println()
	fmt.Println(head)
	fmt.Println(rule)
	for _, w := range b.work {
		line := "| " + w.name + " | " + one.Replace(strings.TrimSuffix(w.unit, "/s")) + " |"
		for i := range b.sys {
			if len(b.results[w.name][i]) == 0 {
				line += " |"
				continue
			}
			d := middle(b.column(w.name, i, func(r result) float64 { return r.daemon }))
			c := middle(b.column(w.name, i, func(r result) float64 { return r.caller }))
			line += fmt.Sprintf(" %.1f + %.1f |", d*1e6, c*1e6)
		}
		fmt.Println(line)
	}
	fmt.Println(peak)
}
