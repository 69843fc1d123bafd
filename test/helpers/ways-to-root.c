/*
 * Tries what code without rights does to have more of them, each in a process of its own, and prints a line for each: its
 * name and the errno that it gave, 0 when it was done. Arguments are such that root comes to no harm: what would change the
 * machine asks for something that does not exist.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define CALL(...) (syscall(__VA_ARGS__) < 0 ? errno : 0)

static int set_uid(void) { return CALL(SYS_setresuid, 0, 0, 0); }
static int set_gid(void) { return CALL(SYS_setresgid, 0, 0, 0); }
static int set_groups(void) { gid_t root = 0; return CALL(SYS_setgroups, 1, &root); }
static int user_namespace(void) { return CALL(SYS_unshare, CLONE_NEWUSER); }
static int mount_namespace(void) { return CALL(SYS_unshare, CLONE_NEWNS); }
static int network_namespace(void) { return CALL(SYS_unshare, CLONE_NEWNET); }
static int root_directory(void) { return CALL(SYS_chroot, "/"); }
static int mount_something(void) { return CALL(SYS_mount, "none", "/nonexistent", "tmpfs", 0, ""); }
static int new_mount(void) { return CALL(SYS_fsopen, "tmpfs", 0); }
static int mounted_tree(void) { return CALL(SYS_open_tree, AT_FDCWD, "/", 1 /* OPEN_TREE_CLONE */); }
static int keyring(void) { return CALL(SYS_keyctl, 0, -2, 1); }
static int ring(void) { char parameters[120] = { 0 }; return CALL(SYS_io_uring_setup, 4, parameters); }
static int fault_handler(void) { return CALL(SYS_userfaultfd, 1 /* of its own faults alone */); }
static int module(void) { return CALL(SYS_finit_module, -1, "", 0); }
static int kexec(void) { return CALL(SYS_kexec_load, 0, 0, NULL, ~0ul); }
static int restart(void) { return CALL(SYS_reboot, 0, 0, 0, NULL); }
static int swap(void) { return CALL(SYS_swapon, "/nonexistent", 0); }
static int clock_set(void) { return CALL(SYS_clock_settime, 99, NULL); }
static int handle(void) { return CALL(SYS_open_by_handle_at, AT_FDCWD, NULL, 0); }

static int device(void)
{
	char file[64];
	snprintf(file, sizeof file, "/tmp/varpd-memory-%d", getpid());
	int error = CALL(SYS_mknodat, AT_FDCWD, file, S_IFCHR | 0600, makedev(1, 1));
	unlink(file);
	return error;
}

static int own_namespace(void)
{
	int fd = open("/proc/self/ns/uts", O_RDONLY);
	return CALL(SYS_setns, fd, 0);
}

static int clone_user(void)
{
	long pid = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, NULL, NULL, NULL, NULL);
	if (pid == 0)
		_exit(0);
	return pid < 0 ? errno : 0;
}

static int clone3_user(void)
{
	struct clone_args args = { .flags = CLONE_NEWUSER, .exit_signal = SIGCHLD };
	long pid = syscall(SYS_clone3, &args, sizeof args);
	if (pid == 0)
		_exit(0);
	return pid < 0 ? errno : 0;
}

static int trace(void)
{
	if (ptrace(PTRACE_SEIZE, getppid(), NULL, NULL) < 0)
		return errno;
	return ptrace(PTRACE_DETACH, getppid(), NULL, NULL) < 0 && errno != ESRCH ? errno : 0;
}

static int memory_of_others(void)
{
	char here[8];
	struct iovec mine = { here, sizeof here }, theirs = { &stdout, sizeof here };
	return CALL(SYS_process_vm_readv, getppid(), &mine, 1, &theirs, 1, 0);
}

static int bpf_map(void)
{
	union bpf_attr attr;
	memset(&attr, 0, sizeof attr);
	attr.map_type = BPF_MAP_TYPE_ARRAY;
	attr.key_size = attr.value_size = 4;
	attr.max_entries = 1;
	return CALL(SYS_bpf, BPF_MAP_CREATE, &attr, sizeof attr);
}

static int capabilities(void)
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct sets[2] = { { 1u << CAP_SYS_ADMIN, 1u << CAP_SYS_ADMIN, 0 }, { 0, 0, 0 } };
	return CALL(SYS_capset, &header, sets);
}

static int ambient(void)
{
	return prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_SYS_ADMIN, 0, 0) < 0 ? errno : 0;
}

static int typing(void)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY);
	if (master < 0)
		return errno; /* a plugin under Landlock has no terminal */
	if (grantpt(master) < 0 || unlockpt(master) < 0)
		return -1;
	setsid();
	int terminal = open(ptsname(master), O_RDWR); /* the one of this session from now on */
	return ioctl(terminal, TIOCSTI, "x") < 0 ? errno : 0;
}

static const struct {
	const char *name;
	int (*try)(void);
} ways[] = {
	{ "setresuid", set_uid },
	{ "setresgid", set_gid },
	{ "setgroups", set_groups },
	{ "capset", capabilities },
	{ "ambient-capability", ambient },
	{ "unshare-user", user_namespace },
	{ "unshare-mount", mount_namespace },
	{ "unshare-net", network_namespace },
	{ "clone-user", clone_user },
	{ "clone3-user", clone3_user },
	{ "setns", own_namespace },
	{ "chroot", root_directory },
	{ "mount", mount_something },
	{ "fsopen", new_mount },
	{ "open_tree", mounted_tree },
	{ "open_by_handle_at", handle },
	{ "mknod", device },
	{ "ptrace", trace },
	{ "process_vm_readv", memory_of_others },
	{ "bpf", bpf_map },
	{ "keyctl", keyring },
	{ "io_uring_setup", ring },
	{ "userfaultfd", fault_handler },
	{ "finit_module", module },
	{ "kexec_load", kexec },
	{ "reboot", restart },
	{ "swapon", swap },
	{ "clock_settime", clock_set },
	{ "tiocsti", typing },
};

int main(void)
{
	for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
		int status = 0;
		pid_t child = fork();
		if (child == 0)
			_exit(ways[i].try());
		if (child < 0 || waitpid(child, &status, 0) < 0)
			return 1;
		printf("%s %d\n", ways[i].name, WIFEXITED(status) ? WEXITSTATUS(status) : -1);
		fflush(stdout);
	}
	return 0;
}
