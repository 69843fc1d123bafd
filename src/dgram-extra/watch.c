/*
 * Watches a descriptor for Node's event loop, which can only watch files, pipes and sockets that Node has opened. A
 * thread waits in poll(2) and then calls into the loop. It calls again only after watchAgain. So a slow reader gets no
 * further calls, and unread messages stay in the kernel, whose buffer is bounded.
 */
#define _GNU_SOURCE
#include "dgram_extra.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct watch {
	int fd, wake;
	atomic_int stopping;
	pthread_t thread;
	napi_threadsafe_function call;
};

/* Waits for the eventfd. Returns 0 when the watch ends. */
static int asked_again(struct watch *w)
{
	eventfd_t value;
	while (eventfd_read(w->wake, &value) < 0 && errno == EINTR)
		;
	return !atomic_load(&w->stopping);
}

static void *run(void *data)
{
	struct watch *w = data;
	while (!atomic_load(&w->stopping)) {
		struct pollfd on[2] = { { .fd = w->fd, .events = POLLIN }, { .fd = w->wake, .events = POLLIN } };
		if (poll(on, 2, -1) < 0)
			continue; /* EINTR, or a moment without memory */
		if (on[1].revents && !asked_again(w))
			break;
		if (!on[0].revents)
			continue;
		if (napi_call_threadsafe_function(w->call, NULL, napi_tsfn_nonblocking) != napi_ok || !asked_again(w))
			break;
	}
	return NULL;
}

static void call_back(napi_env env, napi_value callback, void *context, void *data)
{
	(void)context, (void)data;
	napi_value undefined;
	if (!env || napi_get_undefined(env, &undefined) != napi_ok)
		return;
	napi_call_function(env, undefined, callback, 0, NULL, NULL);
}

/* Ends the watch. The thread has ended when this returns. */
static void end_watch(void *data)
{
	struct watch *w = data;
	atomic_store(&w->stopping, 1);
	eventfd_write(w->wake, 1);
	pthread_join(w->thread, NULL);
	napi_release_threadsafe_function(w->call, napi_tsfn_abort);
	close(w->wake);
	free(w);
}

static struct watch *watch_of(napi_env env, napi_value value)
{
	void *data = NULL;
	return napi_get_value_external(env, value, &data) == napi_ok ? data : NULL;
}

/* watchStart(fd, callback): calls back once when there is something to read. Returns a handle for watchAgain and
 * watchStop, or a negated errno when it cannot start the thread. A watch does not keep the process alive. */
static napi_value watch_start(napi_env env, napi_callback_info info)
{
	ARGS(2);
	struct watch *w = calloc(1, sizeof *w);
	napi_value name, result;
	if (!w)
		return number(env, -ENOMEM);
	w->fd = arg_int(env, argv[0]);
	w->wake = eventfd(0, EFD_CLOEXEC);
	int error = w->wake < 0 ? errno : 0;
	napi_create_string_utf8(env, "watch", NAPI_AUTO_LENGTH, &name);
	if (!error && napi_create_threadsafe_function(env, argv[1], NULL, name, 0, 1, NULL, NULL, NULL, call_back,
						      &w->call) != napi_ok)
		error = EINVAL;
	if (!error) {
		napi_unref_threadsafe_function(env, w->call);
		error = start_thread(&w->thread, run, w);
		if (error)
			napi_release_threadsafe_function(w->call, napi_tsfn_abort);
	}
	if (error) {
		if (w->wake >= 0)
			close(w->wake);
		free(w);
		return number(env, -error);
	}
	napi_add_env_cleanup_hook(env, end_watch, w);
	napi_create_external(env, w, NULL, NULL, &result);
	return result;
}

/* watchAgain(watch): permits one more call of the callback. */
static napi_value watch_again(napi_env env, napi_callback_info info)
{
	ARGS(1);
	struct watch *w = watch_of(env, argv[0]);
	return number(env, w ? or_errno(eventfd_write(w->wake, 1)) : -EINVAL);
}

/* watchStop(watch): ends the calls of the callback; the descriptor may be closed then. Call it once. */
static napi_value watch_stop(napi_env env, napi_callback_info info)
{
	ARGS(1);
	struct watch *w = watch_of(env, argv[0]);
	if (!w)
		return number(env, -EINVAL);
	napi_remove_env_cleanup_hook(env, end_watch, w);
	end_watch(w);
	return number(env, 0);
}

void define_watch(napi_env env, napi_value exports)
{
	static const napi_property_descriptor watch[] = {
		EXPORT("watchStart", watch_start),
		EXPORT("watchAgain", watch_again),
		EXPORT("watchStop", watch_stop),
	};
	napi_define_properties(env, exports, sizeof watch / sizeof *watch, watch);
}
