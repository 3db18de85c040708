//go:build linux

package fuse

import (
	gofuse "github.com/hanwen/go-fuse/v2/fuse"
)

// GetXAttr gives an extended attribute.
func (fs *rawFS) GetXAttr(cancel <-chan struct{}, h *gofuse.InHeader, name string, dest []byte) (uint32, gofuse.Status) {
	ip := fs.nodes.get(h.NodeId)
	if ip == nil {
		return 0, stale
	}
	v, err := ip.GetXattr(request{cancel}, name)
	if err != nil {
		return 0, fs.status(err)
	}
	if len(v) > len(dest) {
		return uint32(len(v)), gofuse.ERANGE
	}
	return uint32(copy(dest, v)), gofuse.OK
}

// ListXAttr gives all names, each ended by a zero byte.
func (fs *rawFS) ListXAttr(cancel <-chan struct{}, h *gofuse.InHeader, dest []byte) (uint32, gofuse.Status) {
	ip := fs.nodes.get(h.NodeId)
	if ip == nil {
		return 0, stale
	}
	names, err := ip.ListXattr(request{cancel}, cred(h, 0))
	if err != nil {
		return 0, fs.status(err)
	}
	var list []byte
	for _, n := range names {
		list = append(append(list, n...), 0)
	}
	if len(list) > len(dest) {
		return uint32(len(list)), gofuse.ERANGE
	}
	return uint32(copy(dest, list)), gofuse.OK
}

// SetXAttr stores an extended attribute.
func (fs *rawFS) SetXAttr(cancel <-chan struct{}, in *gofuse.SetXAttrIn, name string, data []byte) gofuse.Status {
	ip := fs.nodes.get(in.NodeId)
	if ip == nil {
		return stale
	}
	v := make([]byte, len(data)) // the buffer is the transport's
	copy(v, data)
	return fs.status(ip.SetXattr(request{cancel}, cred(&in.InHeader, 0), name, v, int(in.Flags)))
}

// RemoveXAttr removes an extended attribute.
func (fs *rawFS) RemoveXAttr(cancel <-chan struct{}, h *gofuse.InHeader, name string) gofuse.Status {
	ip := fs.nodes.get(h.NodeId)
	if ip == nil {
		return stale
	}
	return fs.status(ip.RemoveXattr(request{cancel}, cred(h, 0), name))
}
