package vfs

// Kiocb (struct kiocb) is one read or write in progress.
type Kiocb struct {
	File   *File
	Inode  *Inode
	Pos    int64 // bytes; moved on by what was done
	Direct bool  // O_DIRECT
	Append bool
	DSync  bool // data must be durable when done (O_DSYNC)
	Sync   bool // metadata too (O_SYNC)
	NoWait bool // errno.AGAIN rather than block
	HiPri  bool // poll for completion
	// DontCache (RWF_DONTCACHE) leaves nothing in the cache that was not there before: what is read is dropped after its use,
	// what is written is sent to the device soon, and dropped when it is there.
	DontCache bool
	// CachedAbove says that the caller has a cache of its own, as a kernel above us does: large transfers may go around
	// ours, which would only hold the same bytes a second time.
	CachedAbove bool

	// Synced is set by a direct write that made the data durable itself, so that no sync is needed.
	Synced bool

	// Done makes direct I/O asynchronous: the operation may answer ErrQueued and call Done once with the result.
	Done func(n int, err error)
	// CallerComp says that who gets Done can complete the request himself, where waiting is allowed (IOCB_DIO_CALLER_COMP). Where that
	// spares a goroutine Complete is set before Done is called, whose arguments then mean nothing: Complete, called once, gives the
	// result.
	CallerComp bool
	Complete   func() (n int, err error)
}
