// Package daemon keeps a mount's process in the background: directories for its socket and log, starting it so that
// the caller hears whether the mount answers, and systemd's notification protocol.
//
// A background mount is this same binary run again:
//
//	parent                                child
//	Start ── exec, pipe as fd 3 ────────► Detach log, open image, mount
//	wait for one line or the end  ◄────── Ready("") or Ready(error): one line of JSON
//	exit status of the report             serve
//
// A child that dies without a word is an error too; what it printed is the end of its log.
package daemon
