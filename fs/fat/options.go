package fat

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/iomapfs/iomapfs/fs/fat/codepage"
	"github.com/iomapfs/iomapfs/fs/fat/disk"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// Options are FAT's own mount words. The zero value is not the default: see parseOptions.
type Options struct {
	UID, GID     uint32
	FMask, DMask uint32 // permissions taken from files and directories
	AllowUtime   uint32 // who may set times besides the owner: 020 the group, 002 others. The host's checks apply; kept for status
	CodePage     int
	codePage     disk.CodePage
	ShortName    shortName
	NoNumber     bool           // nonumtail
	Zone         *time.Location // of the times on the medium
	Quiet        bool           // chmod and chown that cannot be stored are not refused
	ShowExec     bool           // only .EXE, .COM and .BAT may be executed
	SysImmutable bool           // files with the system attribute are immutable
	ReadOnlyDir  bool           // rodir: the read-only attribute of directories counts
	Errors       errorsWord
	Discard      bool
	UseFree      bool // usefree: trust FSInfo's count even when the filesystem was left in use
	Commit       time.Duration
	NoBarrier    bool
	Paths        vfs.Paths
}

// shortName is shortname=: how short names are shown and when a long one is stored.
type shortName uint8

const (
	shortMixed shortName = iota // shown as stored; a long name unless all capitals
	shortLower                  // shown in lower case; a long name unless all capitals
	shortWin95                  // shown in capitals; a long name unless all capitals
	shortWinNT                  // shown as stored; a long name for mixed case only
)

var shortNames = map[string]shortName{"mixed": shortMixed, "lower": shortLower, "win95": shortWin95, "winnt": shortWinNT}

type errorsWord uint8

const (
	errorsRemountRO errorsWord = iota
	errorsContinue
	errorsPanic
)

// help lists the words for --help.
var help = []vfs.OptionHelp{
	{Word: "uid=N, gid=N", Text: "owner of all files (who mounts)"},
	{Word: "umask=OCTAL, fmask=OCTAL, dmask=OCTAL", Text: "permissions that files and directories do not have (022)"},
	{Word: "allow_utime=OCTAL", Text: "accepted: who may set times is the kernel's to check"},
	{Word: "codepage=N", Text: "code page of short names and the label (437)"},
	{Word: "iocharset=utf8, utf8, utf8=1", Text: "accepted: names are UTF-8, always"},
	{Word: "shortname=mixed|lower|win95|winnt", Text: "how names of 8.3 are shown and stored (mixed)"},
	{Word: "nonumtail", Text: "short names without a number where they are free"},
	{Word: "nocase, check=r|n|s", Text: "accepted: names are found in any case, and kept as they were given"},
	{Word: "tz=UTC, time_offset=MINUTES", Text: "times on the medium are UTC, or so far from it (local time)"},
	{Word: "errors=continue|remount-ro|panic", Text: "what to do when damage is found (remount-ro); panic stops all changes at once"},
	{Word: "quiet", Text: "do not refuse changes of owner and mode that cannot be stored"},
	{Word: "showexec", Text: "only .EXE, .COM and .BAT may be executed"},
	{Word: "sys_immutable", Text: "files with the system attribute are immutable"},
	{Word: "rodir", Text: "the read-only attribute counts on directories too"},
	{Word: "flush", Text: "write metadata every second"},
	{Word: "usefree", Text: "trust the stored number of free clusters even after a crash"},
	{Word: "dots, nodots, dotsOK=yes|no, debug, fat=12|16|32", Text: "accepted and ignored, as the kernel does or did"},
	{Word: "discard, nodiscard", Text: "punch freed clusters out of the image (on for image files)"},
	{Word: "commit=SECONDS", Text: "how often metadata is written (5)"},
	{Word: "barrier, nobarrier", Text: "flush the device between the steps of metadata writeback (on)"},
	{Word: "path=legacy|bridge|iomap", Text: "the path of all operations (legacy)"},
	{Word: "legacy=OP+OP, bridge=…, iomap=…", Text: "the path of single operations: " + strings.Join(vfs.PathOpNames(), ", ")},
}

// parseOptions reads the words over the defaults.
func parseOptions(words []string, o *Options) error {
	o.UID, o.GID = uint32(max(os.Getuid(), 0)), uint32(max(os.Getgid(), 0))
	o.FMask, o.DMask, o.CodePage, o.Zone, o.Commit = 0o022, 0o022, codepage.Default, time.Local, 5*time.Second
	for _, w := range words {
		if ok, err := o.Paths.Set(w); err != nil {
			return err
		} else if ok {
			continue
		}
		if err := o.word(w); err != nil {
			return err
		}
	}
	cp, err := codepage.Find(o.CodePage)
	if err != nil {
		return fmt.Errorf("option codepage=%d: %w: %w", o.CodePage, err, errno.INVAL)
	}
	o.codePage = cp
	return nil
}

