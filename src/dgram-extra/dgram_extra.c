/*
 * dgram-extra: the functions that Node's dgram lacks. TAP devices (tap-device.c), UDP sockets with the options of RFC 7348
 * (devices.c), batches of frames between descriptors and one slab of memory (framed.h), the offloads of a NIC (offload.c),
 * epoll, netlink, peer credentials, sd_notify, the end of rights (privileges.c) and of the process (ending.c).
 *
 * Conventions
 *   - Every function returns a number: a result >= 0, or a negated errno < 0. The typed face (index.ts) turns an errno into
 *     an error with name, call and device; the hot path reads the number itself. No function here throws.
 *   - The native part knows descriptors and bytes. TypeScript decides where frames go.
 */
#define _GNU_SOURCE
#include "dgram_extra.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ------------------------------------------------------------------------------------------------ arguments */

int32_t arg_int(napi_env env, napi_value value)
{
	int32_t n = 0;
	napi_get_value_int32(env, value, &n);
	return n;
}

void *arg_bytes(napi_env env, napi_value value, size_t *bytes)
{
	void *data = NULL;
	napi_typedarray_type type;
	size_t length = 0;
	*bytes = 0;
	if (napi_get_typedarray_info(env, value, &type, &length, &data, NULL, NULL) != napi_ok ||
	    (type != napi_uint8_array && type != napi_int32_array))
		return NULL;
	*bytes = type == napi_uint8_array ? length : length * 4;
	return data;
}

void arg_text(napi_env env, napi_value value, char *text, size_t size)
{
	size_t length = 0;
	text[0] = 0;
	napi_get_value_string_utf8(env, value, text, size, &length);
}

napi_value number(napi_env env, int32_t n)
{
	napi_value value;
	napi_create_int32(env, n, &value);
	return value;
}

/* ----------------------------------------------------------------------------------- epoll, eventfd and others */

/* pollCreate(): returns an epoll descriptor. */
static napi_value poll_create(napi_env env, napi_callback_info info)
{
	(void)info;
	return number(env, or_errno(epoll_create1(EPOLL_CLOEXEC)));
}

/* pollAdd(epoll, fd, token) */
static napi_value poll_add(napi_env env, napi_callback_info info)
{
	ARGS(3);
	struct epoll_event event = { .events = EPOLLIN, .data.u32 = (uint32_t)arg_int(env, argv[2]) };
	return number(env, or_errno(epoll_ctl(arg_int(env, argv[0]), EPOLL_CTL_ADD, arg_int(env, argv[1]), &event)));
}

/* pollRemove(epoll, fd) */
static napi_value poll_remove(napi_env env, napi_callback_info info)
{
	ARGS(2);
	return number(env, or_errno(epoll_ctl(arg_int(env, argv[0]), EPOLL_CTL_DEL, arg_int(env, argv[1]), NULL)));
}

#define HAS_ERRORS (1 << 30) /* added to a token: the error queue of the socket is not empty, or the device is gone */

/* pollWait(epoll, ready, timeoutMs): returns the number of ready descriptors, and writes their tokens, with HAS_ERRORS,
 * into `ready`. Returns 0 when a signal has interrupted it. */
static napi_value poll_wait(napi_env env, napi_callback_info info)
{
	ARGS(3);
	struct epoll_event events[64];
	size_t bytes;
	int32_t *ready = arg_bytes(env, argv[1], &bytes);
	int max = (int)(bytes / 4) < 64 ? (int)(bytes / 4) : 64;
	if (!ready || max < 1)
		return number(env, -EINVAL);
	int count = epoll_wait(arg_int(env, argv[0]), events, max, arg_int(env, argv[2]));
	if (count < 0)
		return number(env, errno == EINTR ? 0 : -errno);
	for (int i = 0; i < count; i++)
		ready[i] = (int32_t)events[i].data.u32 | (events[i].events & EPOLLERR ? HAS_ERRORS : 0);
	return number(env, count);
}

/* eventCreate(): returns an eventfd, by which another thread wakes this one. */
static napi_value event_create(napi_env env, napi_callback_info info)
{
	(void)info;
	return number(env, or_errno(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)));
}

/* eventSignal(fd): any thread may call it. */
static napi_value event_signal(napi_env env, napi_callback_info info)
{
	ARGS(1);
	return number(env, or_errno(eventfd_write(arg_int(env, argv[0]), 1)));
}

/* eventClear(fd) */
static napi_value event_clear(napi_env env, napi_callback_info info)
{
	ARGS(1);
	eventfd_t value;
	return number(env, or_errno(eventfd_read(arg_int(env, argv[0]), &value)));
}

/* closeDescriptor(fd) */
static napi_value close_descriptor(napi_env env, napi_callback_info info)
{
	ARGS(1);
	return number(env, or_errno(close(arg_int(env, argv[0]))));
}

/* lockFile(fd): takes an exclusive lock, which ends with the process. EAGAIN when another process holds it. */
static napi_value lock_file(napi_env env, napi_callback_info info)
{
	ARGS(1);
	return number(env, or_errno(flock(arg_int(env, argv[0]), LOCK_EX | LOCK_NB)));
}

/* The first version of struct sched_attr (linux/sched/types.h), which every kernel takes. */
struct scheduling {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime_ns, deadline_ns, period_ns;
};

/* threadSlice(microseconds): sets the slice of the calling thread, 100 at least. Among threads that want to run, the kernel
 * takes the one with the slice that would end first, so that a thread with a short slice runs sooner when it wakes. It gets
 * no more of the processor than before. Linux before 6.12 takes no notice. */
static napi_value thread_slice(napi_env env, napi_callback_info info)
{
	ARGS(1);
	struct scheduling own = { .size = sizeof own };
	if (syscall(SYS_sched_getattr, 0, &own, sizeof own, 0) < 0)
		return number(env, -errno);
	own.runtime_ns = (uint64_t)arg_int(env, argv[0]) * 1000;
	return number(env, or_errno((int)syscall(SYS_sched_setattr, 0, &own, 0)));
}

static napi_value init(napi_env env, napi_value exports)
{
	static const napi_property_descriptor waiting[] = {
		EXPORT("pollCreate", poll_create),     EXPORT("pollAdd", poll_add),
		EXPORT("pollRemove", poll_remove),     EXPORT("pollWait", poll_wait),
		EXPORT("eventCreate", event_create),   EXPORT("eventSignal", event_signal),
		EXPORT("eventClear", event_clear),     EXPORT("closeDescriptor", close_descriptor),
		EXPORT("lockFile", lock_file),	       EXPORT("threadSlice", thread_slice),
	};
	napi_define_properties(env, exports, sizeof waiting / sizeof *waiting, waiting);
	define_framed(env, exports);
	define_devices(env, exports);
	define_tap_device(env, exports);
	define_privileges(env, exports);
	define_system_calls(env, exports);
	define_memory(env, exports);
	define_removal(env, exports);
	define_ending(env, exports);
	define_watch(env, exports);
	return exports;
}

NAPI_MODULE(dgram_extra, init)
