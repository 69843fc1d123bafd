/*
 * Gives up rights, and becomes another program without them. Also has the calls for inherited descriptors and children.
 * Conventions as in dgram_extra.h.
 *
 * Capabilities, ids and no_new_privs belong to a thread and not to a process, and Node has several threads before any
 * JavaScript runs. So each thread gives up its rights itself, the others in the handler of a signal (as libpsx does it). The
 * functions make raw system calls, since the C library would apply setresuid(2) to all threads, and capset(2) to one.
 */
#define _GNU_SOURCE
#include "dgram_extra.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

/* System calls of Landlock (Linux 5.13). They have the same number on every architecture; older headers lack them. */
enum { CREATE_RULESET = 444, ADD_RULE = 445 };

/* Reduces the capabilities of the calling thread to those in `keep`, which programs that it starts have as well (ambient).
 * Returns 0 or a negated errno. */
static int keep_only(uint32_t keep)
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct sets[2];
	if (syscall(SYS_capget, &header, sets) < 0)
		return -errno;
	sets[0].permitted &= keep;
	sets[0].effective = sets[0].inheritable = sets[0].permitted;
	memset(&sets[1], 0, sizeof sets[1]);
	if (syscall(SYS_capset, &header, sets) < 0)
		return -errno;
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
		return -errno;
	for (unsigned long cap = 0; cap < 32; cap++)
		if (sets[0].permitted & (1u << cap) && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0) < 0)
			return -errno;
	return 0;
}

/* Capabilities that each thread keeps, and its new user, group and supplementary groups, or no ids. Static, since a thread that
 * gets its signal late reads it too. */
enum { MAX_IDS = 2 + NGROUPS_MAX };
static struct {
	uint32_t keep;
	int32_t ids[MAX_IDS];
	size_t count;
} wanted;

/* For the calling thread, in a handler of a signal too. Returns 0 or a negated errno. */
static int drop_here(void)
{
	/* A program that is started later cannot gain a capability outside the bounding set. To reduce that set needs
	 * CAP_SETPCAP; without it the set stays, and no_new_privs alone prevents the gain. */
	for (unsigned long cap = 0; cap < 64; cap++)
		if ((cap >= 32 || !(wanted.keep & (1u << cap))) && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
			break;
	const int32_t *ids = wanted.ids;
	if (wanted.count >= 2) {
		if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0 || syscall(SYS_setgroups, wanted.count - 2, ids + 2) < 0 ||
		    syscall(SYS_setresgid, ids[1], ids[1], ids[1]) < 0 || syscall(SYS_setresuid, ids[0], ids[0], ids[0]) < 0)
			return -errno;
	}
	int result = keep_only(wanted.keep);
	return result < 0 ? result : or_errno(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
}

/* dropPrivileges(keep, ids): the calling thread keeps the capabilities with a bit in `keep` (those below 32), and can
 * never gain others. `ids` has the new user, group and supplementary groups, or is empty. */
static napi_value drop_privileges(napi_env env, napi_callback_info info)
{
	ARGS(2);
	size_t bytes;
	const int32_t *ids = arg_bytes(env, argv[1], &bytes);
	if (bytes / 4 > MAX_IDS)
		return number(env, -EINVAL);
	wanted.keep = (uint32_t)arg_int(env, argv[0]);
	wanted.count = ids ? bytes / 4 : 0;
	if (ids)
		memcpy(wanted.ids, ids, wanted.count * 4);
	return number(env, drop_here());
}

/* The signal by which the C library applies setresuid(2) to all threads. No thread blocks it, since sigfillset(3) leaves it
 * out, and Node has a thread that blocks all others. The C library takes no handler for it, so the kernel is asked. */
enum { TO_ALL = 33, MOST_THREADS = 256, THREAD_MS = 1000 };

/* struct sigaction of the kernel, on x86-64 and arm64. */
struct kernel_action {
	void (*handler)(int);
	unsigned long flags;
	void (*restorer)(void);
	uint64_t mask;
};

static sem_t dropped;
static volatile int failure;

static void drop_in_handler(int signal_number)
{
	(void)signal_number;
	int before = errno, result = drop_here();
	if (result < 0)
		failure = result;
	sem_post(&dropped);
	errno = before;
}

static int set_action(int signal_number, const struct kernel_action *action, struct kernel_action *before)
{
#if defined(__x86_64__) || defined(__aarch64__)
	return or_errno((int)syscall(SYS_rt_sigaction, signal_number, action, before, sizeof action->mask));
#else
	(void)signal_number, (void)action, (void)before;
	return -ENOSYS;
#endif
}

/* Puts the handler in place as the C library does for its own signals, which know how to return from one. */
static int take_signal(struct kernel_action *before)
{
	struct sigaction own = { .sa_handler = drop_in_handler, .sa_flags = SA_RESTART }, other;
	struct kernel_action action;
	sigfillset(&own.sa_mask);
	if (sigaction(SIGRTMAX, &own, &other) < 0)
		return -errno;
	int result = set_action(SIGRTMAX, NULL, &action);
	sigaction(SIGRTMAX, &other, NULL);
	return result < 0 ? result : set_action(TO_ALL, &action, before);
}

static int drop_in_thread(pid_t thread)
{
	struct timespec until;
	if (syscall(SYS_tgkill, getpid(), thread, TO_ALL) < 0)
		return errno == ESRCH ? 0 : -errno; /* it has ended */
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += THREAD_MS / 1000;
	while (sem_timedwait(&dropped, &until) < 0)
		if (errno != EINTR)
			return -errno;
	return failure;
}

/* Looks for threads until there is no new one: a thread that has not given up its rights may have started another. */
static int drop_in_others(DIR *directory)
{
	pid_t done[MOST_THREADS], self = (pid_t)syscall(SYS_gettid);
	size_t count = 0;
	for (size_t before = 1; before != count;) {
		before = count;
		rewinddir(directory);
		for (struct dirent *entry; (entry = readdir(directory));) {
			pid_t thread = atoi(entry->d_name);
			size_t at = 0;
			while (at < count && done[at] != thread)
				at++;
			if (thread <= 0 || thread == self || at < count)
				continue;
			if (count == MOST_THREADS)
				return -EAGAIN;
			int result = drop_in_thread(thread);
			if (result < 0)
				return result;
			done[count++] = thread;
		}
	}
	return 0;
}

/* dropInOtherThreads(): does for all other threads the same as dropPrivileges for its caller. Returns 0, or a negated errno when
 * a thread may have its rights still. */
static napi_value drop_in_other_threads(napi_env env, napi_callback_info info)
{
	(void)info;
	struct kernel_action before;
	DIR *directory = opendir("/proc/self/task");
	if (!directory)
		return number(env, -errno);
	int result = or_errno(sem_init(&dropped, 0, 0));
	if (result == 0)
		result = take_signal(&before);
	if (result == 0)
		result = drop_in_others(directory);
	/* A signal that comes late finds the handler. */
	if (result == 0)
		set_action(TO_ALL, &before, NULL);
	closedir(directory);
	/* As execve would: with another user, the kernel has given the files in /proc/self to root. */
	if (result == 0)
		result = or_errno(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0));
	return number(env, result);
}

