/*
 * User-mode Linux 6.1 restores the floating-point registers of its processes by PTRACE_SETREGSET with a buffer of fixed size. On a
 * host whose processor has more state than that (AMX), the host wants the whole of it and refuses. Preloaded, this fills the
 * buffer up with what the process has.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static char state[1 << 16]; /* static: the stacks here are small; one process at a time */

long ptrace(enum __ptrace_request request, ...)
{
	va_list ap;
	va_start(ap, request);
	long pid = va_arg(ap, long), addr = va_arg(ap, long), data = va_arg(ap, long), word;
	va_end(ap);
	if (request == PTRACE_SETREGSET && addr == NT_X86_XSTATE) {
		struct iovec *in = (struct iovec *)data, all = { state, sizeof state };
		if (syscall(SYS_ptrace, PTRACE_GETREGSET, pid, addr, &all) == 0 && all.iov_len > in->iov_len) {
			memcpy(state, in->iov_base, in->iov_len);
			return syscall(SYS_ptrace, request, pid, addr, &all);
		}
	}
	if (request == PTRACE_PEEKTEXT || request == PTRACE_PEEKDATA || request == PTRACE_PEEKUSER)
		return syscall(SYS_ptrace, request, pid, addr, &word) == 0 ? word : -1;
	return syscall(SYS_ptrace, request, pid, addr, data);
}
