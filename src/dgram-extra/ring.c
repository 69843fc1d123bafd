/* io_uring by its system calls alone: a few lines, and no library that a machine may lack. ring.h has the story. */
#define _GNU_SOURCE
#include "framed.h"
#include "ring.h"

#include <errno.h>
#include <linux/io_uring.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* Of a ring's memory, which the kernel says once, as the ring is made: sizes of both mappings, and offsets in the first. */
enum { MEMORY_BYTES, ENTRIES_BYTES, SQ_HEAD, SQ_TAIL, SQ_MASK, CQ_HEAD, CQ_TAIL, CQ_MASK, COMPLETIONS, LAYOUT_WORDS };

static void *map(int fd, size_t bytes, off_t what)
{
	return mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, what);
}

/* Entries are used in the order of their slots. */
static int number_slots(int fd, const struct io_uring_params *params, size_t memory_bytes)
{
	uint8_t *memory = map(fd, memory_bytes, IORING_OFF_SQ_RING);
	if (memory == MAP_FAILED)
		return -errno;
	uint32_t *slots = (void *)(memory + params->sq_off.array);
	for (uint32_t i = 0; i < params->sq_entries; i++)
		slots[i] = i;
	munmap(memory, memory_bytes);
	return 0;
}

/* It may read, by no other flags than those of the read itself, and nothing can be registered with it. */
static int restrict_to_reads(int fd)
{
	struct io_uring_restriction reads = { .opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_READ };
	if (syscall(SYS_io_uring_register, fd, IORING_REGISTER_RESTRICTIONS, &reads, 1) < 0 ||
	    syscall(SYS_io_uring_register, fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0) < 0)
		return -errno;
	return 0;
}

/* ringOpen(layout): a descriptor, or a negated errno. What `layout` gets (LAYOUT_WORDS) is for ringUse, in this process or
 * one that the descriptor is left to. */
static napi_value ring_open(napi_env env, napi_callback_info info)
{
	ARGS(1);
	struct io_uring_params params = { .flags = IORING_SETUP_R_DISABLED };
	size_t layout_bytes;
	int32_t *layout = arg_bytes(env, argv[0], &layout_bytes);
	if (!layout || layout_bytes < LAYOUT_WORDS * sizeof *layout)
		return number(env, -EINVAL);
	int fd = (int)syscall(SYS_io_uring_setup, RING_ENTRIES, &params);
	if (fd < 0)
		return number(env, -errno);
	size_t sq_bytes = params.sq_off.array + params.sq_entries * sizeof(uint32_t);
	size_t cq_bytes = params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe);
	size_t memory_bytes = sq_bytes > cq_bytes ? sq_bytes : cq_bytes;
	/* One mapping for both queues: since Linux 5.4. */
	int error = params.features & IORING_FEAT_SINGLE_MMAP ? number_slots(fd, &params, memory_bytes) : -ENOSYS;
	if (!error)
		error = restrict_to_reads(fd);
	if (error) {
		close(fd);
		return number(env, error);
	}
	layout[MEMORY_BYTES] = (int32_t)memory_bytes;
	layout[ENTRIES_BYTES] = (int32_t)(params.sq_entries * sizeof(struct io_uring_sqe));
	layout[SQ_HEAD] = (int32_t)params.sq_off.head;
	layout[SQ_TAIL] = (int32_t)params.sq_off.tail;
	layout[SQ_MASK] = (int32_t)params.sq_off.ring_mask;
	layout[CQ_HEAD] = (int32_t)params.cq_off.head;
	layout[CQ_TAIL] = (int32_t)params.cq_off.tail;
	layout[CQ_MASK] = (int32_t)params.cq_off.ring_mask;
	layout[COMPLETIONS] = (int32_t)params.cq_off.cqes;
	return number(env, fd);
}

/* ringUse(fd, layout): this thread reads with that ring from now on, and no other may. 0 or a negated errno. */
static napi_value ring_use(napi_env env, napi_callback_info info)
{
	ARGS(2);
	struct ring *ring = &state_of(env)->ring;
	size_t layout_bytes;
	const int32_t *layout = arg_bytes(env, argv[1], &layout_bytes);
	if (!layout || layout_bytes < LAYOUT_WORDS * sizeof *layout || ring->state > 0)
		return number(env, -EINVAL);
	*ring = (struct ring){ .fd = arg_int(env, argv[0]) };
	ring->memory_bytes = (size_t)layout[MEMORY_BYTES];
	ring->entries_bytes = (size_t)layout[ENTRIES_BYTES];
	ring->memory = map(ring->fd, ring->memory_bytes, IORING_OFF_SQ_RING);
	ring->entries = map(ring->fd, ring->entries_bytes, IORING_OFF_SQES);
	ring->state = 1;
	if (ring->memory == MAP_FAILED || ring->entries == MAP_FAILED) {
		int error = -errno;
		ring_leave(ring);
		return number(env, error);
	}
	uint8_t *memory = ring->memory;
	ring->sq_head = (void *)(memory + layout[SQ_HEAD]);
	ring->sq_tail = (void *)(memory + layout[SQ_TAIL]);
	ring->sq_mask = *(uint32_t *)(void *)(memory + layout[SQ_MASK]);
	ring->cq_head = (void *)(memory + layout[CQ_HEAD]);
	ring->cq_tail = (void *)(memory + layout[CQ_TAIL]);
	ring->cq_mask = *(uint32_t *)(void *)(memory + layout[CQ_MASK]);
	ring->completions = (void *)(memory + layout[COMPLETIONS]);
	return number(env, 0);
}

void ring_leave(struct ring *ring)
{
	if (ring->state <= 0)
		return;
	if (ring->memory != MAP_FAILED)
		munmap(ring->memory, ring->memory_bytes);
	if (ring->entries != MAP_FAILED)
		munmap(ring->entries, ring->entries_bytes);
	ring->state = -1;
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
		ring_leave(ring);
}

void define_ring(napi_env env, napi_value exports)
{
	static const napi_property_descriptor rings[] = { EXPORT("ringOpen", ring_open), EXPORT("ringUse", ring_use) };
	napi_define_properties(env, exports, sizeof rings / sizeof *rings, rings);
}
