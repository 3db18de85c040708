package vfs

import (
	"context"
	"fmt"
	"io"
	"math"
	"sync"
	"sync/atomic"

	"github.com/iomapfs/iomapfs/vfs/errno"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
)

// OpenFlags are open(2)'s, Linux numbers on every host.
type OpenFlags uint32

// Flags that the VFS acts on.
const (
	ORdonly  OpenFlags = 0
	OWronly  OpenFlags = 1
	ORdwr    OpenFlags = 2
	OAccMode OpenFlags = 3
	OTrunc   OpenFlags = 0o1000
	OAppend  OpenFlags = 0o2000
	ODSync   OpenFlags = 0o10000
	ODirect  OpenFlags = 0o40000
	OSync    OpenFlags = 0o4010000
	ONoAtime OpenFlags = 0o1000000
)

// File (struct file) is an open file description. It holds a reference of its inode until Close.
type File struct {
	Inode   *Inode
	Flags   OpenFlags
	Private any // the filesystem's

	// RaMu guards Ra. Leaf; parallel readers that fail to take it read without readahead state.
	RaMu sync.Mutex
	Ra   pagecache.Readahead

	errMu   sync.Mutex // guards since, sinceSB; leaf
	since   uint64     // errors of the file seen so far
	sinceSB uint64     // errors of metadata seen so far
	sinceFS uint64     // errors of data of any file seen so far, by SyncFS

	closed atomic.Bool
}

// Open makes an open file of ip, taking a reference of its own. Permission was checked by the caller.
// Errors: errno.ROFS for writing on a read-only filesystem, errno.ISDIR for writing a directory, errno.PERM for
// immutable and append-only files.
func (ip *Inode) Open(ctx context.Context, flags OpenFlags) (*File, error) {
	write := flags&OAccMode != ORdonly || flags&OTrunc != 0
	if write {
		if ip.IsDir() {
			return nil, errno.ISDIR
		}
		if ip.IsRegular() && ip.sb.ReadOnly() {
			return nil, errno.ROFS
		}
		if err := ip.checkWritable(flags&OAppend != 0 && flags&OTrunc == 0); err != nil {
			return nil, err
		}
	}
	f := &File{Inode: ip.Hold(), Flags: flags}
	f.since, f.sinceSB, f.sinceFS = ip.Pages.SampleError(), ip.sb.Err.Sample(), ip.sb.WB.SampleError()
	if open := ip.Fop.Open; open != nil {
		if err := open(ctx, f); err != nil {
			ip.Put()
			return nil, err
		}
	}
	if write {
		ip.writers.Add(1)
	}
	if flags&OTrunc != 0 && ip.IsRegular() {
		if err := ip.SetAttr(ctx, Root, &SetAttr{Valid: SetSize, File: f}); err != nil {
			f.Close()
			return nil, err
		}
	}
	return f, nil
}

// Close drops the file. Errors of writeback that no fsync asked for stay for other open files.
func (f *File) Close() {
	if f.closed.Swap(true) {
		return
	}
	if f.writable() {
		f.Inode.writers.Add(-1)
	}
	if rel := f.Inode.Fop.Release; rel != nil {
		rel(f)
	}
	f.Inode.Put()
}

func (f *File) writable() bool { return f.Flags&OAccMode != ORdonly || f.Flags&OTrunc != 0 }

// Kiocb makes the request for one transfer at pos with the file's flags.
func (f *File) Kiocb(pos int64) Kiocb {
	return Kiocb{
		File: f, Inode: f.Inode, Pos: pos, Direct: f.Flags&ODirect != 0, Append: f.Flags&OAppend != 0,
		DSync: f.Flags&ODSync != 0, Sync: f.Flags&OSync == OSync,
	}
}

// ReadAt reads into p from pos on, as the file's flags say. Fewer bytes than asked only at EOF.
func (f *File) ReadAt(ctx context.Context, p []byte, pos int64) (int, error) {
	k := f.Kiocb(pos)
	return k.Read(ctx, p)
}

