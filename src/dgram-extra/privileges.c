/*
 * Giving up rights, restarting without them, and what else concerns the process as a whole: its children.
 * Conventions as in dgram_extra.h.
 *
 * Capabilities, ids and no_new_privs belong to a thread, not to a process, and Node has threads before any JavaScript
 * runs. So the calls here change the calling thread alone, and what makes it true for all is what follows: execve(2)
 * ends every other thread and goes on with the rights of its caller, fork(2) copies those of its caller. Raw system
 * calls, since the C library would hand setresuid(2) to the other threads, and capset(2) not.
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

/* Of the calling thread: `keep` of what it may, and that for programs it starts too (ambient); 0 or a negated errno. */
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

/* dropPrivileges(keep, ids): the calling thread keeps the capabilities whose bits are in `keep` (those below 32), and can
 * never gain others. `ids` is user, group and supplementary groups to become, or empty. */
static napi_value drop_privileges(napi_env env, napi_callback_info info)
{
	ARGS(2);
	uint32_t keep = (uint32_t)arg_int(env, argv[0]);
	size_t bytes;
	int32_t *ids = arg_bytes(env, argv[1], &bytes);
	size_t count = bytes / 4;
	/* The bounding set while that is allowed: nothing that root starts later regains it. Without CAP_SETPCAP it stays,
	 * and no_new_privs alone does it. */
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

/* startAnew(file, arguments): execve with this environment; each argument ends in a NUL. Returns only when it fails. */
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
		(void)fcntl(fd, F_SETFD, 0); /* Node has closed even these to programs that it starts */
	leave_if_asked(); /* a signal that nobody has heard yet would be lost */
	execve(file, list, environ);
	int error = -errno;
	free(list);
	return number(env, error);
}

/* setInheritable(fd, on): whether it is still open after startAnew. */
static napi_value set_inheritable(napi_env env, napi_callback_info info)
{
	ARGS(2);
	return number(env, or_errno(fcntl(arg_int(env, argv[0]), F_SETFD, arg_int(env, argv[1]) ? 0 : FD_CLOEXEC)));
}

/* socketPair(fds): two connected stream sockets, closed to programs that this one starts. */
static napi_value socket_pair(napi_env env, napi_callback_info info)
{
	ARGS(1);
	size_t bytes;
	int *fds = arg_bytes(env, argv[0], &bytes);
	if (!fds || bytes != 2 * sizeof *fds)
		return number(env, -EINVAL);
	return number(env, or_errno(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds)));
}

/* reapChild(pid): its number when it has ended, 0 when it runs; ECHILD when it is no child. */
static napi_value reap_child(napi_env env, napi_callback_info info)
{
	ARGS(1);
	return number(env, or_errno(waitpid(arg_int(env, argv[0]), NULL, WNOHANG)));
}

void define_privileges(napi_env env, napi_value exports)
{
	static const napi_property_descriptor privileges[] = {
		EXPORT("dropPrivileges", drop_privileges),
		EXPORT("startAnew", start_anew),
		EXPORT("setInheritable", set_inheritable),
		EXPORT("socketPair", socket_pair),
		EXPORT("reapChild", reap_child),
	};
	napi_define_properties(env, exports, sizeof privileges / sizeof *privileges, privileges);
}
