/*
 * The end of the process, within its time whatever hangs. A main thread in an endless loop, or in a system call that does
 * not return, never hears of a signal: so a thread of its own waits for one beside it. Conventions as in dgram_extra.h.
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
	atomic_llong due_ms; /* of the monotonic clock */
	sem_t asked;
	pthread_mutex_t words; /* guards what follows: the line that is written when the time is over */
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

/* For the kernel to delete a thousand links on a machine that is busy. */
#define LEAVE_US 600000

/* Of two that leave at once, one does the work. The other waits for it as long as that may take. */
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
		(void)usleep((useconds_t)(left < 100 ? left : 100) * 1000); /* it may become less */
	say_last_words();
	leave(atomic_load(&end.status));
	return NULL;
}

static const int ending[] = { SIGTERM, SIGINT, SIGQUIT };
enum { SIGNALS = sizeof ending / sizeof *ending };
static struct sigaction obeyed[SIGNALS]; /* by Node, once its main thread comes round */
static int signal_ms;

static void on_signal(int number, siginfo_t *info, void *context)
{
	int before = errno;
	if (!atomic_load(&end.armed))
		arm(signal_ms, 0); /* who asks again gives no more time */
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

/* guardEnd(ms): from now on SIGTERM, SIGINT and SIGQUIT end the process after that time, if it has not ended before. To be
 * called once, when Node listens to them. */
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

/* endAfter(ms, status): the main thread has heard, and takes this much time from now on. Needs guardEnd. */
static napi_value end_after(napi_env env, napi_callback_info info)
{
	ARGS(2);
	arm(arg_int(env, argv[0]), arg_int(env, argv[1]));
	return number(env, 0);
}

/* lastWords(fd, before, after): what is written there when the time is over, with the time between. */
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

/* exitNow(status): the end of all threads, wherever they are. Node's own would wait for each. */
static napi_value exit_now(napi_env env, napi_callback_info info)
{
	ARGS(1);
	_exit(arg_int(env, argv[0]));
}

/* leaveNow(status): the same, with the TAPs of this process gone first, in the time that one takes. */
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
