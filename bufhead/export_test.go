package bufhead

import "github.com/iomapfs/iomapfs/vfs/pagecache"

// BuffersOf gives the buffers of a folio, in order; none when it has none. For tests: hold the folio's lock, or be alone.
func BuffersOf(fo *pagecache.Folio) (list []*BufferHead) {
	if bs := buffersOf(fo); bs != nil {
		for i := range bs.list {
			list = append(list, &bs.list[i])
		}
	}
	return list
}
