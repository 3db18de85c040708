//go:build linux

package daemon

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"
)

// readyFD is the environment variable with the number of the pipe to the parent.
const readyFD = "IOMAPFS_READY_FD"

// Report is what a child says once.
type Report struct {
	Error string   // "": it serves
	Code  int      // exit status that belongs to Error
	Warn  []string // for the person who mounts
}

// Start runs this program again with args in a session of its own, its output going to the file log, and waits for its
// report. An interrupt while waiting is passed on to the child. Errors: the child could not be started, or ended
// without a report.
func Start(args []string, log string) (Report, error) {
	exe, err := os.Executable()
	if err != nil {
		return Report{}, err
	}
	out, err := os.OpenFile(log, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
	if err != nil {
		return Report{}, err
	}
	defer out.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return Report{}, err
	}
	defer r.Close()
	cmd := exec.Command(exe, args...)
	cmd.Args[0] = "iomapfs" // what we are called decides how arguments are read
	cmd.Env = append(os.Environ(), readyFD+"=3")
	cmd.ExtraFiles = []*os.File{w}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	w.Close()
	if err != nil {
		return Report{}, err
	}
	sigs := make(chan os.Signal, 2)
	signal.Notify(sigs, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(sigs)
	done := make(chan struct{})
	defer close(done)
	go func() {
		for {
			select {
			case <-sigs:
				_ = cmd.Process.Signal(syscall.SIGTERM) // it may be gone already
			case <-done:
				return
			}
		}
	}()
	line, err := bufio.NewReader(r).ReadBytes('\n')
	if err == nil {
		var rep Report
		if err = json.Unmarshal(line, &rep); err == nil {
			if rep.Error != "" {
				_ = cmd.Wait() // its status is in the report
			}
			return rep, nil
		}
	}
	if !errors.Is(err, io.EOF) {
		return Report{}, fmt.Errorf("report of the background process: %w", err)
	}
	state := "ended"
	if werr := cmd.Wait(); werr != nil {
		state = werr.Error()
	}
	return Report{}, fmt.Errorf("the background process said nothing before it was over (%s); its log is %s", state, log)
}

// Child reports to the parent that called Start.
type Child struct{ pipe *os.File }

// Parent gives the way to the parent, or nil in a process that Start did not make. Later children do not inherit it.
func Parent() *Child {
	fd, err := strconv.Atoi(os.Getenv(readyFD))
	if err != nil {
		return nil
	}
	os.Unsetenv(readyFD)
	syscall.CloseOnExec(fd)
	return &Child{os.NewFile(uintptr(fd), "parent")}
}

// Report tells the parent, once; later calls and calls on nil do nothing. A parent that is gone is an error.
func (c *Child) Report(r Report) error {
	if c == nil || c.pipe == nil {
		return nil
	}
	b, err := json.Marshal(r)
	if err == nil {
		_, err = c.pipe.Write(append(b, '\n'))
	}
	c.pipe.Close()
	c.pipe = nil
	return err
}
