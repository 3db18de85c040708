package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/iomapfs/iomapfs/fs/all"
	"github.com/iomapfs/iomapfs/images"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/block/file"
)

// access says how an image is to be opened.
type access struct {
	write  bool
	direct bool // past the host's cache
	peek   bool // look at tables and superblocks only, whoever writes meanwhile
}

func (m access) options() file.Options {
	return file.Options{ReadOnly: !m.write, Direct: m.direct, NoLock: m.peek}
}

func probe(dev block.Device) (vfs.Probe, bool) {
	p, _, ok := all.Probe(dev)
	return p, ok
}

// openDevice opens what an image spec names: the partition it picks, or the only one that holds a filesystem.
// Without write the image is opened read-only, and nothing in this process can change it.
func openDevice(_ context.Context, spec string, m access) (block.Device, error) {
	d, _, err := images.Open(spec, m.options(), probe)
	return d, err
}

// openWhole opens an image, or the partition a spec names, for writing, whatever it holds.
func openWhole(_ context.Context, spec string) (block.Device, error) {
	anything := func(block.Device) (vfs.Probe, bool) { return vfs.Probe{}, true }
	s, err := images.Parse(spec)
	if err != nil {
		return nil, err
	}
	if s.Label != "" || s.UUID != "" {
		anything = probe
	}
	d, _, err := images.Open(spec, access{write: true}.options(), anything)
	return d, err
}

// absSpec makes the path in a spec absolute.
func absSpec(spec string) (string, error) {
	s, err := images.Parse(spec)
	if err != nil {
		return "", err
	}
	abs, err := filepath.Abs(s.Path)
	return abs + spec[len(s.Path):], err
}

// partitionTable names the partition table of a device, or "".
func partitionTable(dev block.Device) string {
	t, err := images.ReadTable(dev)
	if err != nil || len(t.Partitions) == 0 {
		return ""
	}
	return fmt.Sprintf("a partition table (%s) of %s", t.Kind, count(len(t.Partitions), "partition"))
}

// partition is one entry of a partition table.
type partition struct {
	Number int    `json:"number"`
	Spec   string `json:"spec"`
	Start  int64  `json:"start"` // bytes
	Size   int64  `json:"size"`  // bytes
	Type   string `json:"part_type"`
	Name   string `json:"part_name"`
	UUID   string `json:"part_uuid"`
}

// table is what an image is cut into. Without a partition table there is one partition, number 0: the whole.
type table struct {
	Kind       string // gpt, dos or none
	UUID       string
	Size       int64
	Partitions []partition
}

// readTable reads the partition table of the image in a spec.
func readTable(_ context.Context, spec string) (t *table, err error) {
	s, err := images.Parse(spec)
	if err != nil {
		return nil, err
	}
	dev, err := file.Open(s.Path, access{peek: true}.options())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, dev.Close()) }()
	t = &table{Kind: "none", Size: dev.Size()}
	if _, whole := probe(dev); !whole {
		raw, err := images.ReadTable(dev)
		if err != nil {
			return nil, err
		}
		t.Kind, t.UUID = raw.Kind, raw.UUID
		for _, p := range raw.Partitions {
			t.Partitions = append(t.Partitions, partition{p.Number, fmt.Sprintf("%s@%d", s.Path, p.Number), p.Start, p.Size, p.Type, p.Name, p.UUID})
		}
	}
	if t.Kind == "none" {
		t.Partitions = []partition{{Spec: s.Path, Size: dev.Size()}}
	}
	return t, nil
}

// partitionOf gives the table entry that a spec picks, nil for the whole or a range.
func partitionOf(ctx context.Context, spec string) (*partition, *table, error) {
	dev, p, err := images.Open(spec, access{peek: true}.options(), probe)
	if err != nil {
		return nil, nil, err
	}
	if err := dev.Close(); err != nil || p == nil {
		return nil, nil, err
	}
	t, err := readTable(ctx, spec)
	if err != nil {
		return nil, nil, err
	}
	return &partition{p.Number, spec, p.Start, p.Size, p.Type, p.Name, p.UUID}, t, nil
}
