/*
 * Gives up rights, and becomes another program without them. Also has the calls for inherited descriptors and children.
 * Conventions as in dgram_extra.h.
 *
 * Capabilities, ids and no_new_privs belong to a thread and not to a process, and Node has several threads before any
 * JavaScript runs. So the functions here change only the calling thread. A whole process gets the new rights by
 * execve(2), which ends all other threads and keeps the rights of its caller, or by fork(2), which copies them. The
 * functions make raw system calls, since the C library would apply setresuid(2) to all threads, and capset(2) to one.
 */
#define _GNU_SOURCE
#include "dgram_extra.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
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

/* dropPrivileges(keep, ids): the calling thread keeps the capabilities with a bit in `keep` (those below 32), and can
 * never gain others. `ids` has the new user, group and supplementary groups, or is empty. */
static napi_value drop_privileges(napi_env env, napi_callback_info info)
{
	ARGS(2);
	uint32_t keep = (uint32_t)arg_int(env, argv[0]);
	size_t bytes;
	int32_t *ids = arg_bytes(env, argv[1], &bytes);
	size_t count = bytes / 4;
	/* A program that is started later cannot gain a capability outside the bounding set. To reduce that set needs
	 * CAP_SETPCAP; without it the set stays, and no_new_privs alone prevents the gain. */
	for (unsigned long cap = 0; cap < 64; cap++)
		if ((cap >= 32 || !(keep & (1u << cap))) && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
			break;
	if (ids && count >= 2) {
		if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0 || syscall(SYS_setgroups, count - 2, ids + 2) < 0 ||
		    syscall(SYS_setresgid, ids[1], ids[1], ids[1]) < 0 || syscall(SYS_setresuid, ids[0], ids[0], ids[0]) < 0)
			return number(env, -errno);
	}
	int result = keep_only(keep);
	if (result == 0)
		result = or_errno(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
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
		EXPORT("landlock", landlock),
		EXPORT("startAnew", start_anew),
		EXPORT("setInheritable", set_inheritable),
		EXPORT("socketPair", socket_pair),
		EXPORT("reapChild", reap_child),
	};
	napi_define_properties(env, exports, sizeof privileges / sizeof *privileges, privileges);
}
