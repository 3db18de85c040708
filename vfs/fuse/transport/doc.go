// Package transport carries FUSE requests between the kernel and a go-fuse RawFileSystem.
//
// There are three ways, behind one small API:
//
//   - Ring: FUSE over io_uring (Linux 6.14 and later). One system call answers a request and waits for the next;
//     small operations are two to three times as fast.
//   - Device: our own loop on /dev/fuse, one read(2) and one write(2) a request, by one thread as long as it gets on. Half
//     the processor time of go-fuse's server, which wakes a thread for every request.
//   - Ordinary: go-fuse's own server, for comparison.
//
// On Ring and Device the commonest operations call the filesystem straight from here (direct.go), as go-fuse's server
// allocates and clears a kilobyte for each; all others go through its fuse.ProtocolServer. The filesystem sees no difference.
// With MountOptions.Debug everything goes through go-fuse, which logs each request.
//
// Mount picks: Ring where the kernel's switch /sys/module/fuse/parameters/enable_uring is on (Options.EnableRing turns
// it on for the moment of the mount, as root), else Device, with a line in the log that says why.
//
//	srv, err := transport.Mount("/mnt", fs, &fuse.MountOptions{Name: "iomapfs"}, transport.Options{})
//	if err != nil { … }
//	go srv.Serve()
//	if err := srv.WaitMount(); err != nil { … }
//	…
//	err = srv.Unmount() // EBUSY while files are open
//
// # Threads of the ring
//
// The kernel has one queue a possible CPU and puts a request on the queue of the CPU the caller runs on. A queue is
// served by several threads, each with an io_uring of its own, one entry in it, pinned to the queue's CPU:
//
//	caller on CPU 0 ─► queue 0 ─► the free entry that was used last ─► its thread runs the operation
//	                      │                                                    │
//	                      └── none free: waits for the next commit ◄── commit ─┘
//
// A thread has no entry in the kernel's hands while it works, so nothing can wait behind an operation that blocks:
// the next request goes to another thread. When all but one of a queue's threads are stuck, or all are slow, the queue
// gets one more. The kernel hands out entries last in first out, so with one caller one warm thread does everything.
// Pinning is what makes it fast: answer and next request stay on one CPU, without an interrupt to another one. Work for
// CPUs that are possible but not online is kept by one more thread until it comes.
//
// Threads of queues want a processor of the Go scheduler each while they work. A daemon gains from a GOMAXPROCS of one
// or two above the number of CPUs (measured with 16 callers on 2 CPUs: a fifth more).
//
// FORGET, INTERRUPT and answers to notifications come through /dev/fuse in all ways, as does everything until every
// queue is registered; readers stay there. If registration fails, those readers go on alone.
//
// # Promises
//
//   - A RawFileSystem sees the same calls on all ways: Init once, then operations in any order and at the same time,
//     OnUnmount once after the last.
//   - The cancel channel of an operation closes when its caller is interrupted, and of all operations when the
//     connection dies. Serve returns when every operation has returned.
//     On Ring a signal within the microseconds between a request's queueing and its arrival is lost in the kernel.
//   - Buffers belong to the transport: valid until the operation returns.
//   - The *fuse.Server given to Init works for notifications on all ways. Its InodeRetrieveCache is for Ordinary only
//     (elsewhere the answer does not reach it); its Serve, Unmount, Wait and WaitMount are not to be called at all.
//   - Notifications wait for locks that operations in the kernel hold. Do not send one while holding a lock that an
//     operation needs.
//
// Sources: Documentation/filesystems/fuse/fuse-io-uring.rst and include/uapi/linux/fuse.h (protocol 7.42 and later),
// fuse(4), mount.fuse3(8), io_uring(7).
package transport
