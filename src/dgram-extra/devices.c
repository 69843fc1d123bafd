/*
 * Makes and sets up sockets, and loads BPF programs; tap-device.c makes TAPs. These functions are called a few times in
 * the life of an overlay, never for a frame. Conventions as in dgram_extra.c: a number >= 0, or a negated errno.
 */
#define _GNU_SOURCE
#include "dgram_extra.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#ifndef SO_PEERGROUPS
#define SO_PEERGROUPS 59
#endif
#ifndef UDP_NO_CHECK6_TX
#define UDP_NO_CHECK6_TX 101
#define UDP_NO_CHECK6_RX 102
#endif
#ifndef IPV6_FREEBIND
#define IPV6_FREEBIND 78
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

static int failed(int fd)
{
	int error = -errno;
	close(fd);
	return error;
}

/* programLoad(instructions, type): returns a descriptor of a BPF program (linux/bpf.h: struct bpf_insn, enum bpf_prog_type). */
static napi_value program_load(napi_env env, napi_callback_info info)
{
	ARGS(2);
	size_t bytes;
	void *instructions = arg_bytes(env, argv[0], &bytes);
	union bpf_attr program = {
		.prog_type = (uint32_t)arg_int(env, argv[1]),
		.insns = (uintptr_t)instructions,
		.insn_cnt = (uint32_t)(bytes / sizeof(struct bpf_insn)),
		.license = (uintptr_t) "",
	};
	return number(env, instructions ? or_errno((int)syscall(SYS_bpf, BPF_PROG_LOAD, &program, sizeof program)) : -EINVAL);
}

/* ---------------------------------------------------------------------------------------------------- sockets */

socklen_t make_address(union address *to, const uint8_t *ip, int port)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff }; /* RFC 4291 2.5.5.2 */
	memset(to, 0, sizeof *to);
	if (memcmp(ip, mapped, sizeof mapped) == 0) {
		to->v4.sin_family = AF_INET;
		to->v4.sin_port = htons((uint16_t)port);
		memcpy(&to->v4.sin_addr, ip + 12, 4);
		return sizeof to->v4;
	}
	to->v6.sin6_family = AF_INET6;
	to->v6.sin6_port = htons((uint16_t)port);
	memcpy(&to->v6.sin6_addr, ip, 16);
	return sizeof to->v6;
}

static int set_int(int fd, int level, int name, int value)
{
	return setsockopt(fd, level, name, &value, sizeof value);
}

/* udpProbe(option): returns 0 if UDP sockets have the option (UDP_SEGMENT, UDP_GRO), otherwise the errno. */
static napi_value udp_probe(napi_env env, napi_callback_info info)
{
	ARGS(1);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, IPPROTO_UDP);
	if (fd < 0)
		return number(env, -errno);
	int result = or_errno(set_int(fd, IPPROTO_UDP, arg_int(env, argv[0]), 1));
	close(fd);
	return number(env, result);
}

/* Sets a buffer beyond the system's limit, which needs CAP_NET_ADMIN; otherwise up to that limit. */
static void set_buffer(int fd, int forced, int plain, int bytes)
{
	if (bytes > 0 && set_int(fd, SOL_SOCKET, forced, bytes) < 0)
		(void)set_int(fd, SOL_SOCKET, plain, bytes);
}

enum { REUSE_PORT = 1, ZERO_CHECKSUM_TX = 2, ZERO_CHECKSUM_RX = 4, SEND_ONLY = 8, COALESCE = 16, ADMIT_OTHERS = 32,
       FREE_BIND = 64, PATH_NEWS = 128 };

/* udpOpen(address16, port, options, receiveBufferBytes, sendBufferBytes): returns a bound socket that never fragments, and
 * that reports the traffic class of datagrams. udp-errors.c has its handling of ICMP messages about paths. */
