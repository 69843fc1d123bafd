/*
 * Reads ICMP messages about sent datagrams out of the error queues of UDP sockets (IP_RECVERR, IPV6_RECVERR). The
 * messages say which sizes a path does not carry ("news"). core/path-news.ts decides which of them are believed.
 *
 * A socket with an error queue also fails its next call with the error of the ICMP message (sk_err of net/ipv4/udp.c,
 * __udp4_lib_err), whichever datagram the message was about. A sender recognizes such errors by `is_news`.
 */
#define _GNU_SOURCE
#include "framed.h"

#include <errno.h>
#include <linux/errqueue.h>
#include <string.h>
#include <sys/uio.h>

#ifndef ICMP_DEST_UNREACH
#define ICMP_DEST_UNREACH 3
#define ICMP_FRAG_NEEDED 4
#endif
#define ICMPV6_PACKET_TOO_BIG 2

#define MAX_ERRORS 64 /* errors in one call */

/* Words of one piece of news; keep in step with src/wire/path-news.ts. */
enum { NEWS_ADDRESS, NEWS_PORT = 4, NEWS_MTU, NEWS_QUOTED, NEWS_WORDS = 8 };
#define QUOTE_BYTES 64 /* tunnel 8, Ethernet 14, four tags 16, IP as far as its length 6 */

/* The errors that ICMP messages cause (icmp_err_convert of net/ipv4/icmp.c, icmpv6_err_convert). They may be about another
 * datagram than the one at hand. */
int is_news(int error)
{
	switch (error) {
	case EMSGSIZE:
	case ECONNREFUSED:
	case EHOSTUNREACH:
	case ENETUNREACH:
	case EHOSTDOWN:
	case ENOPROTOOPT:
	case EOPNOTSUPP:
	case EPROTO:
	case EACCES:
	case ENONET:
		return 1;
	default:
		return 0;
	}
}

/* Makes a socket send datagrams up to the MTU of the device without fragmentation, whatever path MTU the kernel has
 * learned (IP_PMTUDISC_PROBE, since Linux 2.6.22). With `news`, ICMP messages are put into the error queue. */
int set_path_options(int fd, int is_v4, int news)
{
	int probe = is_v4 ? IP_PMTUDISC_PROBE : IPV6_PMTUDISC_PROBE, on = 1, level = is_v4 ? IPPROTO_IP : IPPROTO_IPV6;
	if (setsockopt(fd, level, is_v4 ? IP_MTU_DISCOVER : IPV6_MTU_DISCOVER, &probe, sizeof probe) < 0)
		return -errno;
	if (!is_v4 && setsockopt(fd, level, IPV6_DONTFRAG, &on, sizeof on) < 0)
		return -errno;
	if (news && setsockopt(fd, level, is_v4 ? IP_RECVERR : IPV6_RECVERR, &on, sizeof on) < 0)
		return -errno;
	return 0;
}

/* udpAdopt(fd, news): calls `set_path_options` for a socket that is open already. */
static napi_value udp_adopt(napi_env env, napi_callback_info info)
{
	ARGS(2);
	int fd = arg_int(env, argv[0]), domain;
	socklen_t length = sizeof domain;
	if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) < 0)
		return number(env, -errno);
	return number(env, set_path_options(fd, domain == AF_INET, arg_int(env, argv[1])));
}

/* Writes the destination of the datagram. Returns 0 if the message does not have all of it. */
static int set_peer(int32_t *news, const struct msghdr *msg)
{
	const struct sockaddr_in6 *name = msg->msg_name;
	if (msg->msg_namelen >= sizeof(struct sockaddr_in) && name->sin6_family == AF_INET) {
		const struct sockaddr_in *to = msg->msg_name;
		news[NEWS_ADDRESS] = news[NEWS_ADDRESS + 1] = 0;
		news[NEWS_ADDRESS + 2] = (int32_t)htonl(0xffff);
		memcpy(&news[NEWS_ADDRESS + 3], &to->sin_addr, 4);
		news[NEWS_PORT] = ntohs(to->sin_port);
		return 1;
	}
	if (msg->msg_namelen < sizeof *name || name->sin6_family != AF_INET6)
		return 0;
	memcpy(&news[NEWS_ADDRESS], &name->sin6_addr, 16);
	news[NEWS_PORT] = ntohs(name->sin6_port);
	return 1;
}