func (o *Options) word(w string) error {
	key, val, _ := strings.Cut(w, "=")
	var err error
	number := func(base int, most uint64) uint32 {
		n, e := strconv.ParseUint(val, base, 32)
		if e != nil || n > most {
			err = fmt.Errorf("option %q: want a number: %w", w, errno.INVAL)
		}
		return uint32(n)
	}
	switch key {
	case "uid":
		o.UID = number(10, 1<<32-1)
	case "gid":
		o.GID = number(10, 1<<32-1)
	case "umask":
		o.FMask = number(8, 0o777)
		o.DMask = o.FMask
	case "fmask":
		o.FMask = number(8, 0o777)
	case "dmask":
		o.DMask = number(8, 0o777)
	case "allow_utime":
		o.AllowUtime = number(8, 0o777)
	case "codepage":
		o.CodePage = int(number(10, 65535))
	case "iocharset":
		if val != "utf8" && val != "utf-8" {
			err = fmt.Errorf("option %q: names are UTF-8; want iocharset=utf8: %w", w, errno.INVAL)
		}
	case "utf8":
		if val == "0" || val == "no" || val == "false" {
			err = fmt.Errorf("option %q: names are UTF-8, always: %w", w, errno.INVAL)
		}
	case "shortname":
		s, ok := shortNames[val]
		if !ok {
			err = fmt.Errorf("option %q: want lower, win95, winnt or mixed: %w", w, errno.INVAL)
		}
		o.ShortName = s
	case "nonumtail":
		o.NoNumber = val != "0" && val != "no" && val != "false"
	case "tz":
		if val != "UTC" {
			err = fmt.Errorf("option %q: want tz=UTC; time_offset=MINUTES names another zone: %w", w, errno.INVAL)
		}
		o.Zone = time.UTC
	case "time_offset":
		m, e := strconv.Atoi(val)
		if e != nil || m < -24*60 || m > 24*60 {
			err = fmt.Errorf("option %q: want minutes from -1440 to 1440: %w", w, errno.INVAL)
		}
		o.Zone = time.FixedZone(w, m*60)
	case "errors":
		switch val {
		case "continue":
			o.Errors = errorsContinue
		case "remount-ro":
			o.Errors = errorsRemountRO
		case "panic":
			o.Errors = errorsPanic
		default:
			err = fmt.Errorf("option %q: want continue, remount-ro or panic: %w", w, errno.INVAL)
		}
	case "check":
		switch val {
		case "r", "relaxed", "n", "normal", "s", "strict":
		default:
			err = fmt.Errorf("option %q: want r, n or s: %w", w, errno.INVAL)
		}
	case "quiet":
		o.Quiet = true
	case "showexec":
		o.ShowExec = true
	case "sys_immutable":
		o.SysImmutable = true
	case "rodir":
		o.ReadOnlyDir = true
	case "flush":
		o.Commit = time.Second
	case "usefree":
		o.UseFree = true
	case "dots", "nodots", "dotsOK", "debug", "fat", "nocase", "uni_xlate", "posix", "conv", "dos1xfloppy":
	case "discard", "nodiscard":
		o.Discard = key == "discard"
	case "commit":
		o.Commit = time.Duration(max(number(10, 3600), 1)) * time.Second
	case "barrier", "nobarrier":
		o.NoBarrier = key == "nobarrier" || val == "0"
	case "nfs":
		err = fmt.Errorf("option %q: file handles for NFS are not offered: leave it out: %w", w, errno.INVAL)
	default:
		err = fmt.Errorf("option %q is not known; did you mean %q?: %w", w, nearest(key), errno.INVAL)
	}
	return err
}

// nearest gives the known word that has most letters in common with w from its beginning.
func nearest(w string) string {
	best, most := help[0].Word, -1
	for _, h := range help {
		for _, k := range strings.Split(h.Word, ", ") {
			k, _, _ = strings.Cut(k, "=")
			n := 0
			for n < len(k) && n < len(w) && k[n] == w[n] {
				n++
			}
			if n > most {
				best, most = k, n
			}
		}
	}
	return best
}

// words lists what is in force, for status.
func (o *Options) words() []string {
	w := []string{
		fmt.Sprintf("uid=%d", o.UID), fmt.Sprintf("gid=%d", o.GID), fmt.Sprintf("fmask=%04o", o.FMask), fmt.Sprintf("dmask=%04o", o.DMask),
		fmt.Sprintf("codepage=%d", o.CodePage), "utf8",
	}
	for name, s := range shortNames {
		if s == o.ShortName {
			w = append(w, "shortname="+name)
		}
	}
	for _, b := range []struct {
		on   bool
		word string
	}{
		{o.Zone == time.UTC, "tz=UTC"},
		{o.NoNumber, "nonumtail"},
		{o.Quiet, "quiet"},
		{o.ShowExec, "showexec"},
		{o.SysImmutable, "sys_immutable"},
		{o.ReadOnlyDir, "rodir"},
		{o.UseFree, "usefree"},
		{o.Discard, "discard"},
		{o.NoBarrier, "nobarrier"},
		{true, "errors=" + [...]string{"remount-ro", "continue", "panic"}[o.Errors]},
	} {
		if b.on {
			w = append(w, b.word)
		}
	}
	return w
}
