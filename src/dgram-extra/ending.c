/*
 * Ends the process in time, also when a thread hangs. A main thread in an endless loop, or in a system call that does not
 * return, never handles a signal. So a thread of its own waits beside it. Conventions as in dgram_extra.h.
 */
#define _GNU_SOURCE
#include "dgram_extra.h"

#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static struct {
	atomic_int armed, status;
	atomic_llong due_ms; /* monotonic clock */
	sem_t asked;
	pthread_mutex_t words; /* guards the fields below: the line that is written when the time is over */
	int log;
	char before[256], after[512];
} end = { .words = PTHREAD_MUTEX_INITIALIZER, .log = 2 };

static long long now_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

static void arm(int ms, int status)
{
	atomic_store(&end.due_ms, now_ms() + ms);
	atomic_store(&end.status, status);
	if (!atomic_exchange(&end.armed, 1))
		sem_post(&end.asked);
}

static void say_last_words(void)
{
	char line[1024], time_text[32];
	struct timespec now;
	struct tm parts;
	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &parts);
	strftime(time_text, sizeof time_text, "%Y-%m-%dT%H:%M:%S", &parts);
	pthread_mutex_lock(&end.words);
	int length = snprintf(line, sizeof line, "%s%s.%03ldZ%s\n", end.before, time_text, now.tv_nsec / 1000000, end.after);
	if (end.before[0] || end.after[0])
		(void)!write(end.log, line, (size_t)length < sizeof line ? (size_t)length : sizeof line - 1);
	pthread_mutex_unlock(&end.words);
}

/* Time for the kernel to delete a thousand links on a busy machine. */
#define LEAVE_US 600000

/* When two threads leave at once, the first one deletes the TAPs, and the second one waits LEAVE_US for it. */
static void leave(int status)
{
	static atomic_int leaving;
	if (atomic_exchange(&leaving, 1))
		(void)usleep(LEAVE_US);
	else
		end_all_taps();
	_exit(status);
}

static void *wait_for_the_end(void *data)
{
	(void)data;
	while (sem_wait(&end.asked) < 0)
		;
	for (long long left; (left = atomic_load(&end.due_ms) - now_ms()) > 0;)
		(void)usleep((useconds_t)(left < 100 ? left : 100) * 1000); /* short, since endAfter may shorten the time */
	say_last_words();
	leave(atomic_load(&end.status));
	return NULL;
}

static const int ending[] = { SIGTERM, SIGINT, SIGQUIT };
enum { SIGNALS = sizeof ending / sizeof *ending };
static struct sigaction obeyed[SIGNALS]; /* the handlers of Node, which wait for its main thread */
static int signal_ms;

static void on_signal(int number, siginfo_t *info, void *context)
{
	int before = errno;
	if (!atomic_load(&end.armed))
		arm(signal_ms, 0); /* a second signal does not extend the time */
	for (int i = 0; i < SIGNALS; i++) {
		if (ending[i] != number)
			continue;
		if (obeyed[i].sa_flags & SA_SIGINFO)
			obeyed[i].sa_sigaction(number, info, context);
		else if (obeyed[i].sa_handler != SIG_DFL && obeyed[i].sa_handler != SIG_IGN)
			obeyed[i].sa_handler(number);
	}
	errno = before;
}

/* guardEnd(ms): from now on SIGTERM, SIGINT and SIGQUIT end the process after that time, if it has not ended before.
 * Call it once, after Node's handlers of these signals are set. */
static napi_value guard_end(napi_env env, napi_callback_info info)
{
	ARGS(1);
	static int guarded;
	pthread_t thread;
	if (guarded)
		return number(env, 0);
	signal_ms = arg_int(env, argv[0]);
	if (sem_init(&end.asked, 0, 0) < 0)
		return number(env, -errno);
	int error = start_thread(&thread, wait_for_the_end, NULL);
	if (error)
		return number(env, -error);
	pthread_detach(thread);
	guarded = 1;
	for (int i = 0; i < SIGNALS; i++) {
		struct sigaction ours;
		if (sigaction(ending[i], NULL, &obeyed[i]) < 0)
			continue;
		ours = obeyed[i];
		ours.sa_flags |= SA_SIGINFO;
		ours.sa_sigaction = on_signal;
		sigaction(ending[i], &ours, NULL);
	}
	return number(env, 0);
}

/* endAfter(ms, status): ends the process with this status after this time, in place of the earlier limit. Needs
 * guardEnd. */
static napi_value end_after(napi_env env, napi_callback_info info)
{
	ARGS(2);
	arm(arg_int(env, argv[0]), arg_int(env, argv[1]));
	return number(env, 0);
}

/* lastWords(fd, before, after): sets the line that is written to `fd` when the time is over: `before`, date and time,
 * `after`. */
static napi_value last_words(napi_env env, napi_callback_info info)
{
	ARGS(3);
	pthread_mutex_lock(&end.words);
	end.log = arg_int(env, argv[0]);
	arg_text(env, argv[1], end.before, sizeof end.before);
	arg_text(env, argv[2], end.after, sizeof end.after);
	pthread_mutex_unlock(&end.words);
	return number(env, 0);
}

void leave_if_asked(void)
{
	if (atomic_load(&end.armed))
		leave(atomic_load(&end.status));
}

/* exitNow(status): ends the process at once, whatever its threads do. Node's own exit would wait for each thread. */
static napi_value exit_now(napi_env env, napi_callback_info info)
{
	ARGS(1);
	_exit(arg_int(env, argv[0]));
}

/* leaveNow(status): first deletes the TAPs of this process, all in the time of one; then as exitNow. */
static napi_value leave_now(napi_env env, napi_callback_info info)
{
	ARGS(1);
	leave(arg_int(env, argv[0]));
	return NULL;
}

void define_ending(napi_env env, napi_value exports)
{
	static const napi_property_descriptor calls[] = {
		EXPORT("guardEnd", guard_end),   EXPORT("endAfter", end_after), EXPORT("lastWords", last_words),
		EXPORT("exitNow", exit_now),     EXPORT("leaveNow", leave_now),
	};
	napi_define_properties(env, exports, sizeof calls / sizeof *calls, calls);
}
