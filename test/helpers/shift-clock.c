/* shift-clock - a host whose clock was set.
 *
 * Preloaded into a program (LD_PRELOAD), it stands before clock_gettime(2) and gettimeofday(2): the real time is
 * SHIFT_SECONDS later than that of the kernel. Monotonic time passes as it is.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static long shift(void)
{
	const char *seconds = getenv("SHIFT_SECONDS");
	return seconds ? atol(seconds) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *time)
{
	static int (*real)(clockid_t, struct timespec *);
	if (!real)
		real = dlsym(RTLD_NEXT, "clock_gettime");
	int result = real(clock, time);
	if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)
		time->tv_sec += shift();
	return result;
}

int gettimeofday(struct timeval *time, void *zone)
{
	static int (*real)(struct timeval *, void *);
	if (!real)
		real = dlsym(RTLD_NEXT, "gettimeofday");
	int result = real(time, zone);
	time->tv_sec += shift();
	return result;
}
