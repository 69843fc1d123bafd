/*
 * Refuses system calls for the rest of the process: calls that neither Node nor varpd needs once it runs, and that
 * could give code more rights or a view of more of the machine. Conventions as in dgram_extra.h.
 *
 * The list has the refused calls and not the allowed ones, since V8 and libuv use other calls with each release. Most
 * answers depend on the number of the call alone. Since Linux 5.11 the kernel keeps these as one bit for each call, so
 * an allowed call costs nothing more.
 */
#define _GNU_SOURCE
#include "dgram_extra.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define OWN_ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define OWN_ARCHITECTURE AUDIT_ARCH_AARCH64
#endif

#ifdef OWN_ARCHITECTURE

#ifndef TIOCLINUX
#define TIOCLINUX 0x541C
#endif
/* x32, the other ABI of x86-64, has the same calls under numbers from here on. */
#define X32_CALLS 0x40000000
#define NEW_NAMESPACES                                                                                        \
	(CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET)

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define LOAD_ARGUMENT(n) LOAD(args[n]) /* loads the low half: both architectures are little-endian */
#define ANSWER(what) BPF_STMT(BPF_RET | BPF_K, what)
#define REFUSE ANSWER(SECCOMP_RET_ERRNO | EPERM)
/* The answer of a kernel without the call. The callers have a replacement for it. */
#define UNKNOWN ANSWER(SECCOMP_RET_ERRNO | ENOSYS)
/* Runs the next `count` instructions only if the loaded value is `value`. */
#define IF(value, count) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, count)
#define REFUSE_CALL(name) IF(SYS_##name, 1), REFUSE

static struct sock_filter filter[] = {
	LOAD(arch),
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, OWN_ARCHITECTURE, 1, 0),
	REFUSE,
	LOAD(nr),
#ifdef __x86_64__
	BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, X32_CALLS, 0, 1),
	REFUSE,
#endif

	/* Programs in the kernel, and its internals. */
	REFUSE_CALL(bpf), REFUSE_CALL(perf_event_open), REFUSE_CALL(userfaultfd), REFUSE_CALL(syslog),
	REFUSE_CALL(init_module), REFUSE_CALL(finit_module), REFUSE_CALL(delete_module),
	REFUSE_CALL(kexec_load), REFUSE_CALL(kexec_file_load),
	/* io_uring is a large attack surface. libuv works without it, and the existing rings can only read (ring.h). */
	IF(SYS_io_uring_setup, 1), UNKNOWN,

	/* Other processes. */
	REFUSE_CALL(ptrace), REFUSE_CALL(process_vm_readv), REFUSE_CALL(process_vm_writev), REFUSE_CALL(kcmp),
#ifdef SYS_pidfd_getfd
	REFUSE_CALL(pidfd_getfd),
#endif
	/* Keys of the user, which outlive the process. */
	REFUSE_CALL(add_key), REFUSE_CALL(request_key), REFUSE_CALL(keyctl),

	/* Namespaces (in a new user namespace every user is root) and mounts. */
	REFUSE_CALL(unshare), REFUSE_CALL(setns), REFUSE_CALL(chroot), REFUSE_CALL(pivot_root),
	REFUSE_CALL(mount), REFUSE_CALL(umount2),
#ifdef SYS_fsopen
	REFUSE_CALL(open_tree), REFUSE_CALL(move_mount), REFUSE_CALL(fsopen), REFUSE_CALL(fsconfig),
	REFUSE_CALL(fsmount), REFUSE_CALL(fspick),
#endif
#ifdef SYS_mount_setattr
	REFUSE_CALL(mount_setattr),
#endif
	REFUSE_CALL(name_to_handle_at), REFUSE_CALL(open_by_handle_at), REFUSE_CALL(fanotify_init),

	/* The machine. */
	REFUSE_CALL(reboot), REFUSE_CALL(swapon), REFUSE_CALL(swapoff), REFUSE_CALL(acct), REFUSE_CALL(quotactl),
	REFUSE_CALL(settimeofday), REFUSE_CALL(clock_settime), REFUSE_CALL(clock_adjtime), REFUSE_CALL(adjtimex),
	REFUSE_CALL(sethostname), REFUSE_CALL(setdomainname), REFUSE_CALL(vhangup),
#ifdef __x86_64__
	REFUSE_CALL(iopl), REFUSE_CALL(ioperm), REFUSE_CALL(modify_ldt), REFUSE_CALL(create_module),
#endif

	/* glibc uses clone instead of clone3 then, and a filter can read the flags of clone. */
	IF(SYS_clone3, 1), UNKNOWN,
	IF(SYS_clone, 4), LOAD_ARGUMENT(0),
	BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, NEW_NAMESPACES, 0, 1), REFUSE, ANSWER(SECCOMP_RET_ALLOW),

	/* Input into the terminal that varpd was started from, as if its user had typed it. */
	IF(SYS_ioctl, 5), LOAD_ARGUMENT(1), IF(TIOCSTI, 1), REFUSE, IF(TIOCLINUX, 1), REFUSE,
	ANSWER(SECCOMP_RET_ALLOW),
};
#endif

/* limitSystemCalls(): sets the filter for all threads and the programs that they start. Returns 0 or a negated errno. */
static napi_value limit_system_calls(napi_env env, napi_callback_info info)
{
	(void)info;
#ifdef OWN_ARCHITECTURE
	struct sock_fprog program = { sizeof filter / sizeof *filter, filter };
	/* Without SPEC_ALLOW a filter also enables mitigations of speculation, which make everything slower. */
	unsigned long flags = SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_SPEC_ALLOW;
	return number(env, or_errno((int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program)));
#else
	return number(env, -ENOSYS);
#endif
}

void define_system_calls(napi_env env, napi_value exports)
{
	static const napi_property_descriptor calls[] = { EXPORT("limitSystemCalls", limit_system_calls) };
	napi_define_properties(env, exports, sizeof calls / sizeof *calls, calls);
}
