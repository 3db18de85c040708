package main

import (
	"context"
	"errors"
	"path/filepath"

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
	errAmbiguous = errors.New("ambiguous")
	errNothing   = errors.New("nothing")
)

// openDevice opens what an image spec names: the partition it picks, or the only one that holds a filesystem.
// Without write the image is opened read-only, and nothing in this process can change it.
func openDevice(ctx context.Context, spec string, m access) (block.Device, error) {
	return file.Open(spec, file.Options{ReadOnly: !m.write, Direct: m.direct})
}

// openWhole opens an image for writing, whatever it holds.
func openWhole(ctx context.Context, spec string) (block.Device, error) {
	return file.Open(spec, file.Options{})
}

func absSpec(spec string) (string, error) { return filepath.Abs(spec) }

func partitionTable(block.Device) string { return "" }

func readTable(ctx context.Context, spec string) (*table, error) {
	d, err := file.Open(spec, file.Options{ReadOnly: true})
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return &table{Kind: "none", Size: d.Size(), Partitions: []partition{{Spec: spec, Size: d.Size()}}}, nil
}

func partitionOf(ctx context.Context, spec string) (*partition, *table, error) { return nil, nil, nil }
