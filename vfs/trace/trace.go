// Package trace carries events of the storage stack as plain numbers. A nil Sink costs a branch.
package trace

// Kind names an event.
type Kind uint8

// Events, in the order in which a request meets them.
const (
	GetBlock   Kind = iota + 1 // legacy: one get_block call. Pos, Len asked; Addr, Got answered
	Begin                      // iomap: one begin call
	End                        // iomap: one end call
	BioSubmit                  // a bio handed to a device. Pos is the device byte, Len its bytes
	BioDone                    // its completion
	FolioState                 // a folio changed state. Flags holds the new bits
	Commit                     // a metadata commit. Len is the number of blocks, Got the phases
	MapBlocks                  // iomap: one call of writeback for a mapping. Pos, Len asked; Addr, Got answered
	IoendDone                  // iomap: completion of an ioend. Pos, Len in the file
	DirectDone                 // completion of a direct request. Pos, Len asked; Got moved
)

var names = [...]string{
	GetBlock: "get_block", Begin: "begin", End: "end", BioSubmit: "bio", BioDone: "bio-done", FolioState: "folio", Commit: "commit",
	MapBlocks: "map_blocks", IoendDone: "ioend-done", DirectDone: "direct-done",
}

// String is the event's name, as logs and reports show it.
func (k Kind) String() string {
	if int(k) < len(names) {
		return names[k]
	}
	return "unknown"
}

// Event is what happened. Numbers only, so that emitting allocates nothing.
type Event struct {
	Kind  Kind
	Flags uint32
	Ino   uint64 // 0 for the device itself
	Pos   int64  // bytes
	Len   int64  // bytes
	Addr  uint64 // bytes on the device; ^0 for none
	Got   int64  // bytes answered or moved
	Err   error
}

// Sink takes events. Emit is called from any goroutine, never under a leaf lock, and must not block.
type Sink interface{ Emit(Event) }
