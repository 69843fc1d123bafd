/* older-landlock - a kernel with an earlier version of Landlock, or with none.
 *
 * Preloaded into a program (LD_PRELOAD), it stands before syscall(2). OLDER_LANDLOCK is the version that the kernel says it
 * has; below zero it is the negated errno of every call, as a kernel without Landlock gives it. A ruleset with a right that this version
 * lacks is refused with EINVAL, and a larger structure that is not 0 with E2BIG, as that kernel would. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

enum { CREATE_RULESET = 444, RESTRICT_SELF = 446 };

static long fails(int error)
{
	errno = error;
	return -1;
}

/* struct landlock_ruleset_attr: rights over files, rights over the network since version 4, scopes since version 6. */
static long check(const uint64_t *attributes, long bytes, int version)
{
	const int rights = version < 2 ? 13 : version < 3 ? 14 : version < 5 ? 15 : 16;
	const int words = version < 4 ? 1 : version < 6 ? 2 : 3;
	for (int word = words; word < bytes / 8; word++)
		if (attributes[word] != 0)
			return fails(E2BIG);
	return attributes[0] >> rights ? fails(EINVAL) : 0;
}

long syscall(long number, ...)
{
	static long (*real)(long, ...);
	if (!real)
		real = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
	long a[6];
	va_list list;
	va_start(list, number);
	for (int n = 0; n < 6; n++)
		a[n] = va_arg(list, long);
	va_end(list);
	if (number >= CREATE_RULESET && number <= RESTRICT_SELF) {
		const char *text = getenv("OLDER_LANDLOCK");
		const int version = text ? atoi(text) : -ENOSYS;
		if (version < 0)
			return fails(-version);
		if (number == CREATE_RULESET && a[0] == 0)
			return version;
		if (number == CREATE_RULESET && check((const uint64_t *)a[0], a[1], version) < 0)
			return -1;
	}
	return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