/* landlock(ruleset, bytes): makes a ruleset out of a struct landlock_ruleset_attr when `ruleset` is below zero, and returns
 * its descriptor, which has FD_CLOEXEC; without bytes it returns the version of the kernel's Landlock. Otherwise adds a
 * struct landlock_path_beneath_attr to the ruleset. src/plugin-process/confine.c puts a ruleset into force. */
static napi_value landlock(napi_env env, napi_callback_info info)
{
	ARGS(2);
	size_t bytes;
	const int ruleset = arg_int(env, argv[0]);
	const void *data = arg_bytes(env, argv[1], &bytes);
	return number(env, or_errno((int)(ruleset < 0 ? syscall(CREATE_RULESET, data, bytes, data ? 0 : 1)
	                                              : syscall(ADD_RULE, ruleset, 1 /* PATH_BENEATH */, data, 0))));
}

/* startAnew(file, arguments): execve with the present environment; each argument ends with a NUL. Returns only on
 * failure. */
static napi_value start_anew(napi_env env, napi_callback_info info)
{
	ARGS(2);
	char file[4096];
	size_t bytes, count = 0;
	arg_text(env, argv[0], file, sizeof file);
	char *text = arg_bytes(env, argv[1], &bytes);
	if (!text || bytes == 0 || text[bytes - 1] != 0)
		return number(env, -EINVAL);
	char **list = calloc(bytes + 1, sizeof *list);
	if (!list)
		return number(env, -ENOMEM);
	for (char *at = text; at < text + bytes; at += strlen(at) + 1)
		list[count++] = at;
	for (int fd = 0; fd < 3; fd++)
		(void)fcntl(fd, F_SETFD, 0); /* Node sets FD_CLOEXEC even on descriptors 0 to 2 */
	leave_if_asked(); /* execve would lose a signal to end that no handler has processed yet */
	execve(file, list, environ);
	int error = -errno;
	free(list);
	return number(env, error);
}

/* setInheritable(fd, on): sets whether the descriptor stays open in programs that this one becomes or starts. */
static napi_value set_inheritable(napi_env env, napi_callback_info info)
{
	ARGS(2);
	return number(env, or_errno(fcntl(arg_int(env, argv[0]), F_SETFD, arg_int(env, argv[1]) ? 0 : FD_CLOEXEC)));
}

/* socketPair(fds): makes two connected stream sockets, with FD_CLOEXEC. */
static napi_value socket_pair(napi_env env, napi_callback_info info)
{
	ARGS(1);
	size_t bytes;
	int *fds = arg_bytes(env, argv[0], &bytes);
	if (!fds || bytes != 2 * sizeof *fds)
		return number(env, -EINVAL);
	return number(env, or_errno(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds)));
}

/* reapChild(pid): returns the pid if the child has ended, and 0 if it still runs. ECHILD if the process is not a child. */
static napi_value reap_child(napi_env env, napi_callback_info info)
{
	ARGS(1);
	return number(env, or_errno(waitpid(arg_int(env, argv[0]), NULL, WNOHANG)));
}

void define_privileges(napi_env env, napi_value exports)
{
	static const napi_property_descriptor privileges[] = {
		EXPORT("dropPrivileges", drop_privileges),
		EXPORT("dropInOtherThreads", drop_in_other_threads),
		EXPORT("landlock", landlock),
		EXPORT("startAnew", start_anew),
		EXPORT("setInheritable", set_inheritable),
		EXPORT("socketPair", socket_pair),
		EXPORT("reapChild", reap_child),
	};
	napi_define_properties(env, exports, sizeof privileges / sizeof *privileges, privileges);
}
