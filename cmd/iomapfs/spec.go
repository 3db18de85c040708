package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/iomapfs/iomapfs/fs/all"
	"github.com/iomapfs/iomapfs/images"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/block/file"
)

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

// table is what an image is cut into.
type table struct {
	Kind       string // gpt, dos or none
	UUID       string
	Size       int64
	Partitions []partition
}

var (
	errAmbiguous = images.ErrAmbiguous
	errNothing   = images.ErrNothing
)

// probeAny is images.Probe over all filesystems.
func probeAny(dev block.Device) (vfs.Probe, bool) {
	p, _, ok := all.Probe(dev)
	return p, ok
}

// openDevice opens what an image spec names: the partition it picks, or the only one that holds a filesystem.
// Without write the image is opened read-only, and nothing in this process can change it.
func openDevice(_ context.Context, spec string, m access) (block.Device, error) {
	d, _, err := images.Open(spec, file.Options{ReadOnly: !m.write, Direct: m.direct}, probeAny)
	return d, err
}

// openWhole opens an image for writing, whatever it holds; a partition only when it is named.
func openWhole(_ context.Context, spec string) (block.Device, error) {
	sp, err := images.Parse(spec)
	if err != nil {
		return nil, err
	}
	if sp == (images.Spec{Path: sp.Path}) {
		return file.Open(sp.Path, file.Options{})
	}
	d, _, err := images.Open(spec, file.Options{}, probeAny)
	return d, err
}

// absSpec makes the path in a spec absolute.
func absSpec(spec string) (string, error) {
	sp, err := images.Parse(spec)
	if err != nil {
		return "", err
	}
	path, err := filepath.Abs(sp.Path)
	return path + strings.TrimPrefix(spec, sp.Path), err
}

// partitionTable names the kind of partition table that a device holds, "" for none.
func partitionTable(dev block.Device) string {
	if t, err := images.ReadTable(dev); err == nil && t.Kind != "none" {
		return t.Kind
	}
	return ""
}

// readTable reads the partition table of an image; an image without one is its own only entry.
func readTable(_ context.Context, spec string) (*table, error) {
	sp, err := images.Parse(spec)
	if err != nil {
		return nil, err
	}
	d, err := file.Open(sp.Path, file.Options{ReadOnly: true})
	if err != nil {
		return nil, err
	}
	raw, err := images.ReadTable(d)
	t := &table{Kind: "none", Size: d.Size()}
	if _, ok := probeAny(d); err == nil && !ok { // a filesystem over the whole image has no partitions, whatever its boot sector says
		t.Kind, t.UUID = raw.Kind, raw.UUID
		for _, p := range raw.Partitions {
			t.Partitions = append(t.Partitions, partition{p.Number, fmt.Sprintf("%s@%d", sp.Path, p.Number), p.Start, p.Size, p.Type, p.Name, p.UUID})
		}
	}
	if len(t.Partitions) == 0 {
		t.Kind = "none"
		t.Partitions = []partition{{Spec: sp.Path, Size: t.Size}}
	}
	return t, errors.Join(err, d.Close())
}

// partitionOf gives the partition that a spec picks, nil when it is the whole image.
func partitionOf(ctx context.Context, spec string) (*partition, *table, error) {
	d, p, err := images.Open(spec, file.Options{ReadOnly: true}, probeAny)
	if err != nil {
		return nil, nil, err
	}
	if err := d.Close(); err != nil || p == nil {
		return nil, nil, err
	}
	t, err := readTable(ctx, spec)
	if err != nil {
		return nil, nil, err
	}
	for i := range t.Partitions {
		if t.Partitions[i].Number == p.Number {
			return &t.Partitions[i], t, nil
		}
	}
	return nil, t, nil
}
