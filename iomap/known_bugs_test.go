package iomap_test

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

// knownBugs are what went wrong in Linux's iomap and in ports of it, by subject, and the test here that would see it again. What a
// filesystem, the buffer layer, the page cache or the FUSE server has to get right is tested there, and not listed.
var knownBugs = []struct{ bug, tests string }{
	{"a write by an outdated mapping after writeback and reclaim", "TestStaleMapping TestModel"},
	{"stale without progress ended the loop", "TestStaleWithoutProgress"},
	{"stale for ever, with an error of end", "TestStaleWithoutProgress TestIterator"},
	{"a short write left promises over clean cache", "TestShortCopies TestShortWriteThenDirect"},
	{"a punch took what a store through a mapping had dirtied", "TestPunchKeepsDirty"},
	{"cache behind the end of the file kept promises", "TestPunchPastEnd"},
	{"a punch for a copy went to the wrong fork", "TestPunchCow"},
	{"end took the invalidate lock that its caller held", "TestEndUnderInvalidateLock"},
	{"clean blocks in a dirty folio kept their promises", "TestPunchBlocks"},
	{"the last page showed what lies behind the end", "TestReadAtEnd"},
	{"one byte wrote a whole folio", "TestOneBlockIsWritten"},
	{"uptodate while a read was pending", "TestReadPendingAndZeroed"},
	{"the first of two reads unlocked the folio", "TestReadCompletion TestReadSplit"},
	{"a read behind an inline tail was not aligned", "TestInlineTail"},
	{"zeroing passed over dirty data on unwritten space", "TestZeroDirtyUnwritten TestZeroBatch"},
	{"growth showed what a mapping had left behind the end", "TestPastTheEnd"},
	{"zeroing behind the end moved it", "TestZeroPastEnd"},
	{"an append put the size on the medium before its data", "TestIoendEndsAtSize"},
	{"an error of mapping left dirty bits, or dropped too much", "TestMapError"},
	{"fsync told an error to one descriptor, or for ever", "TestMapError TestDeviceErrors"},
	{"a failed writeback left promises under clean pages", "TestDiscardFolio"},
	{"ioends without bound", "TestIoendFolios"},
	{"completions were merged by a moved address", "TestIoendMerge"},
	{"conversion of the gaps between written blocks", "TestConvertGaps"},
	{"FUA into unwritten space passed as durable", "TestFUA TestFUAFlags"},
	{"the rest of a block behind a direct write across the end", "TestDirectTail TestDirectVectors"},
	{"two direct writers of the halves of one new block", "TestTwoHalves"},
	{"a fault of memory left the rest of the block unzeroed", "TestDirectFaults"},
	{"an error during submission lost the count of what was sent", "TestDirectStopsAfterError"},
	{"a direct read at the end gave too much", "TestDirectReadEOF"},
	{"the sum of what was done before was lost", "TestDirectFaults TestDirectWrapped"},
	{"size before conversion: readers saw zeros", "TestDirectOrder TestDirectAppendReaders"},
	{"two completions moved the end backwards", "TestCompletionsReordered"},
	{"the cache outlived a direct write, silently", "TestDirectCacheOutlives TestDirectWriteDropsTheCacheAgain"},
	{"bmap took the mapping's beginning for the position", "TestBmap"},
	{"swap: too many pages, the header counted, unaligned", "TestSwap TestSwapRuns"},
	{"FIEMAP held locks while it copied out", "TestFiemapEmitUsesFile"},
	{"offsets beyond 4 GiB", "TestFarOffsets"},
	{"seeking in a folio that is half valid", "TestSeek TestSeekLargeFolio TestSeekReadOverUnwritten"},
	{"writers held back while holding what the flusher needs", "TestModel"},
	{"the put hook ran without the folio's lock", "TestPutFolioLocked"},
	{"an inline read made no progress", "TestInline TestInlineTail"},
	{"inline data longer than a page", "TestInlineLarge"},
	{"a store to a folio without state marked nothing", "TestMkwriteWithoutState"},
	{"blocks behind the end stayed dirty after a store through a mapping", "TestMkwriteTwice"},
	{"truncation did not wait for writeback", "TestTruncateWaits"},
	{"a punched folio came back by readahead", "TestPunchReadRace"},
	{"unshare dirtied holes", "TestUnshareHole"},
	{"a step longer than its source", "TestShortSource"},
	{"a large dirty folio was cut wrongly", "TestTruncateLargeFolio"},
	{"fsync passed over a folio that was being written", "TestFsyncWritesAgain"},
	{"completion before Submit returns", "TestModel TestAsyncDirect"},
	{"an early way out of a body skipped end", "TestPanicEndsMapping TestIterator"},
	{"wrapped errors lost their meaning", "TestDirectWrapped"},
	{"mappings of an image that lies", "TestBadMappings FuzzMapping"},
	{"a folio that holds another layer's state", "TestForeignState"},
	{"an uncached write dropped what another had dirtied", "TestDontCache"},
	{"an image cut short under direct memory", "TestDaxImageCutShort"},
}

// vectors are the smallest cases that every path must get right.
var vectors = []struct{ bug, tests string }{
	{"one byte in the middle of a new file's first block", "TestVectorFirstByte"},
	{"one byte far into an empty file", "TestVectorFarByte"},
	{"zeroing over unwritten space half of which was written", "TestVectorZeroUnwritten"},
	{"a store behind the end through a mapping, then growth", "TestPastTheEnd"},
	{"direct writes of a sector into every kind of block", "TestDirectVectors"},
	{"no space in the middle of a write", "TestNoSpace TestDaxNoSpace"},
	{"an error seen once by each descriptor", "TestMapError"},
	{"FIEMAP with room for none, some, all, and more", "TestFiemap TestFiemapEdges"},
	{"seeking from every byte around borders", "TestSeek"},
	{"truncation into a block that is being written, then growth", "TestTruncateWaits"},
}

// Every test that the tables name is there.
func TestTables(t *testing.T) {
	files, err := filepath.Glob("*_test.go")
	require.NoError(t, err)
	have := map[string]bool{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		require.NoError(t, err)
		for _, m := range regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`).FindAllSubmatch(b, -1) {
			have[string(m[1])] = true
		}
	}
	word := regexp.MustCompile(`\w+`)
	for _, e := range append(knownBugs, vectors...) {
		names := word.FindAllString(e.tests, -1)
		require.NotEmpty(t, names, e)
		for _, n := range names {
			require.True(t, have[n], "%q names %s", e, n)
		}
	}
}