static napi_value udp_open(napi_env env, napi_callback_info info)
{
	ARGS(5);
	size_t bytes;
	uint8_t *ip = arg_bytes(env, argv[0], &bytes);
	int options = arg_int(env, argv[2]);
	if (!ip || bytes != 16)
		return number(env, -EINVAL);
	union address local;
	socklen_t length = make_address(&local, ip, arg_int(env, argv[1]));
	int v4 = local.sa.sa_family == AF_INET;
	int fd = socket(local.sa.sa_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_UDP);
	if (fd < 0)
		return number(env, -errno);
	int bad = v4 ? set_int(fd, IPPROTO_IP, IP_RECVTOS, 1) < 0 :
		       set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1) < 0 ||
			       set_int(fd, IPPROTO_IPV6, IPV6_RECVTCLASS, 1) < 0;
	bad |= set_path_options(fd, v4, options & PATH_NEWS) < 0;
	if (options & REUSE_PORT)
		bad |= set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1) < 0;
	if (options & ZERO_CHECKSUM_TX)
		bad |= (v4 ? set_int(fd, SOL_SOCKET, SO_NO_CHECK, 1) : set_int(fd, IPPROTO_UDP, UDP_NO_CHECK6_TX, 1)) < 0;
	if (options & ZERO_CHECKSUM_RX && !v4)
		bad |= set_int(fd, IPPROTO_UDP, UDP_NO_CHECK6_RX, 1) < 0;
	if (options & SEND_ONLY) {
		struct sock_filter nothing = BPF_STMT(BPF_RET | BPF_K, 0);
		struct sock_fprog program = { 1, &nothing };
		bad |= setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) < 0;
	}
	if (options & FREE_BIND) /* before Linux 4.15 not for IPv6: then bind fails with EADDRNOTAVAIL */
		(void)(v4 ? set_int(fd, IPPROTO_IP, IP_FREEBIND, 1) : set_int(fd, IPPROTO_IPV6, IPV6_FREEBIND, 1));
	if (options & COALESCE)
		(void)set_int(fd, IPPROTO_UDP, UDP_GRO, 1); /* fails before Linux 5.0: then each datagram is received alone */
	if (bad)
		return number(env, failed(fd));
	set_buffer(fd, SO_RCVBUFFORCE, SO_RCVBUF, arg_int(env, argv[3]));
	set_buffer(fd, SO_SNDBUFFORCE, SO_SNDBUF, arg_int(env, argv[4]));
	if (bind(fd, &local.sa, length) < 0)
		return number(env, failed(fd));
	/* Set after bind: so bind fails if another socket is bound here already and would get a part of the datagrams. */
	if (options & ADMIT_OTHERS && set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1) < 0)
		return number(env, failed(fd));
	return number(env, fd);
}

/* netlinkOpen(groups, receiveBytes, protocol): returns a netlink socket of NETLINK_ROUTE, or another protocol, that is a member
 * of these multicast groups (bits: group n is bit n - 1). */
static napi_value netlink_open(napi_env env, napi_callback_info info)
{
	ARGS(3);
	struct sockaddr_nl local = { .nl_family = AF_NETLINK, .nl_groups = (uint32_t)arg_int(env, argv[0]) };
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, arg_int(env, argv[2]));
	if (fd < 0)
		return number(env, -errno);
	set_buffer(fd, SO_RCVBUFFORCE, SO_RCVBUF, arg_int(env, argv[1]));
	if (bind(fd, (struct sockaddr *)&local, sizeof local) < 0)
		return number(env, failed(fd));
	return number(env, fd);
}

/* netlinkSend(fd, message) */
static napi_value netlink_send(napi_env env, napi_callback_info info)
{
	ARGS(2);
	size_t bytes;
	void *message = arg_bytes(env, argv[1], &bytes);
	return number(env, message ? or_errno((int)send(arg_int(env, argv[0]), message, bytes, 0)) : -EINVAL);
}

/* netlinkReceive(fd, buffer): receives the next datagram from the kernel and returns its bytes; 0 when there is none. A
 * datagram from another process is skipped. */
static napi_value netlink_receive(napi_env env, napi_callback_info info)
{
	ARGS(2);
	size_t bytes;
	void *buffer = arg_bytes(env, argv[1], &bytes);
	if (!buffer)
		return number(env, -EINVAL);
	for (;;) {
		struct sockaddr_nl from;
		socklen_t length = sizeof from;
		ssize_t got = recvfrom(arg_int(env, argv[0]), buffer, bytes, MSG_DONTWAIT, (struct sockaddr *)&from, &length);
		if (got < 0)
			return number(env, errno == EAGAIN ? 0 : -errno);
		if (from.nl_pid == 0)
			return number(env, (int32_t)got);
	}
}

