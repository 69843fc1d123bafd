/* Uses io_uring by its system calls, since that takes a few lines, and a machine may lack the library. ring.h has the
 * overview. */
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

/* Restricts the ring to reads: no other operation, no flags for an entry, no registration. */
static int restrict_to_reads(int fd)
{
	struct io_uring_restriction reads = { .opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_READ };
	return or_errno((int)syscall(SYS_io_uring_register, fd, IORING_REGISTER_RESTRICTIONS, &reads, 1) < 0 ?
				-1 :
				(int)syscall(SYS_io_uring_register, fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0));
}

/* ringOpen(params): returns a descriptor, or a negated errno. `params` (struct io_uring_params) gets the layout of the
 * ring's memory. ringUse needs it, in this process or in one that inherits the descriptor. */
static napi_value ring_open(napi_env env, napi_callback_info info)
{
	ARGS(1);
	size_t bytes;
	struct io_uring_params *params = arg_bytes(env, argv[0], &bytes);
	if (!params || bytes != sizeof *params)
		return number(env, -EINVAL);
	*params = (struct io_uring_params){ .flags = IORING_SETUP_R_DISABLED };
	int fd = (int)syscall(SYS_io_uring_setup, RING_ENTRIES, params);
	if (fd < 0)
		return number(env, -errno);
	int error = restrict_to_reads(fd);
	if (error)
		close(fd);
	return number(env, error ? error : fd);
}

/* ringUse(fd, params): this thread reads with that ring from now on; no other thread may use it. Returns 0 or a negated
 * errno. */
static napi_value ring_use(napi_env env, napi_callback_info info)
{
	ARGS(2);
	struct ring *ring = &state_of(env)->ring;
	size_t bytes;
	const struct io_uring_params *params = arg_bytes(env, argv[1], &bytes);
	if (!params || bytes != sizeof *params || ring->state > 0)
		return number(env, -EINVAL);
	size_t sq_bytes = params->sq_off.array + params->sq_entries * sizeof(uint32_t);
	size_t cq_bytes = params->cq_off.cqes + params->cq_entries * sizeof(struct io_uring_cqe);
	*ring = (struct ring){ .state = 1, .fd = arg_int(env, argv[0]) };
	/* One mapping holds both queues since Linux 5.4, and a kernel with restricted rings is 5.10 or newer. */
	ring->memory_bytes = sq_bytes > cq_bytes ? sq_bytes : cq_bytes;
	ring->entries_bytes = params->sq_entries * sizeof(struct io_uring_sqe);
	int how = PROT_READ | PROT_WRITE;
	ring->memory = mmap(NULL, ring->memory_bytes, how, MAP_SHARED, ring->fd, IORING_OFF_SQ_RING);
	ring->entries = mmap(NULL, ring->entries_bytes, how, MAP_SHARED, ring->fd, IORING_OFF_SQES);
	if (ring->memory == MAP_FAILED || ring->entries == MAP_FAILED) {
		int error = -errno;
		ring_leave(ring);
		return number(env, error);
	}
	uint8_t *memory = ring->memory;
	ring->sq_head = (void *)(memory + params->sq_off.head);
	ring->sq_tail = (void *)(memory + params->sq_off.tail);
	ring->sq_mask = *(uint32_t *)(void *)(memory + params->sq_off.ring_mask);
	ring->cq_head = (void *)(memory + params->cq_off.head);
	ring->cq_tail = (void *)(memory + params->cq_off.tail);
	ring->cq_mask = *(uint32_t *)(void *)(memory + params->cq_off.ring_mask);
	ring->completions = (void *)(memory + params->cq_off.cqes);
	uint32_t *slots = (void *)(memory + params->sq_off.array);
	for (uint32_t i = 0; i < params->sq_entries; i++)
		slots[i] = i;
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
	/* Reads with RWF_NOWAIT are done within this call. */
	submitted = (int)syscall(SYS_io_uring_enter, ring->fd, queued, queued, IORING_ENTER_GETEVENTS, NULL, 0);
	/* Withdraws the entries that the kernel did not take, so that the next call does not submit them. */
	__atomic_store_n(ring->sq_tail, __atomic_load_n(ring->sq_head, __ATOMIC_ACQUIRE), __ATOMIC_RELEASE);
	for (; head != __atomic_load_n(ring->cq_tail, __ATOMIC_ACQUIRE); head++) {
		const struct io_uring_cqe *done = &ring->completions[head & ring->cq_mask];
		if (done->user_data < (uint64_t)queued)
			results[done->user_data] = done->res;
	}
	__atomic_store_n(ring->cq_head, head, __ATOMIC_RELEASE);
	/* If the kernel cannot read a TAP this way (EOPNOTSUPP, EINVAL), or did not take all entries, the thread uses read(2). */
	if (submitted < queued || results[0] == -EOPNOTSUPP || results[0] == -EINVAL)
		ring_leave(ring);
}

void define_ring(napi_env env, napi_value exports)
{
	static const napi_property_descriptor rings[] = { EXPORT("ringOpen", ring_open), EXPORT("ringUse", ring_use) };
	napi_define_properties(env, exports, sizeof rings / sizeof *rings, rings);
}
