package disk

import "time"

// Stamp is a time as FAT stores it: local time without a zone, of which the reader has to know the offset.
//
//	Date   15…9 year − 1980 · 8…5 month · 4…0 day
//	Time   15…11 hour · 10…5 minute · 4…0 second / 2
//	Centi  10 ms, 0 to 199; only of the time of creation
type Stamp struct {
	Date, Time uint16
	Centi      uint8
}

// First and last second that a Stamp can tell, as seconds since 1970 without a zone.
const (
	MinTime = 315532800  // 1980-01-01 00:00:00
	MaxTime = 4354819199 // 2107-12-31 23:59:59
)

// StampOf makes a stamp of seconds since 1970 in local time and nanoseconds. What lies out of range becomes the first or last
// moment in it.
func StampOf(sec int64, nsec uint32) Stamp {
	if sec < MinTime {
		sec, nsec = MinTime, 0
	}
	if sec > MaxTime {
		sec, nsec = MaxTime, 990_000_000
	}
	t := time.Unix(sec, 0).UTC()
	return Stamp{
		Date:  uint16(t.Year()-1980)<<9 | uint16(t.Month())<<5 | uint16(t.Day()),
		Time:  uint16(t.Hour())<<11 | uint16(t.Minute())<<5 | uint16(t.Second()/2),
		Centi: uint8(t.Second()%2)*100 + uint8(nsec/10_000_000),
	}
}

// Unix gives seconds since 1970 in local time and nanoseconds. A date that is none, as of zeros, is taken as near as can be;
// what is not possible of a time is carried into the next unit.
func (s Stamp) Unix() (sec int64, nsec uint32) {
	y, m, d := 1980+int(s.Date>>9), max(int(s.Date>>5&15), 1), max(int(s.Date&31), 1)
	c := min(int(s.Centi), 199)
	t := time.Date(y, time.Month(min(m, 12)), d, int(s.Time>>11), int(s.Time>>5&63), int(s.Time&31)*2+c/100, 0, time.UTC)
	return t.Unix(), uint32(c%100) * 10_000_000
}
