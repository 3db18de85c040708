package iomaptest

import (
	"context"

	"github.com/iomapfs/iomapfs/iomap"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
)

// Cipher says how a filesystem keeps its files on the device.
type Cipher uint8

// Ciphers: what is on the device is not what is in the file, byte by byte and place by place.
const (
	Plain    Cipher = iota
	ByRead          // the library's reads are decrypted as they complete, by another goroutine
	ByRanges        // the filesystem reads ranges of folios itself, each in a goroutine of its own
)

// crypt turns plain bytes at pos of a file into those on the device, and back.
func crypt(dst, src []byte, pos int64) {
	for i := range src {
		p := pos + int64(i)
		dst[i] = src[i] ^ byte(p*7+p>>9*13+0x5c)
	}
}

// cipherOps gives the read operations of a file.
func (f *File) cipherOps() *iomap.ReadOps {
	switch f.FS.o.Cipher {
	case ByRead:
		return &iomap.ReadOps{SubmitRead: func(r *iomap.ReadIO) {
			r.End = func(r *iomap.ReadIO, err error) {
				go func() {
					if err == nil {
						r.Each(func(pos int64, data []byte) { crypt(data, data, pos) })
					}
					r.Finish(err)
				}()
			}
			r.Submit()
		}}
	case ByRanges:
		return &iomap.ReadOps{ReadRange: f.readRange, ReadFolioRange: func(_ context.Context, rc *iomap.ReadContext, it *iomap.Iter, fo *pagecache.Folio, off, n int) error {
			src := *it.Source()
			list, _ := rc.Private.([]func())
			rc.Private = append(list, func() { iomap.FinishRead(fo, off, n, f.decrypt(&src, fo, off, n)) })
			return nil
		}, Submit: func(rc *iomap.ReadContext) {
			list, _ := rc.Private.([]func())
			for _, read := range list {
				go read()
			}
		}}
	}
	return nil
}

func (f *File) readRange(_ context.Context, it *iomap.Iter, fo *pagecache.Folio, off, n int) error {
	return f.decrypt(it.Source(), fo, off, n)
}

func (f *File) decrypt(m *iomap.Mapping, fo *pagecache.Folio, off, n int) error {
	pos, p := fo.Pos()+int64(off), make([]byte, n)
	if err := block.ReadAt(m.Dev, p, m.AddrOf(pos)); err != nil {
		return err
	}
	crypt(fo.Data()[off:off+n], p, pos)
	return nil
}

// encrypt makes an ioend write something else than what the folios show.
func encrypt(io *iomap.Ioend) {
	var out []byte
	io.Each(func(pos int64, data []byte) {
		p := make([]byte, len(data))
		crypt(p, data, pos)
		out = append(out, p...)
	})
	io.Replace(out)
}

// cryptDirect is DirectOps.SubmitIO.
func (f *File) cryptDirect(it *iomap.Iter, bio *block.Bio, pos int64) {
	if bio.Op == block.OpWrite {
		p, n := make([]byte, bio.Bytes()), int64(0)
		for _, v := range bio.Vecs {
			crypt(p[n:], v, pos+n)
			n += int64(len(v))
		}
		bio.Vecs = [][]byte{p}
	} else {
		done := bio.Done
		bio.Done = func(b *block.Bio) {
			at := pos
			for _, v := range b.Vecs {
				if b.Err == nil {
					crypt(v, v, at)
				}
				at += int64(len(v))
			}
			done(b)
		}
	}
	f.FS.Dev.Submit(bio)
}
