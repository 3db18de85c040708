// Package iofs shows a mounted super block as an io/fs.FS, so that whatever reads through that interface reads images:
// fs.WalkDir, http.FS, template.ParseFS, testing/fstest, archive/tar's AddFS.
//
// It reads and never changes anything; access times follow the mount's options. Paths are io/fs paths. Symbolic links are
// followed, as os.DirFS does; absolute ones begin at the super block's root, and ".." in one never leaves it. No
// permission is checked: whoever holds the super block may read it all.
//
// FS offers fs.StatFS, fs.ReadDirFS, fs.ReadFileFS and fs.ReadLinkFS; its files fs.ReadDirFile, io.ReaderAt and io.Seeker.
// All of it may be used by several goroutines at once, but for one open file's position. Files hold a reference of their
// inode until Close; close them before the super block is unmounted.
//
//	fsys := iofs.New(ctx, sb)
//	fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error { … })
//
// Errors are *fs.PathError around an errno.Errno; errors.Is(err, fs.ErrNotExist) and its like work.
package iofs