/* Returns the MTU in a message of the queue, or -1 if the message is about something else. */
static int32_t announced(struct msghdr *msg)
{
	const uint8_t *end = (const uint8_t *)msg->msg_control + msg->msg_controllen;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		struct sock_extended_err error;
		int is_v4 = c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_RECVERR;
		if (!is_v4 && !(c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_RECVERR))
			continue;
		/* CMSG_NXTHDR checks only that the header is complete. */
		if (c->cmsg_len < CMSG_LEN(sizeof error) || c->cmsg_len > (size_t)(end - (const uint8_t *)c))
			continue;
		memcpy(&error, CMSG_DATA(c), sizeof error);
		int is_size = error.ee_origin == SO_EE_ORIGIN_ICMP ?
				      error.ee_type == ICMP_DEST_UNREACH && error.ee_code == ICMP_FRAG_NEEDED :
				      error.ee_origin == SO_EE_ORIGIN_ICMP6 && error.ee_type == ICMPV6_PACKET_TOO_BIG;
		if (is_size)
			return error.ee_info > INT32_MAX ? INT32_MAX : (int32_t)error.ee_info;
	}
	return -1;
}

/* udpErrors(fd, news, quotes, max): takes at most `max` errors from the queue and returns their number. NEWS_MTU is -1
 * for an error that is not about a size. `quotes` gets the beginning of each datagram's payload, as far as the router
 * quoted it. */
static napi_value udp_errors(napi_env env, napi_callback_info info)
{
	ARGS(4);
	int fd = arg_int(env, argv[0]), max = arg_int(env, argv[3]);
	size_t news_bytes, quote_bytes;
	int32_t *news = arg_bytes(env, argv[1], &news_bytes);
	uint8_t *quotes = arg_bytes(env, argv[2], &quote_bytes);
	if (max > MAX_ERRORS)
		max = MAX_ERRORS;
	if (!news || !quotes || max < 1 || (size_t)max * NEWS_WORDS * 4 > news_bytes || (size_t)max * QUOTE_BYTES > quote_bytes)
		return number(env, -EINVAL);
	struct mmsghdr msgs[MAX_ERRORS];
	struct iovec vecs[MAX_ERRORS];
	struct sockaddr_in6 names[MAX_ERRORS];
	/* Room for the error and its sender. The kernel may add traffic class and segment size, which are ignored. */
	struct {
		uint8_t bytes[256];
	} __attribute__((aligned(8))) controls[MAX_ERRORS];
	for (int i = 0; i < max; i++) {
		vecs[i] = (struct iovec){ quotes + (size_t)i * QUOTE_BYTES, QUOTE_BYTES };
		msgs[i].msg_hdr = (struct msghdr){
			.msg_name = &names[i], .msg_namelen = sizeof names[i], .msg_iov = &vecs[i], .msg_iovlen = 1,
			.msg_control = controls[i].bytes, .msg_controllen = sizeof controls[i].bytes,
		};
	}
	int got, tries = NEWS_TRIES; /* before Linux 4.20 this call too may fail with the error of the socket */
	do
		got = recvmmsg(fd, msgs, (unsigned)max, MSG_ERRQUEUE | MSG_DONTWAIT, NULL);
	while (got < 0 && is_news(errno) && --tries);
	if (got < 0 && errno != EAGAIN)
		return number(env, -errno);
	if (got < max) {
		/* The socket may still have the error of a message that did not fit into the queue. This call clears it, since
		 * epoll would report it for ever. */
		int error;
		socklen_t length = sizeof error;
		(void)getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
	}
	for (int i = 0; i < got; i++) {
		int32_t *each = news + (size_t)i * NEWS_WORDS;
		each[NEWS_MTU] = set_peer(each, &msgs[i].msg_hdr) ? announced(&msgs[i].msg_hdr) : -1;
		each[NEWS_QUOTED] = (int32_t)msgs[i].msg_len;
	}
	return number(env, got < 0 ? 0 : got);
}

void define_errors(napi_env env, napi_value exports)
{
	static const napi_property_descriptor errors[] = {
		EXPORT("udpAdopt", udp_adopt),
		EXPORT("udpErrors", udp_errors),
	};
	napi_define_properties(env, exports, sizeof errors / sizeof *errors, errors);
}