// WriteAt writes p at pos, as the file's flags say.
func (f *File) WriteAt(ctx context.Context, p []byte, pos int64) (int, error) {
	k := f.Kiocb(pos)
	return k.Write(ctx, p)
}

// Read runs the request as a read into p.
func (k *Kiocb) Read(ctx context.Context, p []byte) (int, error) {
	ip := k.Inode
	switch {
	case ip.sb.IsShutdown():
		return 0, errno.IO
	case ip.Fop.Read == nil:
		if ip.IsDir() {
			return 0, errno.ISDIR
		}
		return 0, errno.INVAL
	case k.Pos < 0:
		return 0, errno.INVAL
	case len(p) == 0:
		return 0, nil
	}
	n, err := ip.Fop.Read(ctx, k, p)
	if n > 0 && !ip.sb.NoAtime && (k.File == nil || k.File.Flags&ONoAtime == 0) {
		ip.touchAtime()
	}
	return n, err
}

// Write runs the request as a write of p, synchronous as its flags ask.
func (k *Kiocb) Write(ctx context.Context, p []byte) (int, error) {
	ip := k.Inode
	if ip.Fop.Write == nil {
		if ip.IsDir() {
			return 0, errno.ISDIR
		}
		return 0, errno.INVAL
	}
	if k.Pos < 0 {
		return 0, errno.INVAL
	}
	if err := ip.sb.WantWrite(); err != nil {
		return 0, err
	}
	defer ip.sb.EndWrite()
	if ip.IsSwap() {
		return 0, errno.TXTBSY
	}
	if len(p) == 0 {
		return 0, nil
	}
	if !k.Append {
		if k.Pos >= ip.sb.MaxBytes {
			return 0, errno.FBIG
		}
		if left := ip.sb.MaxBytes - k.Pos; int64(len(p)) > left {
			p = p[:left]
		}
	}
	flags := ip.Flags()
	n, err := ip.Fop.Write(ctx, k, p)
	if k.DontCache && n > 0 && !k.Direct {
		_ = ip.Pages.FlushStart(ctx, k.Pos-int64(n), k.Pos) // what goes wrong is recorded for fsync
	}
	if err == nil && n > 0 && !k.Synced && (k.DSync || k.Sync || flags&FlagSync != 0) && k.File != nil {
		if serr := k.File.fsync(ctx, k.Pos-int64(n), k.Pos, !k.Sync && flags&FlagSync == 0); serr != nil {
			return 0, serr
		}
	}
	return n, err
}

// KillPrivs (file_remove_privs) drops the set-id bits after a write by somebody without privilege. Hold Rw exclusively.
func (ip *Inode) KillPrivs() {
	ip.AttrMu.Lock()
	m := ip.A.Mode
	n := m &^ ModeSetUID
	if m&0o010 != 0 {
		n &^= ModeSetGID
	}
	ip.A.Mode = n
	ip.AttrMu.Unlock()
	if n != m {
		ip.Dirty(DirtyMeta)
	}
}

// touchAtime follows relatime: the access time moves when it is older than a change, or than a day; with StrictAtime always.
func (ip *Inode) touchAtime() {
	if ip.sb.ReadOnly() {
		return
	}
	ip.AttrMu.Lock()
	a := &ip.A
	stale := ip.sb.StrictAtime || !a.Mtime.Before(a.Atime) || !a.Ctime.Before(a.Atime)
	if !stale || a.Flags&FlagNoAtime != 0 {
		now := Time{}
		if a.Flags&FlagNoAtime == 0 {
			now = ip.sb.Now()
		}
		if now.Sec-a.Atime.Sec < 24*3600 {
			ip.AttrMu.Unlock()
			return
		}
		stale = true
	}
	now := ip.sb.Now()
	moved := a.Atime != now
	a.Atime = now
	ip.AttrMu.Unlock()
	if moved {
		ip.Dirty(DirtyTimes)
	}
}

