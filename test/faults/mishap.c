/* Mishaps of system calls, for a process that is started with this library in LD_PRELOAD.
 *
 * The file that MISHAP names says what is to happen; while there is none, nothing does:
 *
 *   kill HOW N      SIGKILL at the Nth call that changes the directory MISHAP_DIR or a file in it, or that tells the
 *                   service manager something. HOW is `before` the call, `after` it, or `half`: a write that has
 *                   written half of its bytes
 *   hang epoll N    the Nth thread that has called epoll_wait (datapath threads do, Node itself does not) stays in its next
 *                   call for ever
 *   fail CALL E     every call of sendmmsg or writev fails with errno E; of `disk`, every call that makes, writes, syncs or
 *                   renames a file in that directory
 *
 * Counted since the file is there, over all threads. writev is what frames are written to a TAP with. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static atomic_int calls;

struct order {
	char what[16], how[16];
	int number;
};

static int read_order(struct order *order)
{
	static __typeof__(&open) real_open;
	if (!real_open)
		real_open = REAL(open);
	const char *name = getenv("MISHAP");
	char text[64] = "";
	int fd = name ? real_open(name, O_RDONLY | O_CLOEXEC) : -1;
	if (fd < 0) {
		calls = 0;
		return 0;
	}
	ssize_t got = read(fd, text, sizeof text - 1);
	close(fd);
	return got > 0 && sscanf(text, "%15s %15s %d", order->what, order->how, &order->number) == 3;
}

static int is_watched(const char *path)
{
	const char *directory = getenv("MISHAP_DIR");
	size_t length = directory ? strlen(directory) : 0;
	return length > 0 && strncmp(path, directory, length) == 0 && (path[length] == 0 || path[length] == '/');
}

static int is_watched_fd(int fd)
{
	char link[32], target[PATH_MAX];
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	ssize_t length = readlink(link, target, sizeof target - 1);
	if (length < 0)
		return 0;
	target[length] = 0;
	return is_watched(target);
}

/* The file need not be there yet: its directory decides. */
static int is_watched_path(const char *path)
{
	char directory[PATH_MAX], target[PATH_MAX];
	const char *slash = strrchr(path, '/');
	if (!slash || slash == path || (size_t)(slash - path) >= sizeof directory)
		return 0;
	memcpy(directory, path, (size_t)(slash - path));
	directory[slash - path] = 0;
	return realpath(directory, target) && is_watched(target);
}

static void die(void)
{
	kill(getpid(), SIGKILL);
	for (;;)
		pause();
}

static int fails(const char *call)
{
	struct order order;
	if (!read_order(&order) || strcmp(order.what, "fail") != 0 || strcmp(order.how, call) != 0)
		return 0;
	errno = order.number;
	return 1;
}

/* Which call of the watched ones this is; dies before it if it is the one. True when the caller is to die after it, and
 * `*half` when it is to do half of it. */
static int is_last(int watched, int *half)
{
	struct order order;
	if (!watched || !read_order(&order) || strcmp(order.what, "kill") != 0 || ++calls != order.number)
		return 0;
	if (strcmp(order.how, "before") == 0)
		die();
	if (half)
		*half = strcmp(order.how, "half") == 0;
	return 1;
}

#define CHANGES(watched, call)                        \
	do {                                          \
		int watched_one = watched;            \
		if (watched_one && fails("disk"))     \
			return -1;                    \
		int last = is_last(watched_one, 0);   \
		__typeof__(call) result = call;       \
		if (last)                             \
			die();                        \
		return result;                        \
	} while (0)

static int open_either(int (*real)(const char *, int, ...), const char *path, int flags, mode_t mode)
{
	CHANGES((flags & O_CREAT) && is_watched_path(path), real(path, flags, mode));
}

int open(const char *path, int flags, ...)
{
	va_list rest;
	va_start(rest, flags);
	mode_t mode = (flags & O_CREAT) ? va_arg(rest, mode_t) : 0;
	va_end(rest);
	return open_either(REAL(open), path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
	va_list rest;
	va_start(rest, flags);
	mode_t mode = (flags & O_CREAT) ? va_arg(rest, mode_t) : 0;
	va_end(rest);
	return open_either(REAL(open64), path, flags, mode);
}

ssize_t write(int fd, const void *bytes, size_t length)
{
	int half = 0, watched = fd > 2 && is_watched_fd(fd);
	if (watched && fails("disk"))
		return -1;
	int last = is_last(watched, &half);
	ssize_t result = REAL(write)(fd, bytes, half ? length / 2 : length);
	if (last)
		die();
	return result;
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t at)
{
	int half = 0, last = is_last(is_watched_fd(fd), &half);
	ssize_t result = REAL(pwrite64)(fd, bytes, half ? length / 2 : length, at);
	if (last)
		die();
	return result;
}

int fsync(int fd)
{
	CHANGES(is_watched_fd(fd), REAL(fsync)(fd));
}

int rename(const char *from, const char *to)
{
	CHANGES(is_watched_path(to), REAL(rename)(from, to));
}

int unlink(const char *path)
{
	int last = is_last(is_watched_path(path), 0);
	int result = REAL(unlink)(path);
	if (last)
		die();
	return result;
}

int epoll_wait(int epoll, struct epoll_event *events, int room, int timeout)
{
	static atomic_int threads;
	static _Thread_local int thread;
	if (!thread)
		thread = ++threads;
	struct order order;
	if (read_order(&order) && strcmp(order.what, "hang") == 0 && order.number == thread)
		for (;;)
			pause();
	return REAL(epoll_wait)(epoll, events, room, timeout);
}

ssize_t writev(int fd, const struct iovec *vecs, int count)
{
	return fails("writev") ? -1 : REAL(writev)(fd, vecs, count);
}

static int is_notice(const struct msghdr *message)
{
	const char *manager = getenv("NOTIFY_SOCKET");
	const struct sockaddr_un *to = message->msg_name;
	return manager && to && to->sun_family == AF_UNIX && strncmp(to->sun_path, manager, sizeof to->sun_path) == 0;
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
	int last = is_last(is_notice(message), 0);
	ssize_t result = REAL(sendmsg)(fd, message, flags);
	if (last)
		die();
	return result;
}

int sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags)
{
	return fails("sendmmsg") ? -1 : REAL(sendmmsg)(fd, messages, count, flags);
}
