package errno

import "syscall"

// fromHost maps the host's number to Linux's: on Linux they are the same.
func fromHost(s syscall.Errno) Errno { return Errno(s) }