// Seek answers SEEK_DATA and SEEK_HOLE (the other forms are the caller's arithmetic). errno.NXIO at or past EOF.
func (f *File) Seek(ctx context.Context, pos int64, whence int) (int64, error) {
	ip := f.Inode
	size := ip.Size()
	switch whence {
	case SeekData, SeekHole:
		if pos < 0 || pos >= size {
			return 0, errno.NXIO
		}
		if ip.Fop.Seek != nil {
			return ip.Fop.Seek(ctx, f, pos, whence)
		}
		if whence == SeekData {
			return pos, nil
		}
		return size, nil
	case io.SeekStart:
		return pos, nil
	case io.SeekEnd:
		return size + pos, nil
	}
	return 0, errno.INVAL
}

// Fsync makes the file durable and reports each error of writeback once to this open file. On a filesystem that was aborted it
// answers errno.IO every time (SuperBlock.Abort). The end of ctx does not end it.
func (f *File) Fsync(ctx context.Context, datasync bool) error {
	return f.fsync(ctx, 0, math.MaxInt64, datasync)
}

func (f *File) fsync(ctx context.Context, start, end int64, datasync bool) error {
	ip := f.Inode
	if ip.sb.IsShutdown() {
		return errno.IO
	}
	var err error
	// As on every local filesystem, no signal ends it: who gets EINTR from fsync takes his data for lost.
	ctx = context.WithoutCancel(ctx)
	if fs := ip.Fop.Fsync; fs != nil && (!ip.sb.ReadOnly() || ip.sb.Aborted() != nil) {
		err = fs(ctx, f, start, end, datasync)
	}
	f.errMu.Lock()
	perr := ip.Pages.CheckError(&f.since)
	serr := ip.sb.Err.Check(&f.sinceSB)
	f.errMu.Unlock()
	if aborted := ip.sb.Aborted(); aborted != nil {
		err = aborted // also when it happened meanwhile
	}
	for _, e := range []error{err, perr, serr} {
		if e != nil {
			return fmt.Errorf("fsync: inode %d: %w", ip.ino, e)
		}
	}
	return nil
}

// SyncFS (syncfs) makes the whole filesystem durable and reports an error of writing any of its files once to this open file.
func (f *File) SyncFS(ctx context.Context) error {
	sb := f.Inode.sb
	err := sb.Sync(ctx)
	f.errMu.Lock()
	werr := sb.WB.CheckError(&f.sinceFS)
	f.errMu.Unlock()
	if err == nil {
		err = werr
	}
	if err != nil {
		return fmt.Errorf("syncfs: %w", err)
	}
	return nil
}

// Fallocate changes the allocation of [pos, pos+n) as mode says (Falloc… bits).
func (f *File) Fallocate(ctx context.Context, mode uint32, pos, n int64) error {
	ip := f.Inode
	const known = FallocKeepSize | FallocPunchHole | FallocCollapse | FallocZeroRange | FallocInsert | FallocUnshare
	switch {
	case pos < 0 || n <= 0:
		return errno.INVAL
	case mode&^known != 0:
		return errno.OPNOTSUPP
	case mode&FallocPunchHole != 0 && mode&FallocKeepSize == 0:
		return errno.OPNOTSUPP
	case ip.IsDir():
		return errno.ISDIR
	case !ip.IsRegular():
		return errno.NODEV
	case pos > ip.sb.MaxBytes-n:
		return errno.FBIG
	case ip.Fop.Fallocate == nil:
		return errno.OPNOTSUPP
	}
	if err := ip.checkWritable(mode&^FallocKeepSize == 0); err != nil {
		return err
	}
	if err := ip.sb.WantWrite(); err != nil {
		return err
	}
	defer ip.sb.EndWrite()
	if ip.IsSwap() {
		return errno.TXTBSY
	}
	if err := ip.Fop.Fallocate(ctx, f, mode, pos, n); err != nil {
		return err
	}
	if f.Flags&ODSync != 0 {
		return f.fsync(ctx, pos, pos+n, f.Flags&OSync != OSync)
	}
	return nil
}

