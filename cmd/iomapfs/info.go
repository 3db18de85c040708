package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/iomapfs/iomapfs/cmd/internal/term"
	"github.com/iomapfs/iomapfs/fs/all"
	"github.com/iomapfs/iomapfs/images"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/spf13/cobra"
)

// Exit status of probe, as blkid(8).
const (
	probeNothing   = 2
	probeUsage     = 4
	probeAmbiguous = 8
)

// listRow is one partition as list shows it.
type listRow struct {
	partition
	FSType string `json:"fstype"`
	Label  string `json:"label"`
	FSUUID string `json:"fs_uuid"`
	Note   string `json:"note,omitempty"` // what else it holds, or why it could not be read
}

func (a *app) listCmd() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "list IMAGE",
		Short: "Partitions and what they hold",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := readTable(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			rows := []listRow{}
			for _, p := range t.Partitions {
				rows = append(rows, lookInto(cmd.Context(), p))
			}
			if asJSON {
				return printJSON(a.stdout, struct {
					Image      string    `json:"image"`
					Size       int64     `json:"size"`
					Table      string    `json:"table"` // gpt, dos or none
					UUID       string    `json:"uuid,omitempty"`
					Partitions []listRow `json:"partitions"`
				}{args[0], t.Size, t.Kind, t.UUID, rows})
			}
			fmt.Fprintf(a.stdout, "%s: %s (%d bytes), partition table: %s\n", term.Printable(args[0]), term.Size(t.Size), t.Size, t.Kind)
			var cells [][]string
			for _, r := range rows {
				holds := r.FSType
				if holds == "" {
					holds = r.Note
				}
				cells = append(cells, []string{r.Spec, fmt.Sprint(r.Start), term.Size(r.Size), holds, term.Printable(r.Label), r.FSUUID, term.Printable(r.Name)})
			}
			return term.Table(a.stdout, []string{"SPEC", "START", "SIZE", "HOLDS", "LABEL", "UUID", "NAME"}, cells)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return c
}

// lookInto probes a partition.
func lookInto(ctx context.Context, p partition) listRow {
	r := listRow{partition: p}
	dev, err := openDevice(ctx, p.Spec, access{peek: true})
	if err != nil {
		r.Note = oneLine(err)
		return r
	}
	if f, _, ok := all.Probe(dev); ok {
		r.FSType, r.Label, r.FSUUID = f.Type, f.Label, f.UUID
	} else {
		r.Note = all.Foreign(dev)
	}
	if err := dev.Close(); err != nil {
		r.Note = oneLine(err)
	}
	return r
}

