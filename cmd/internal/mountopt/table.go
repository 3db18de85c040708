package mountopt

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
)

// word is one mount word that iomapfs itself takes.
type word struct {
	key  string // canonical
	arg  string // placeholder of the value; "" takes none
	help string // "" for synonyms and what everybody knows
	set  func(o *Options, val string) error
}

var table = append(kernelWords(), []word{
	{"ro", "", "mount read-only: the image is opened read-only and not one byte of it changes", func(o *Options, _ string) error {
		o.ReadOnly = true
		return o.kernel("ro")
	}},
	{"rw", "", "mount read-write (default)", func(o *Options, _ string) error {
		o.ReadOnly = false
		return o.kernel("rw")
	}},
	{"noatime", "", "never update access times (default: relatime)", func(o *Options, _ string) error {
		o.NoAtime, o.StrictAtime = true, false
		return o.kernel("noatime")
	}},
	{"atime", "", "", func(o *Options, _ string) error { o.NoAtime = false; return o.kernel("atime") }},
	{"relatime", "", "update access times that are older than a change or a day (default)", setRelatime},
	{"norelatime", "", "", setStrictatime},
	{"strictatime", "", "update them at every read that reaches iomapfs: the kernel answers what it has cached", setStrictatime},
	{"nostrictatime", "", "", setRelatime},
	{"nodiratime", "", "never update access times of directories", func(o *Options, _ string) error { o.NoDirAtime = true; return nil }},
	{"diratime", "", "", func(o *Options, _ string) error { o.NoDirAtime = false; return nil }},
	{"dirsync", "", "changes of directories are durable before they are answered", setDirSync("dirsync", true)},
	{"sync", "", "so are these, and writes", setDirSync("sync", true)},
	{"async", "", "", setDirSync("async", false)},
	{"lazytime", "", "accepted: times are always written with the next commit", func(o *Options, _ string) error { return nil }},
	{"nolazytime", "", "", func(o *Options, _ string) error { return nil }},
	{"remount", "", "change ro or rw of the mount that is there", func(o *Options, _ string) error {
		o.Remount = true
		return nil
	}},

	{"uid", "USER", "all files belong to USER (number or name)", func(o *Options, v string) (err error) {
		o.UID, err = parseID(v, userID)
		return err
	}},
	{"gid", "GROUP", "all files belong to GROUP", func(o *Options, v string) (err error) {
		o.GID, err = parseID(v, groupID)
		return err
	}},
	{"umask", "MASK", "take these permission bits (octal) off everything", func(o *Options, v string) (err error) {
		o.Umask, err = parseMask(v)
		return err
	}},
	{"fmask", "MASK", "take these off files", func(o *Options, v string) (err error) { o.Fmask, err = parseMask(v); return err }},
	{"dmask", "MASK", "take these off directories", func(o *Options, v string) (err error) {
		o.Dmask, err = parseMask(v)
		return err
	}},
	{"preserve", "", "show owners as on the medium also when a user who is not root mounts", func(o *Options, _ string) error {
		o.Preserve = true
		return nil
	}},
	{"preserve-owner", "", "", func(o *Options, _ string) error { o.Preserve = true; return nil }},
	{"allow-other", "", "let other users in (needs user_allow_other in /etc/fuse.conf unless root mounts)", func(o *Options, _ string) error {
		o.AllowOther = true
		return nil
	}},
	{"auto-unmount", "", "", func(*Options, string) error {
		return errors.New("a mount that goes away with its server looks like deleted files; iomapfs umount takes a dead one away")
	}},
	{"allow-root", "", "", func(*Options, string) error {
		return errors.New("FUSE cannot let in root alone; allow_other lets in everybody that the permissions allow")
	}},

	{"cache", "SIZE", "page cache of this mount, such as 256M (default: a quarter of memory, at most 1G)", setCache},
	{"cache-size", "SIZE", "", setCache},
	{"direct-io", "", "open the image with O_DIRECT, past the host's cache", func(o *Options, _ string) error {
		o.DirectIO = true
		return nil
	}},
	{"path", "P", "serve every operation by legacy, bridge or iomap", func(o *Options, v string) error { return o.path("path=" + v) }},
	{"legacy", "OP+OP", "serve these operations by buffer heads: fiemap, seek, bmap, swap, dio-read …", func(o *Options, v string) error {
		return o.path("legacy=" + v)
	}},
	{"bridge", "OP+OP", "serve these by buffer heads over iomap", func(o *Options, v string) error { return o.path("bridge=" + v) }},
	{"iomap", "OP+OP", "serve these by iomap", func(o *Options, v string) error { return o.path("iomap=" + v) }},
	{"offset", "BYTES", "the filesystem begins at this byte of the image", func(o *Options, v string) (err error) {
		o.Offset, err = ParseSize(v)
		return err
	}},
	{"sizelimit", "BYTES", "and is at most this long", func(o *Options, v string) (err error) {
		o.SizeLimit, err = ParseSize(v)
		return err
	}},

	{"transport", "T", "carry requests by fuse, uring (io_uring) or auto (default)", func(o *Options, v string) error {
		if !slices.Contains([]string{"auto", "fuse", "uring"}, v) {
			return fmt.Errorf("the transports are auto, fuse and uring")
		}
		o.Transport = v
		return nil
	}},
	{"writeback-cache", "", "the kernel gathers writes (default)", func(o *Options, _ string) error { o.NoWriteback = false; return nil }},
	{"nowriteback-cache", "", "every write(2) reaches iomapfs at once", func(o *Options, _ string) error {
		o.NoWriteback = true
		return nil
	}},
	{"max-write", "SIZE", "largest request (default 1M)", func(o *Options, v string) error {
		n, err := ParseSize(v)
		if err == nil && (n < 4096 || n > 1<<20) {
			err = errors.New("from 4K to 1M")
		}
		o.MaxWrite = int(n)
		return err
	}},
	{"max-read", "SIZE", "", func(_ *Options, v string) error { _, err := ParseSize(v); return err }},
	{"readahead", "KIB", "readahead of the kernel (root only)", func(o *Options, v string) (err error) {
		o.Readahead, err = strconv.Atoi(v)
		if err != nil || o.Readahead < 0 || o.Readahead > 1<<20 {
			return fmt.Errorf("%q is not a number of KiB", v)
		}
		return nil
	}},
	{"entry-timeout", "SECONDS", "how long the kernel trusts names (default 1h)", func(o *Options, v string) (err error) {
		o.EntryTTL, err = parseSeconds(v)
		return err
	}},
	{"attr-timeout", "SECONDS", "how long it trusts attributes (default 1h)", func(o *Options, v string) (err error) {
		o.AttrTTL, err = parseSeconds(v)
		return err
	}},
	{"fsname", "NAME", "first column of /proc/mounts (default: the image)", func(o *Options, v string) error { o.FSName = v; return nil }},
	{"subtype", "NAME", "", func(o *Options, v string) error { o.Subtype = v; return nil }},
	{"fstype", "TYPE", "the image holds a filesystem of TYPE (default: probed)", func(o *Options, v string) error {
		o.FSType = v
		return nil
	}},
	{"log", "FILE", "log file (background mounts: a file of the state directory)", func(o *Options, v string) error {
		o.LogFile = v
		return nil
	}},
	{"debug", "", "log every request", func(o *Options, _ string) error { o.Debug = true; return nil }},
	{"trace", "", "log get_block calls, bios, commits", func(o *Options, _ string) error { o.Trace = true; return nil }},
}...)

