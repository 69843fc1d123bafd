/* io_uring by its system calls alone: a few lines, and no library that a machine may lack. ring.h has the story. */
#define _GNU_SOURCE
#include "ring.h"

#include <errno.h>
#include <linux/io_uring.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static int set_up(struct ring *ring)
{
	struct io_uring_params params = { 0 };
	ring->fd = (int)syscall(SYS_io_uring_setup, RING_ENTRIES, &params);
	if (ring->fd < 0)
		return 0;
	size_t sq_bytes = params.sq_off.array + params.sq_entries * sizeof(uint32_t);
	size_t cq_bytes = params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe);
	ring->memory_bytes = sq_bytes > cq_bytes ? sq_bytes : cq_bytes;
	ring->entries_bytes = params.sq_entries * sizeof(struct io_uring_sqe);
	/* One mapping for both queues: since Linux 5.4. */
	if (!(params.features & IORING_FEAT_SINGLE_MMAP))
		return 0;
	ring->memory = mmap(NULL, ring->memory_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd, IORING_OFF_SQ_RING);
	ring->entries = mmap(NULL, ring->entries_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd, IORING_OFF_SQES);
	if (ring->memory == MAP_FAILED || ring->entries == MAP_FAILED)
		return 0;
	uint8_t *memory = ring->memory;
	ring->sq_head = (void *)(memory + params.sq_off.head);
	ring->sq_tail = (void *)(memory + params.sq_off.tail);
	ring->sq_mask = *(uint32_t *)(void *)(memory + params.sq_off.ring_mask);
	ring->cq_head = (void *)(memory + params.cq_off.head);
	ring->cq_tail = (void *)(memory + params.cq_off.tail);
	ring->cq_mask = *(uint32_t *)(void *)(memory + params.cq_off.ring_mask);
	ring->completions = (void *)(memory + params.cq_off.cqes);
	uint32_t *array = (void *)(memory + params.sq_off.array);
	for (uint32_t i = 0; i < params.sq_entries; i++)
		array[i] = i;
	return 1;
}

int ring_ready(struct ring *ring)
{
	if (ring->state == 0) {
		ring->memory = ring->entries = MAP_FAILED;
		if (set_up(ring)) {
			ring->state = 1;
		} else {
			ring_close(ring);
			ring->state = -1;
		}
	}
	return ring->state > 0;
}

void ring_close(struct ring *ring)
{
	if (ring->state < 0 || ring->memory_bytes == 0)
		return;
	if (ring->memory != MAP_FAILED)
		munmap(ring->memory, ring->memory_bytes);
	if (ring->entries != MAP_FAILED)
		munmap(ring->entries, ring->entries_bytes);
	close(ring->fd);
}

void ring_read(struct ring *ring, int fd, void *to, size_t bytes)
{
	uint32_t slot = (*ring->sq_tail + (uint32_t)ring->queued) & ring->sq_mask;
	struct io_uring_sqe *entry = (struct io_uring_sqe *)ring->entries + slot;
	memset(entry, 0, sizeof *entry);
	entry->opcode = IORING_OP_READ;
	entry->fd = fd;
	entry->addr = (uint64_t)(uintptr_t)to;
	entry->len = (uint32_t)bytes;
	entry->rw_flags = RWF_NOWAIT;
	entry->user_data = (uint64_t)ring->queued++;
}

void ring_submit(struct ring *ring, int *results)
{
	uint32_t tail = *ring->sq_tail, head = *ring->cq_head;
	int queued = ring->queued, submitted = 0;
	ring->queued = 0;
	for (int i = 0; i < queued; i++)
		results[i] = -EAGAIN;
	__atomic_store_n(ring->sq_tail, tail + (uint32_t)queued, __ATOMIC_RELEASE);
	/* Reads that must not wait are done within the call. */
	submitted = (int)syscall(SYS_io_uring_enter, ring->fd, queued, queued, IORING_ENTER_GETEVENTS, NULL, 0);
	/* What the kernel did not take must not be taken by the next call. */
	__atomic_store_n(ring->sq_tail, __atomic_load_n(ring->sq_head, __ATOMIC_ACQUIRE), __ATOMIC_RELEASE);
	for (; head != __atomic_load_n(ring->cq_tail, __ATOMIC_ACQUIRE); head++) {
		const struct io_uring_cqe *done = &ring->completions[head & ring->cq_mask];
		if (done->user_data < (uint64_t)queued)
			results[done->user_data] = done->res;
	}
	__atomic_store_n(ring->cq_head, head, __ATOMIC_RELEASE);
	/* A kernel whose TAP cannot be read so (EOPNOTSUPP, EINVAL) or that takes no more: read(2) it is. */
	if (submitted < queued || results[0] == -EOPNOTSUPP || results[0] == -EINVAL)
		ring_close(ring), ring->state = -1;
}
