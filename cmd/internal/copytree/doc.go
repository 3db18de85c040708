// Package copytree copies files and trees between the host and images, in either direction, or between images.
//
// What is kept: contents with their holes, permission bits, owner, access and modification time, symbolic links (never
// followed below the place the copy starts at), hard links within one copy, device nodes, fifos, sockets, extended
// attributes and with them ACLs. What the destination cannot store is reported once a kind and does not stop the copy.
//
// The source is a Node, the destination a name in a Dir; each has an implementation for the host and one for a
// vfs.SuperBlock. The destination is never reached through a symbolic link that the copy met: an image that somebody else
// made cannot direct a write to elsewhere on the host.
package copytree
