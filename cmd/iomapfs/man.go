package main

import (
	"os"
	"time"

	"github.com/iomapfs/iomapfs/fs/ext2/mkfs"
	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// manCmd writes the manual pages, for packagers: one a command, as make man and make install have them.
func (a *app) manCmd() *cobra.Command {
	return &cobra.Command{
		Use:    "man DIR",
		Short:  "Write the manual pages into a directory",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			date, err := mkfs.SourceDateEpoch(os.Getenv("SOURCE_DATE_EPOCH"))
			if err != nil {
				return err
			}
			if date.IsZero() {
				date = time.Now()
			}
			root := cmd.Root()
			root.DisableAutoGenTag = true
			return doc.GenManTree(root, &doc.GenManHeader{Title: "IOMAPFS", Section: "1", Source: "iomapfs " + version, Date: &date}, args[0])
		},
	}
}
