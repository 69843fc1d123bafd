/*
 * Many reads in one system call (io_uring), where the kernel lets us. None of them waits, and all are done when
 * `ring_submit` returns: nothing of the caller's is in use behind its back, and no descriptor is held open.
 */
#ifndef DGRAM_EXTRA_RING_H
#define DGRAM_EXTRA_RING_H

#include <stddef.h>
#include <stdint.h>

#define RING_ENTRIES 64

/* All zero = not opened yet. */
struct ring {
	int state; /* 0 not tried, 1 there, -1 not to be had */
	int fd;
	void *memory, *entries;
	size_t memory_bytes, entries_bytes;
	uint32_t *sq_head, *sq_tail, *cq_head, *cq_tail;
	uint32_t sq_mask, cq_mask;
	struct io_uring_cqe *completions;
	int queued;
};

/* Whether there is a ring, made at the first call. 0: the kernel has none, forbids it, or cannot read so. */
int ring_ready(struct ring *ring);
void ring_close(struct ring *ring);

/* Puts a read in line, RING_ENTRIES at most. */
void ring_read(struct ring *ring, int fd, void *to, size_t bytes);

/* Does all that is in line, in order. A result is what read(2) returns, or a negated errno. */
void ring_submit(struct ring *ring, int *results);

#endif