// ReadDir lists from cookie pos on. "." and ".." are among the entries.
func (f *File) ReadDir(ctx context.Context, pos int64, emit func(*DirEntry) bool) error {
	ip := f.Inode
	if ip.Fop.ReadDir == nil {
		return errno.NOTDIR
	}
	if ip.sb.IsShutdown() {
		return errno.IO
	}
	ip.Rw.RLock()
	err := ip.Fop.ReadDir(ctx, f, pos, emit)
	ip.Rw.RUnlock()
	if err == nil && !ip.sb.NoAtime && !ip.sb.NoDirAtime {
		ip.touchAtime()
	}
	return err
}

// Fiemap reports the extents of the file, after writing it back when FiemapSync asks so.
func (ip *Inode) Fiemap(ctx context.Context, info *FiemapInfo) error {
	if ip.Op.Fiemap == nil {
		return errno.OPNOTSUPP
	}
	if info.Flags&FiemapSync != 0 {
		if err := ip.Pages.WriteAndWait(ctx, 0, math.MaxInt64); err != nil {
			return err
		}
	}
	return ip.Op.Fiemap(ctx, ip, info)
}

// Bmap gives the device block behind a file block, 0 for holes and errors. The file is written back first.
func (ip *Inode) Bmap(ctx context.Context, blk uint64) (uint64, error) {
	if ip.Op.Bmap == nil {
		return 0, errno.INVAL
	}
	if err := ip.Pages.WriteAndWait(ctx, 0, math.MaxInt64); err != nil {
		return 0, nil
	}
	return ip.Op.Bmap(ctx, ip, blk)
}

// SwapActivate makes the file a swap file and reports its usable page ranges; SwapDeactivate ends that.
// maxPages is what the swap header allows.
func (ip *Inode) SwapActivate(ctx context.Context, maxPages uint64, add func(SwapExtent) error) error {
	if ip.Op.SwapActivate == nil {
		return errno.INVAL
	}
	ip.Rw.Lock()
	defer ip.Rw.Unlock()
	if ip.IsSwap() {
		return errno.BUSY
	}
	if err := ip.Pages.WriteAndWait(ctx, 0, math.MaxInt64); err != nil {
		return err
	}
	if err := ip.Op.SwapActivate(ctx, ip, maxPages, add); err != nil {
		return err
	}
	ip.SetSwap(true)
	return nil
}

// SwapDeactivate allows changes again.
func (ip *Inode) SwapDeactivate() {
	ip.Rw.Lock()
	ip.SetSwap(false)
	ip.Rw.Unlock()
}

// CopyRange copies up to n bytes between two files of one super block through the cache, as copy_file_range(2) does.
// It stops at src's EOF.
func CopyRange(ctx context.Context, src *File, from int64, dst *File, to, n int64) (int64, error) {
	if !src.Inode.IsRegular() || !dst.Inode.IsRegular() {
		return 0, errno.INVAL
	}
	if src.Inode == dst.Inode && from < to+n && to < from+n {
		return 0, errno.INVAL
	}
	buf := make([]byte, min(n, 1<<20))
	var done int64
	for done < n {
		m, err := src.ReadAt(ctx, buf[:min(n-done, int64(len(buf)))], from+done)
		if m == 0 || err != nil {
			return done, err
		}
		w, err := dst.WriteAt(ctx, buf[:m], to+done)
		done += int64(w)
		if err != nil || w < m {
			if done > 0 {
				return done, nil
			}
			return 0, err
		}
	}
	return done, nil
}

// Writers is how many files have ip open for writing.
func (ip *Inode) Writers() int { return int(ip.writers.Load()) }