func (a *app) probeCmd() *cobra.Command {
	var format string
	var keys []string
	var asJSON bool
	c := &cobra.Command{
		Use:   "probe IMAGE",
		Short: "What an image holds, in the keys of blkid",
		Long: `probe prints what blkid -p -o export prints: DEVNAME TYPE VERSION LABEL UUID BLOCK_SIZE FSSIZE USAGE and, for a partition,
PART_ENTRY_…; for a disk with partitions PTTYPE and PTUUID. Exit status: 0 found, 2 nothing found, 4 wrong usage, 8 several
partitions hold a filesystem and none was named.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return &exitError{probeUsage, errors.New("usage: iomapfs probe IMAGE")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if asJSON {
				format = "json"
			}
			switch format {
			case "export", "json", "table", "value":
			default:
				return &exitError{probeUsage, fmt.Errorf("-o %s: the formats are export, json, table and value", format)}
			}
			kv, err := a.probe(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return printProbe(a.stdout, format, kv, keys)
		},
	}
	c.Flags().StringVarP(&format, "output", "o", "export", "export, json, table or value")
	c.Flags().StringSliceVarP(&keys, "match-tag", "s", nil, "only these keys")
	c.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return c
}

// pair is one key of blkid.
type pair struct{ key, val string }

func (a *app) probe(ctx context.Context, spec string) ([]pair, error) {
	dev, err := openDevice(ctx, spec, access{peek: true})
	if err != nil {
		return a.probeTable(ctx, spec, err)
	}
	kv, err := probeDevice(ctx, spec, dev)
	return kv, errors.Join(err, dev.Close())
}

// probeTable answers for a disk of whose partitions none could be picked.
func (a *app) probeTable(ctx context.Context, spec string, why error) ([]pair, error) {
	if !errors.Is(why, images.ErrAmbiguous) && !errors.Is(why, images.ErrNothing) {
		return nil, why
	}
	code := probeNothing
	if errors.Is(why, images.ErrAmbiguous) {
		code = probeAmbiguous
	}
	if t, err := readTable(ctx, spec); err == nil && t.Kind != "none" && code == probeNothing {
		return []pair{{"DEVNAME", spec}, {"PTTYPE", t.Kind}, {"PTUUID", t.UUID}}, nil
	}
	return nil, &exitError{code, why}
}

func probeDevice(ctx context.Context, spec string, dev block.Device) ([]pair, error) {
	kv := []pair{{"DEVNAME", spec}}
	p, _, ok := all.Probe(dev)
	if !ok {
		why := "nothing that iomapfs knows"
		if s := all.Foreign(dev); s != "" {
			why = s
		}
		return nil, &exitError{probeNothing, fmt.Errorf("%s: holds %s", spec, why)}
	}
	kv = append(kv, pair{"LABEL", p.Label}, pair{"UUID", p.UUID}, pair{"VERSION", p.Version}, pair{"BLOCK_SIZE", fmt.Sprint(p.BlockSize)},
		pair{"FSSIZE", fmt.Sprint(p.Size)}, pair{"SEC_TYPE", p.SecType}, pair{"TYPE", p.Type}, pair{"USAGE", "filesystem"})
	e, t, err := partitionOf(ctx, spec)
	if err != nil {
		return nil, err
	}
	if e != nil {
		kv = append(kv, pair{"PART_ENTRY_SCHEME", t.Kind}, pair{"PART_ENTRY_NAME", e.Name}, pair{"PART_ENTRY_UUID", e.UUID}, pair{"PART_ENTRY_TYPE", e.Type},
			pair{"PART_ENTRY_NUMBER", fmt.Sprint(e.Number)}, pair{"PART_ENTRY_OFFSET", fmt.Sprint(e.Start / 512)}, pair{"PART_ENTRY_SIZE", fmt.Sprint(e.Size / 512)})
	}
	return kv, nil
}

func printProbe(w io.Writer, format string, kv []pair, keys []string) error {
	kept := kv[:0]
	for _, p := range kv {
		wanted := len(keys) == 0
		for _, k := range keys {
			wanted = wanted || strings.EqualFold(k, p.key)
		}
		if p.val != "" && wanted {
			kept = append(kept, p)
		}
	}
	if len(kept) == 0 {
		return &exitError{probeNothing, nil}
	}
	if format == "json" {
		m := map[string]string{}
		for _, p := range kept {
			m[p.key] = p.val
		}
		return printJSON(w, m)
	}
	var rows [][]string
	for _, p := range kept {
		switch format {
		case "export":
			fmt.Fprintf(w, "%s=%s\n", p.key, exportQuote(p.val))
		case "value":
			fmt.Fprintln(w, term.Printable(p.val))
		default:
			rows = append(rows, []string{p.key, term.Printable(p.val)})
		}
	}
	return term.Table(w, nil, rows)
}

// exportQuote escapes what a shell would act on by a backslash, as blkid -o export does.
func exportQuote(s string) string {
	var b strings.Builder
	for _, r := range term.Printable(s) {
		if strings.ContainsRune(" \t\"'\\$`&;()<>|*?[]#~!{}", r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}

func (a *app) infoCmd() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "info IMAGE",
		Short: "Geometry, features and state of a filesystem",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			dev, err := openDevice(cmd.Context(), args[0], access{})
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, dev.Close()) }()
			k, err := all.Which(dev, a.fstype)
			if err != nil {
				return err
			}
			in, err := k.Info(dev)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(a.stdout, in)
			}
			rows := [][]string{
				{"type", in.Type},
				{"label", term.Printable(in.Label)},
				{"uuid", in.UUID},
				{"state", in.State},
				{"features", strings.Join(in.Features, " ")},
			}
			for _, f := range in.Fields {
				v := term.Printable(fmt.Sprint(f.Value))
				if v == "" {
					continue
				}
				if n, ok := f.Value.(int64); ok && f.Unit == "bytes" && n >= 1<<20 {
					v += " (" + term.Size(n) + ")"
				}
				rows = append(rows, []string{f.Name, v})
			}
			return term.Table(a.stdout, nil, rows)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return a.imageFlags(c)
}
