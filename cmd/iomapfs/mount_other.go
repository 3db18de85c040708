//go:build !linux

package main

import (
	"errors"
	"runtime"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/spf13/cobra"
)

var errNoMount = errors.New("mounting needs Linux; on " + runtime.GOOS + " use iomapfs ls, cat and cp, which do without")

func (a *app) mountCommands() []*cobra.Command {
	return []*cobra.Command{{
		Use: "mount IMAGE MOUNTPOINT", Short: "Mount an image (Linux only)", GroupID: "mount",
		RunE: func(*cobra.Command, []string) error { return errNoMount },
	}}
}

func (a *app) mountHelper(string, []string) error  { return errNoMount }
func (a *app) umountHelper(string, []string) error { return errNoMount }

// mountedFiemap: nothing is mounted on this host.
func mountedFiemap(*fiemapOut, *vfs.FiemapInfo) error { return errNoMount }

// mountedSeek: nothing is mounted on this host.
func mountedSeek(string) ([]segment, error) { return nil, errNoMount }
