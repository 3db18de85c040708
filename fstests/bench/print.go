//go:build linux

package main

import (
	"fmt"
	"slices"
	"strings"
)

// reference is the system that the ratios are taken against.
const reference = "fuse2fs"

// print writes the tables.
func (b *bench) print() {
	ref := slices.IndexFunc(b.sys, func(s system) bool { return s.name == reference })
	b.printRates(ref)
	b.printCost()
	fmt.Printf("\nThe middle of %d rounds.\n", b.rounds)
}

// column gives one number of each round of a workload on a system.
func (b *bench) column(w string, sys int, of func(r result) float64) (list []float64) {
	for _, r := range b.results[w][sys] {
		list = append(list, of(r))
	}
	return list
}

func rateOf(r result) float64 { return r.rate }

// printRates writes the middle of the rounds, and how many times the rate of the reference in the same round each of ours
// has: the middle, and from the least to the most.
func (b *bench) printRates(ref int) {
	head, rule := "| workload | unit |", "|---|---|"
	for i, s := range b.sys {
		head += " " + s.name + " |"
		if rule += "---:|"; s.ours && ref >= 0 && i != ref {
			rule += "---:|"
		}
	}
	for _, s := range b.sys {
		if s.ours && ref >= 0 {
			head += " " + strings.TrimPrefix(s.name, "iomapfs ") + " : " + reference + " |"
		}
	}
	fmt.Println(head)
	fmt.Println(rule)
	for _, w := range b.work {
		line := "| " + w.name + " | " + w.unit + " |"
		for i := range b.sys {
			line += fmt.Sprintf(" %.0f |", middle(b.column(w.name, i, rateOf)))
		}
		for i, s := range b.sys {
			if !s.ours || ref < 0 {
				continue
			}
			ratio := b.column(w.name, i, rateOf)
			for r, base := range b.column(w.name, ref, rateOf) {
				ratio[r] /= base
			}
			line += fmt.Sprintf(" %.1f", middle(ratio))
			if b.rounds > 1 {
				line += fmt.Sprintf(" (%.1f to %.1f)", slices.Min(ratio), slices.Max(ratio))
			}
			line += " |"
		}
		fmt.Println(line)
	}
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
			most = max(most, slices.Max(b.column(w.name, i, func(r result) float64 { return r.peak })))
		}
		peak += fmt.Sprintf(" %.0f |", most)
	}
	fmt.Println()
	fmt.Println(head)
	fmt.Println(rule)
	for _, w := range b.work {
		line := "| " + w.name + " | " + one.Replace(strings.TrimSuffix(w.unit, "/s")) + " |"
		for i := range b.sys {
			d := middle(b.column(w.name, i, func(r result) float64 { return r.daemon }))
			c := middle(b.column(w.name, i, func(r result) float64 { return r.caller }))
			line += fmt.Sprintf(" %.1f + %.1f |", d*1e6, c*1e6)
		}
		fmt.Println(line)
	}
	fmt.Println(peak)
}
