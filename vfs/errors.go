package vfs

import "errors"

// ErrNotBlock says that direct I/O cannot serve the request and the caller takes the buffered path (ENOTBLK between
// layers). It never reaches a user.
var ErrNotBlock = errors.New("direct I/O not possible here")

// ErrQueued says that an asynchronous request was started and Kiocb.Done will report it (EIOCBQUEUED). It never reaches
// a user.
var ErrQueued = errors.New("request queued")
