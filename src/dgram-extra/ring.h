/*
 * Many reads in one system call (io_uring), where the kernel lets us. None of them waits, and all are done when
 * `ring_submit` returns: nothing of the caller's is in use behind its back, and no descriptor is held open.
 *
 * io_uring is a large part of the kernel that few programs need, so a process that has limited its system calls
 * (system-calls.c) can make no ring. It makes them before, and they stay through execve(2): each can read, and nothing else
 * (IORING_REGISTER_RESTRICTIONS, since Linux 5.10; without it there is no ring, and frames are read one by one).
 */
#ifndef DGRAM_EXTRA_RING_H
#define DGRAM_EXTRA_RING_H

#include <node_api.h>
#include <stddef.h>
#include <stdint.h>

#define RING_ENTRIES 64

/* All zero = this thread has none. */
struct ring {
	int state; /* 0 or -1: there is none; 1: there is */
	int fd;    /* whoever opened it closes it */
	void *memory, *entries;
	size_t memory_bytes, entries_bytes;
	uint32_t *sq_head, *sq_tail, *cq_head, *cq_tail;
	uint32_t sq_mask, cq_mask;
	struct io_uring_cqe *completions;
	int queued;
};

/* This thread reads without from now on. */
void ring_leave(struct ring *ring);

/* Puts a read in line, RING_ENTRIES at most. */
void ring_read(struct ring *ring, int fd, void *to, size_t bytes);

/* Does all that is in line, in order. A result is what read(2) returns, or a negated errno. */
void ring_submit(struct ring *ring, int *results);

void define_ring(napi_env env, napi_value exports);

#endif
