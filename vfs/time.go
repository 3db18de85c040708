package vfs

import "time"

// Time is a moment as filesystems store it: seconds since 1970 UTC and nanoseconds in [0, 1e9).
type Time struct {
	Sec  int64
	Nsec uint32
}

// Now reads the clock.
func Now() Time { return TimeOf(time.Now()) }

// TimeOf converts from the standard library.
func TimeOf(t time.Time) Time { return Time{t.Unix(), uint32(t.Nanosecond())} }

// Std converts to the standard library's UTC time.
func (t Time) Std() time.Time { return time.Unix(t.Sec, int64(t.Nsec)).UTC() }

// Before reports whether t is earlier than u.
func (t Time) Before(u Time) bool {
	return t.Sec < u.Sec || t.Sec == u.Sec && t.Nsec < u.Nsec
}