// kernelWords are passed on as they are: the kernel's VFS acts on them.
func kernelWords() []word {
	var list []word
	for _, k := range []string{"nosuid", "suid", "nodev", "dev", "noexec", "exec", "nosymfollow"} {
		list = append(list, word{key: k, set: func(o *Options, _ string) error { return o.kernel(k) }})
	}
	return list
}

func (o *Options) kernel(w string) error {
	o.Kernel = append(o.Kernel, w)
	return nil
}

func (o *Options) path(w string) error {
	o.Paths = append(o.Paths, w)
	return nil
}

func setRelatime(o *Options, _ string) error {
	o.NoAtime, o.StrictAtime = false, false
	return nil
}

func setStrictatime(o *Options, _ string) error {
	o.NoAtime, o.StrictAtime = false, true
	return nil
}

// setDirSync is the word w for the kernel, which syncs writes but not names, and for the filesystem.
func setDirSync(w string, on bool) func(*Options, string) error {
	return func(o *Options, _ string) error {
		o.DirSync = on
		return o.kernel(w)
	}
}

func setCache(o *Options, v string) (err error) {
	o.Cache, err = ParseSize(v)
	if err == nil && o.Cache < 1<<20 {
		err = errors.New("at least 1M")
	}
	return err
}

func find(key string) *word {
	for i := range table {
		if table[i].key == key {
			return &table[i]
		}
	}
	return nil
}

// Help lists the words that iomapfs takes for every filesystem, in the order of the table: the word as written and
// what it does.
func Help() [][2]string {
	var rows [][2]string
	for _, d := range table {
		if d.help == "" {
			continue
		}
		w := d.key
		if d.arg != "" {
			w += "=" + d.arg
		}
		rows = append(rows, [2]string{w, d.help})
	}
	return rows
}