/* peerCredentials(fd, ids): writes pid, uid, gid and the supplementary groups, and returns the number of words written. */
static napi_value peer_credentials(napi_env env, napi_callback_info info)
{
	ARGS(2);
	size_t bytes;
	int fd = arg_int(env, argv[0]);
	int32_t *ids = arg_bytes(env, argv[1], &bytes);
	struct ucred peer;
	socklen_t length = sizeof peer;
	if (!ids || bytes < 12)
		return number(env, -EINVAL);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0)
		return number(env, -errno);
	ids[0] = peer.pid;
	ids[1] = (int32_t)peer.uid;
	ids[2] = (int32_t)peer.gid;
	socklen_t groups = (socklen_t)(bytes - 12);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, ids + 3, &groups) < 0)
		groups = 0; /* before Linux 4.13, or too many groups for the buffer: only the primary group counts then */
	return number(env, 3 + (int32_t)(groups / 4));
}

/* Returns the one socket for all messages to the service manager. It stays open, so that signs of life are sent even when
 * the process has no descriptor left. */
static int notifier(void)
{
	static int fd = -1;
	if (fd < 0) {
		fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		/* The time that a busy manager gets to read. A manager that hangs must not hold up this process. */
		struct timeval patience = { .tv_sec = 1 };
		if (fd >= 0)
			(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
	}
	return fd;
}

/* sdNotify(state, passed, waits): sends a message to the service manager, as sd_notify(3) does. Returns 1 when it was
 * sent, 0 without a manager (NOTIFY_SOCKET is unset). `passed` is a descriptor to send along; -1 = none. With `waits`
 * it waits for a full socket, otherwise it fails with EAGAIN. With an empty state it sends nothing, and only makes the
 * socket. */
static napi_value sd_notify_(napi_env env, napi_callback_info info)
{
	ARGS(3);
	static int waited_in_vain;
	char state[2048];
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	if (!path || !*path)
		return number(env, 0);
	size_t length = strlen(path);
	if (length >= sizeof to.sun_path)
		return number(env, -ENAMETOOLONG);
	memcpy(to.sun_path, path, length);
	if (path[0] == '@')
		to.sun_path[0] = 0; /* abstract name */
	arg_text(env, argv[0], state, sizeof state);
	int passed = arg_int(env, argv[1]), waits = arg_int(env, argv[2]), fd = notifier();
	if (fd < 0)
		return number(env, -errno);
	if (!*state)
		return number(env, 1);
	union {
		char bytes[CMSG_SPACE(sizeof passed)];
		struct cmsghdr header;
	} control = { .header = { CMSG_LEN(sizeof passed), SOL_SOCKET, SCM_RIGHTS } };
	struct iovec text = { state, strlen(state) };
	struct msghdr message = { .msg_name = &to,
				  .msg_namelen = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length),
				  .msg_iov = &text,
				  .msg_iovlen = 1 };
	if (passed >= 0) {
		memcpy(CMSG_DATA(&control.header), &passed, sizeof passed);
		message.msg_control = &control;
		message.msg_controllen = sizeof control;
	}
	/* After one wait without success there is no further wait until a message was sent. */
	int flags = MSG_NOSIGNAL | (waits && !waited_in_vain ? 0 : MSG_DONTWAIT);
	int result = or_errno((int)sendmsg(fd, &message, flags));
	if (result >= 0)
		waited_in_vain = 0;
	else if (waits && result == -EAGAIN)
		waited_in_vain = 1;
	return number(env, result < 0 ? result : 1);
}

void define_devices(napi_env env, napi_value exports)
{
	static const napi_property_descriptor devices[] = {
		EXPORT("udpOpen", udp_open),         EXPORT("sdNotify", sd_notify_),
		EXPORT("netlinkOpen", netlink_open), EXPORT("netlinkSend", netlink_send),
		EXPORT("netlinkReceive", netlink_receive),
		EXPORT("peerCredentials", peer_credentials), EXPORT("udpProbe", udp_probe),
		EXPORT("programLoad", program_load),
	};
	napi_define_properties(env, exports, sizeof devices / sizeof *devices, devices);
}
