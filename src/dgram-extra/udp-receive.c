/*
 * Datagrams of the underlay, many a call. A message of the kernel may be many of one size (UDP_GRO), which become
 * runs. framed.h has the story.
 */
#define _GNU_SOURCE
#include "framed.h"
#include "offload.h"

#include <arpa/inet.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/uio.h>

#ifndef UDP_GRO
#define UDP_GRO 104
#endif

/* Whether what is decided of one datagram holds for another: VXLAN, Ethernet, its tags, version and traffic class of IP
 * are the same. `bytes` are there of both. */
static int same_fate(const uint8_t *one, const uint8_t *other, size_t bytes)
{
	size_t ip = bytes > 8 ? find_ip(one + 8, bytes - 8) : 0;
	return ip && memcmp(one, other, 8 + ip + 2) == 0;
}

static void set_source(int32_t *d, const struct sockaddr_in6 *name, const struct msghdr *msg, int *segment)
{
	if (name->sin6_family == AF_INET) {
		const struct sockaddr_in *from = (const void *)name;
		d[ADDRESS] = d[ADDRESS + 1] = 0;
		d[ADDRESS + 2] = (int32_t)htonl(0xffff);
		memcpy(&d[ADDRESS + 3], &from->sin_addr, 4);
		d[PORT] = ntohs(from->sin_port);
	} else {
		memcpy(&d[ADDRESS], &name->sin6_addr, 16);
		d[PORT] = ntohs(name->sin6_port);
	}
	d[TOS] = 0;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR((struct msghdr *)msg, c)) {
		if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TOS)
			d[TOS] = *CMSG_DATA(c);
		else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_TCLASS)
			memcpy(&d[TOS], CMSG_DATA(c), sizeof(int));
		else if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO)
			memcpy(segment, CMSG_DATA(c), sizeof(int));
	}
}

/* Whether a message with a segment size is no run, but one inner superframe that was never cut: a kernel peer on this
 * machine sends such, and the size is the inner one. Its IP packet does not end within the first segment; cutting
 * there would make frames of its payload. -1 = it does not end there, and yet each segment begins with a VXLAN header:
 * the IP length lies, to get at other datagrams, or the payload does, to get into other networks. */
static int is_uncut(const uint8_t *datagram, size_t length, size_t segment)
{
	if (length < 8 || !ip_reaches_beyond(datagram + 8, length - 8, segment > 8 ? segment - 8 : 0))
		return 0;
	for (const uint8_t *at = datagram + segment; at < datagram + length; at += segment)
		if (datagram + length - at < 8 || at[0] != datagram[0] || at[1] != datagram[1] || at[7] != datagram[7])
			return 1;
	return -1;
}

/* Descriptors for one message: one, or one a run of its segments. Returns how many. */
static int describe(struct batch *batch, int index, size_t offset, size_t length, int segment)
{
	int32_t *first = batch->words + (size_t)index * DESC_WORDS;
	const uint8_t *slab = batch->slab;
	size_t stride = segment > 0 && (size_t)segment < length ? (size_t)segment : length, end = offset + length;
	int count = 0, uncut = stride < length ? is_uncut(slab + offset, length, stride) : 0;
	memset(first, 0, ADDRESS * sizeof *first);
	if (uncut > 0) {
		first[GSO_SIZE] = segment;
		stride = length;
	}
	for (size_t at = offset; (at < end || count == 0) && index + count < batch->descriptors; count++) {
		int32_t *d = first + count * DESC_WORDS;
		size_t start = at;
		if (count)
			memcpy(d, first, DESC_WORDS * sizeof *d);
		d[OFFSET] = (int32_t)start;
		d[LENGTH] = (int32_t)(end - start < stride ? end - start : stride);
		for (at += stride; at < end && same_fate(slab + start, slab + at, end - at < stride ? end - at : stride);)
			at += stride;
		d[RUN_END] = (int32_t)(at < end ? at : end);
		d[SEGMENT] = at - start > stride ? segment : 0;
	}
	if (uncut < 0) { /* dropped whole, as frames without a header: as many as there are datagrams */
		first[LENGTH] = 0;
		first[RUN_END] = (int32_t)end;
		first[SEGMENT] = segment;
		count = 1;
	}
	return count;
}

/* From one message to the next: room for the largest, behind 8 bytes that make the inner frame (8 bytes of VXLAN header
 * in) 16-aligned. */
#define STRIDE (HEADROOM + MAX_FRAME)

/* Message `i` is ready to be received into. */
static void prepare(struct batch *batch, int i)
{
	batch->vecs[i] = (struct iovec){ batch->slab + (size_t)STRIDE * i + 8, MAX_FRAME };
	batch->msgs[i].msg_hdr = (struct msghdr){
		.msg_name = &batch->names[i], .msg_namelen = sizeof batch->names[i],
		.msg_iov = &batch->vecs[i], .msg_iovlen = 1,
		.msg_control = batch->controls[i], .msg_controllen = CONTROL_BYTES,
	};
}

/* udpReceive(batch, fd, maxMessages): descriptors filled. Messages are prepared once, and again after each use: to do it
 * for all of them in every call would be 5 KiB to write for a lone datagram. */
static napi_value udp_receive(napi_env env, napi_callback_info info)
{
	ARGS(3);
	struct batch *batch = batch_of(env, argv[0]);
	int fd = arg_int(env, argv[1]), max = arg_int(env, argv[2]), count = 0;
	if (!batch || max < 0)
		return number(env, -EINVAL);
	if ((size_t)max > batch->slab_bytes / STRIDE)
		max = (int)(batch->slab_bytes / STRIDE);
	if (max > batch->messages)
		max = batch->messages;
	for (; batch->prepared < max; batch->prepared++)
		prepare(batch, batch->prepared);
	int got, tries = NEWS_TRIES;
	do
		got = recvmmsg(fd, batch->msgs, (unsigned)max, MSG_DONTWAIT, NULL);
	while (got < 0 && is_news(errno) && --tries);
	if (got < 0)
		return number(env, errno == EAGAIN ? 0 : -errno);
	for (int i = 0; i < got; i++) {
		struct msghdr *msg = &batch->msgs[i].msg_hdr;
		size_t length = msg->msg_flags & MSG_TRUNC ? 0 : batch->msgs[i].msg_len;
		int segment = 0;
		if (count < batch->descriptors) {
			set_source(batch->words + (size_t)count * DESC_WORDS, &batch->names[i], msg, &segment);
			count += describe(batch, count, (size_t)STRIDE * i + 8, length, segment);
		}
		prepare(batch, i);
	}
	return number(env, count);
}

void define_receive(napi_env env, napi_value exports)
{
	static const napi_property_descriptor receive[] = { EXPORT("udpReceive", udp_receive) };
	napi_define_properties(env, exports, sizeof receive / sizeof *receive, receive);
}
