/*
 * Reads ICMP messages about sent datagrams out of the error queues of UDP sockets (IP_RECVERR, IPV6_RECVERR). The
 * messages say which sizes a path does not carry, or that a destination cannot be reached ("news"). core/peers/path-news.ts
 * decides which of them are believed.
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
#ifndef ICMP_TIME_EXCEEDED
#define ICMP_TIME_EXCEEDED 11
#endif
#define ICMPV6_UNREACHABLE 1
#define ICMPV6_PACKET_TOO_BIG 2
#define ICMPV6_TIME_EXCEEDED 3

#define MAX_ERRORS 64 /* errors in one call */

/* Words of one piece of news; keep in step with src/wire/path-news.ts. */
enum { NEWS_ADDRESS, NEWS_PORT = 4, NEWS_MTU, NEWS_QUOTED, NEWS_KIND, NEWS_SENDER, NEWS_WORDS = 12 };
#define IS_V6 0x10000 /* in NEWS_KIND */
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

/* Writes an address as four words. Returns its UDP port, or -1 if there is no address. */
static int put_address(int32_t *words, const void *from, size_t bytes)
{
	const struct sockaddr_in6 *v6 = from;
	const struct sockaddr_in *v4 = from;
	if (bytes >= sizeof *v4 && v4->sin_family == AF_INET) {
		words[0] = words[1] = 0;
		words[2] = (int32_t)htonl(0xffff);
		memcpy(&words[3], &v4->sin_addr, 4);
		return ntohs(v4->sin_port);
	}
	if (bytes < sizeof *v6 || v6->sin6_family != AF_INET6)
		return -1;
	memcpy(words, &v6->sin6_addr, 16);
	return ntohs(v6->sin6_port);
}

/* Returns the kind of a message that says that the destination cannot be reached, or 0. */
static int32_t kind_of(const struct sock_extended_err *error)
{
	int32_t kind = error->ee_type << 8 | error->ee_code;
	if (error->ee_origin == SO_EE_ORIGIN_ICMP)
		return error->ee_type == ICMP_DEST_UNREACH || error->ee_type == ICMP_TIME_EXCEEDED ? kind : 0;
	if (error->ee_origin == SO_EE_ORIGIN_ICMP6)
		return error->ee_type == ICMPV6_UNREACHABLE || error->ee_type == ICMPV6_TIME_EXCEEDED ? kind | IS_V6 : 0;
	return 0;
}

/* Writes what a message of the queue says: NEWS_MTU and NEWS_KIND with NEWS_SENDER; they are -1 and 0 if it is about
 * something else. */
static void read_message(int32_t *news, struct msghdr *msg)
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
		if (is_size) {
			news[NEWS_MTU] = error.ee_info > INT32_MAX ? INT32_MAX : (int32_t)error.ee_info;
			return;
		}
		if (!kind_of(&error))
			continue;
		/* SO_EE_OFFENDER: the address of the sender follows the error. */
		size_t bytes = c->cmsg_len - CMSG_LEN(sizeof error);
		struct sockaddr_in6 sender = { .sin6_family = AF_UNSPEC };
		memcpy(&sender, CMSG_DATA(c) + sizeof error, bytes < sizeof sender ? bytes : sizeof sender);
		put_address(&news[NEWS_SENDER], &sender, bytes);
		news[NEWS_KIND] = kind_of(&error);
	}
}

/* udpErrors(fd, news, quotes, max): takes at most `max` errors from the queue and returns their number. NEWS_MTU is -1
 * for an error that is not about a size, and NEWS_KIND 0 for one that is not about reaching the destination. `quotes` gets the beginning of each datagram's payload, as far as the router
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
		memset(each, 0, NEWS_WORDS * sizeof *each);
		each[NEWS_MTU] = -1;
		each[NEWS_QUOTED] = (int32_t)msgs[i].msg_len;
		each[NEWS_PORT] = put_address(each, msgs[i].msg_hdr.msg_name, msgs[i].msg_hdr.msg_namelen);
		if (each[NEWS_PORT] >= 0)
			read_message(each, &msgs[i].msg_hdr);
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
