// Package hostmnt asks Linux about mounts: what is mounted where, who keeps a mount busy, and what stands in the way
// of a new one.
package hostmnt
