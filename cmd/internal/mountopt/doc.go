// Package mountopt reads the -o argument of mount(8).
//
// The grammar: words separated by commas. A word is key, nokey or key=value. A double quote protects commas up to the
// next one, and a backslash protects the character after it, so that both
//
//	-o 'fsname="a,b",ro'      -o 'fsname=a\,b,ro'
//
// are two words. Underscore and hyphen are the same letter in a key (direct_io, direct-io).
//
// Parse sorts the words into four heaps: what mount(8), systemd and fstab put there and no filesystem needs (dropped);
// what the kernel does (passed on to the mount); what iomapfs does whatever the filesystem (Options); and the rest,
// which a filesystem must know. Unknown says which of the rest it does not know, and what was probably meant.
package mountopt
