//go:build unix && !linux

package arena

// adviseHuge does nothing: these hosts choose the size of pages themselves.
func adviseHuge([]byte) {}
