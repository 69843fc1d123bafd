/*
 * Makes many reads in one system call (io_uring), if the kernel permits it. No read waits, and all reads are done when
 * `ring_submit` returns. So the kernel uses no memory of the caller afterwards, and holds no descriptor open.
 *
 * io_uring is a large part of the kernel that few programs need. So a process with limited system calls
 * (system-calls.c) cannot make a ring. The process makes its rings before that, and they stay open through execve(2).
 * Such a ring can only read (IORING_REGISTER_RESTRICTIONS, since Linux 5.10). On older kernels there is no ring, and
 * frames are read one by one.
 */
#ifndef DGRAM_EXTRA_RING_H
#define DGRAM_EXTRA_RING_H

#include <node_api.h>
#include <stddef.h>
#include <stdint.h>

#define RING_ENTRIES 64

/* The ring of a thread. All zero = the thread has none. */
struct ring {
	int state; /* 1 = in use; 0 or -1 = the thread has no ring */
	int fd;    /* the opener closes it */
	void *memory, *entries;
	size_t memory_bytes, entries_bytes;
	uint32_t *sq_head, *sq_tail, *cq_head, *cq_tail;
	uint32_t sq_mask, cq_mask;
	struct io_uring_cqe *completions;
	int queued;
};

/* Ends the use of the ring by this thread. */
void ring_leave(struct ring *ring);

/* Queues a read, at most RING_ENTRIES of them. */
void ring_read(struct ring *ring, int fd, void *to, size_t bytes);

/* Makes the queued reads, in order. A result is a number of bytes as from read(2), or a negated errno. */
void ring_submit(struct ring *ring, int *results);

void define_ring(napi_env env, napi_value exports);

#endif
