/*
 * The control half of dgram-extra: making and setting up sockets and BPF programs; TAPs are in tap-device.c. Called a few
 * times in the life of an overlay, never for a frame. Conventions as in dgram_extra.c: a number >= 0, or a negated errno.
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

/* programLoad(instructions): a descriptor on a BPF program that looks at packets (linux/bpf.h, struct bpf_insn). */
static napi_value program_load(napi_env env, napi_callback_info info)
{
	ARGS(1);
	size_t bytes;
	void *instructions = arg_bytes(env, argv[0], &bytes);
	union bpf_attr program = {
		.prog_type = BPF_PROG_TYPE_SOCKET_FILTER,
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

/* udpProbe(option): 0 where UDP sockets have it (UDP_SEGMENT, UDP_GRO), else the errno. */
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

/* The bigger buffer needs CAP_NET_ADMIN; without it the system's bound applies. */
static void set_buffer(int fd, int forced, int plain, int bytes)
{
	if (bytes > 0 && set_int(fd, SOL_SOCKET, forced, bytes) < 0)
		(void)set_int(fd, SOL_SOCKET, plain, bytes);
}

enum { REUSE_PORT = 1, ZERO_CHECKSUM_TX = 2, ZERO_CHECKSUM_RX = 4, SEND_ONLY = 8, COALESCE = 16, ADMIT_OTHERS = 32,
       FREE_BIND = 64, PATH_NEWS = 128 };

/* udpOpen(address16, port, options, receiveBufferBytes, sendBufferBytes): a bound socket that never fragments and
 * reports the traffic class of what it receives. udp-errors.c says what it makes of news of its paths. */
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
	if (options & FREE_BIND) /* before 4.15 IPv6 has none: then bind says that the address is not there */
		(void)(v4 ? set_int(fd, IPPROTO_IP, IP_FREEBIND, 1) : set_int(fd, IPPROTO_IPV6, IPV6_FREEBIND, 1));
	if (options & COALESCE)
		(void)set_int(fd, IPPROTO_UDP, UDP_GRO, 1); /* before 5.0: one datagram at a time */
	if (bad)
		return number(env, failed(fd));
	set_buffer(fd, SO_RCVBUFFORCE, SO_RCVBUF, arg_int(env, argv[3]));
	set_buffer(fd, SO_SNDBUFFORCE, SO_SNDBUF, arg_int(env, argv[4]));
	if (bind(fd, &local.sa, length) < 0)
		return number(env, failed(fd));
	/* Only now: bound alone, it has met no stranger that would share its datagrams. */
	if (options & ADMIT_OTHERS && set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1) < 0)
		return number(env, failed(fd));
	return number(env, fd);
}

/* netlinkOpen(groups, receiveBytes): an rtnetlink socket that hears those multicast groups (RTMGRP_ bits). */
static napi_value netlink_open(napi_env env, napi_callback_info info)
{
	ARGS(2);
	struct sockaddr_nl local = { .nl_family = AF_NETLINK, .nl_groups = (uint32_t)arg_int(env, argv[0]) };
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, NETLINK_ROUTE);
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

/* netlinkReceive(fd, buffer): bytes of the next datagram from the kernel; 0 when there is none. A datagram that
 * another process sent is passed over. */
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

/* peerCredentials(fd, ids): how many words of `ids` were written: pid, uid, gid, then the supplementary groups. */
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
		groups = 0; /* Linux < 4.13, or more groups than there is room for: the primary one decides */
	return number(env, 3 + (int32_t)(groups / 4));
}

/* One for all that is ever told: when descriptors run out, signs of life go on. */
static int notifier(void)
{
	static int fd = -1;
	if (fd < 0) {
		fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		/* A manager that is busy gets this long to read; one that hangs does not take this process along. */
		struct timeval patience = { .tv_sec = 1 };
		if (fd >= 0)
			(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
	}
	return fd;
}

/* sdNotify(state, passed, waits): 1 told, 0 nobody to tell (NOTIFY_SOCKET unset); sd_notify(3). A descriptor `passed` goes
 * along, -1 = none. A full socket is waited for, or EAGAIN. An empty state tells nothing: the socket is there then. */
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
	/* Once in vain is enough, until it reads again. */
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
