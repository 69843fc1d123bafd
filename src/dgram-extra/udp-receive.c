/*
 * Receives many datagrams of the underlay in one call. A message of the kernel may be many datagrams of one size
 * (UDP_GRO), which become runs. framed.h has the overview.
 */
#define _GNU_SOURCE
#include "framed.h"

#include <arpa/inet.h>
#include <linux/sock_diag.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/uio.h>

#ifndef UDP_GRO
#define UDP_GRO 104
#endif

/* Returns the length of the tunnel header, as the header itself says. More than `bytes` if the header is cut off. */
static size_t header_bytes(const struct header_rule *rule, const uint8_t *datagram, size_t bytes)
{
	return (size_t)rule->base_bytes + (bytes ? (size_t)(datagram[0] & rule->length_mask) * (size_t)rule->unit_bytes : 0);
}

/* Tells whether a decision about one datagram holds for another too. It does if tunnel header, Ethernet header, VLAN
 * tags, IP version and traffic class are the same. Both have at least `bytes` bytes. */
static int same_fate(const struct header_rule *rule, const uint8_t *one, const uint8_t *other, size_t bytes)
{
	size_t header = header_bytes(rule, one, bytes);
	size_t ip = bytes > header ? find_ip(one + header, bytes - header) : 0;
	return ip && memcmp(one, other, header + ip + 2) == 0;
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

/* Tells whether a message with a segment size may be one inner superframe that was never cut. A kernel peer on this
 * machine sends such messages, with the segment size of the inner datagrams. The inner IP packet then ends where the
 * message ends. With any other length in that IP header, the message is several datagrams, and each is checked on its
 * own. */
static int may_be_uncut(const struct header_rule *rule, const uint8_t *datagram, size_t length)
{
	size_t header = header_bytes(rule, datagram, length);
	return length > header && ip_fills(datagram + header, length - header);
}

/* Tells whether a tunnel header is at a place where a datagram would begin: the header of the first datagram, or a
 * plain header of any network. Then the message is ambiguous. Either the IP length in the first datagram is forged, to
 * swallow the others, or the payload of a superframe is forged, to look like datagrams for other networks. */
static int has_headers(const struct header_rule *rule, const uint8_t *datagram, size_t length, size_t segment)
{
	for (size_t at = segment; at + 8 <= length; at += segment) {
		uint32_t first;
		memcpy(&first, datagram + at, 4);
		if ((memcmp(datagram + at, datagram, 4) == 0 && datagram[at + 7] == datagram[7]) ||
		    ((ntohl(first) & rule->plain_mask) == rule->plain && datagram[at + 7] == 0))
			return 1;
	}
	return 0;
}

/* Fills descriptors from `index` on, one for each run, for the datagrams from `*at` to `end`, until the descriptors are
 * used up. The source in the first descriptor is copied to the others. Returns their number; `*at` becomes the start of
 * the rest. */
static int describe(struct batch *batch, int index, size_t *at, size_t end, size_t stride)
{
	int32_t *first = batch->words + (size_t)index * DESC_WORDS;
	const uint8_t *slab = batch->slab;
	size_t next = *at;
	int count = 0;
	do { /* at least once, also for a message without bytes */
		int32_t *d = first + (size_t)count * DESC_WORDS;
		size_t start = next;
		if (count)
			memcpy(d, first, DESC_WORDS * sizeof *d);
		d[OFFSET] = (int32_t)start;
		d[LENGTH] = (int32_t)(end - start < stride ? end - start : stride);
		for (next += stride; next < end && same_fate(batch->rest.rule, slab + start, slab + next, end - next < stride ? end - next : stride);)
			next += stride;
		d[RUN_END] = (int32_t)(next < end ? next : end);
		d[SEGMENT] = next - start > stride ? (int32_t)stride : 0;
		count++;
	} while (next < end && index + count < batch->descriptors);
	*at = next;
	return count;
}

/* Distance between messages. Each has room for the largest, behind 8 bytes, so that the inner frame behind 8 bytes of
 * tunnel header is 16-aligned. */
#define STRIDE (HEADROOM + MAX_FRAME)

/* Prepares message `i` for a receive. */
static void prepare(struct batch *batch, int i)
{
	batch->vecs[i] = (struct iovec){ batch->slab + (size_t)STRIDE * i + 8, MAX_FRAME };
	batch->msgs[i].msg_hdr = (struct msghdr){
		.msg_name = &batch->names[i], .msg_namelen = sizeof batch->names[i],
		.msg_iov = &batch->vecs[i], .msg_iovlen = 1,
		.msg_control = batch->controls[i], .msg_controllen = CONTROL_BYTES,
	};
}

/* Added to the result: an ambiguous message was dropped (has_headers). Its descriptor has LENGTH 0, a SEGMENT and a
 * GSO_SIZE. */
#define AMBIGUOUS (1 << 30)

/* Fills descriptors for the received datagrams that have none yet, until the descriptors are used up. */
static int hand_on(struct batch *batch)
{
	struct rest *rest = &batch->rest;
	int count = 0, doubt = 0;
	for (; rest->next < rest->got && count < batch->descriptors; rest->next++, rest->at = 0) {
		int i = rest->next, segment = 0;
		const struct msghdr *msg = &batch->msgs[i].msg_hdr;
		int32_t *d = batch->words + (size_t)count * DESC_WORDS;
		size_t start = (size_t)STRIDE * i + 8, length = msg->msg_flags & MSG_TRUNC ? 0 : batch->msgs[i].msg_len;
		if (rest->at) { /* the last call had too few descriptors for this message */
			memcpy(d, rest->words, sizeof rest->words);
		} else {
			memset(d, 0, ADDRESS * sizeof *d);
			set_source(d, &batch->names[i], msg, &segment);
			rest->at = start;
			rest->stride = segment > 0 && (size_t)segment < length ? (size_t)segment : length;
			if (rest->stride < length && may_be_uncut(rest->rule, batch->slab + start, length)) {
				d[GSO_SIZE] = segment;
				if (has_headers(rest->rule, batch->slab + start, length, rest->stride)) { /* counts as all its datagrams */
					d[OFFSET] = (int32_t)start, d[RUN_END] = (int32_t)(start + length), d[SEGMENT] = segment;
					doubt = AMBIGUOUS;
					count++;
					prepare(batch, i);
					continue;
				}
				rest->stride = length;
			}
		}
		count += describe(batch, count, &rest->at, start + length, rest->stride);
		if (rest->at < start + length) {
			memcpy(rest->words, d, sizeof rest->words);
			break;
		}
		prepare(batch, i);
	}
	return count + doubt;
}

/* headerRule(words): returns the index of this rule for udpReceive. The same words give the same index. */
static napi_value header_rule(napi_env env, napi_callback_info info)
{
	ARGS(1);
	struct state *state = state_of(env);
	size_t bytes;
	const void *words = arg_bytes(env, argv[0], &bytes);
	struct header_rule rule;
	if (!words || bytes != sizeof rule)
		return number(env, -EINVAL);
	memcpy(&rule, words, sizeof rule);
	if (rule.base_bytes < 8 || rule.base_bytes > MAX_FRAME || rule.length_mask < 0 || rule.length_mask > 255 ||
	    rule.unit_bytes < 0 || rule.unit_bytes > 255)
		return number(env, -EINVAL);
	for (int i = 0; i < state->rule_count; i++)
		if (memcmp(&state->rules[i], &rule, sizeof rule) == 0)
			return number(env, i);
	if (state->rule_count == MAX_RULES)
		return number(env, -ENOSPC);
	state->rules[state->rule_count] = rule;
	return number(env, state->rule_count++);
}

/* udpReceive(batch, fd, maxMessages, rule): returns the number of descriptors filled. A message is prepared once, and
 * again after each use, since to prepare all messages in every call would write 5 KiB for a single datagram. When all
 * descriptors are filled there may be a rest. It is lost unless udpRest is called before the next udpReceive. */
static napi_value udp_receive(napi_env env, napi_callback_info info)
{
	ARGS(4);
	struct state *state = state_of(env);
	struct batch *batch = batch_of(env, argv[0]);
	int fd = arg_int(env, argv[1]), max = arg_int(env, argv[2]), rule = arg_int(env, argv[3]);
	if (!batch || max < 0 || rule < 0 || rule >= state->rule_count)
		return number(env, -EINVAL);
	for (; batch->rest.next < batch->rest.got; batch->rest.next++)
		prepare(batch, batch->rest.next);
	batch->rest = (struct rest){ .rule = &state->rules[rule] };
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
	batch->rest.got = got;
	return number(env, hand_on(batch));
}

/* udpRest(batch): fills descriptors with the rest of the last udpReceive or udpRest, and returns their number; 0 =
 * there is no rest. Receives nothing. */
static napi_value udp_rest(napi_env env, napi_callback_info info)
{
	ARGS(1);
	struct batch *batch = batch_of(env, argv[0]);
	return number(env, batch ? hand_on(batch) : -EINVAL);
}

/* udpCoalesce(fd, on): sets whether datagrams that arrived together are received as one (UDP_GRO). When off, the kernel
 * itself cuts every uncut message, and it knows what the message is. It would not cut messages that wait in the queue
 * already, and would give no size for them. So while the queue has a message, off fails with EAGAIN and changes
 * nothing. */
static napi_value udp_coalesce(napi_env env, napi_callback_info info)
{
	ARGS(2);
	int fd = arg_int(env, argv[0]), on = arg_int(env, argv[1]);
	char byte;
	if (!on && (recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0 || errno != EAGAIN))
		return number(env, -EAGAIN);
	return number(env, or_errno(setsockopt(fd, IPPROTO_UDP, UDP_GRO, &on, sizeof on)));
}

/* udpDropped(fd): returns the number of messages that the kernel has dropped for this socket since it was opened,
 * modulo 2^32: the queue was full, or the UDP checksum was wrong. */
static napi_value udp_dropped(napi_env env, napi_callback_info info)
{
	ARGS(1);
	uint32_t values[SK_MEMINFO_VARS] = { 0 };
	socklen_t bytes = sizeof values;
	napi_value result;
	if (getsockopt(arg_int(env, argv[0]), SOL_SOCKET, SO_MEMINFO, values, &bytes) < 0)
		return number(env, -errno);
	napi_create_uint32(env, values[SK_MEMINFO_DROPS], &result);
	return result;
}

void define_receive(napi_env env, napi_value exports)
{
	static const napi_property_descriptor receive[] = {
		EXPORT("headerRule", header_rule), EXPORT("udpReceive", udp_receive),   EXPORT("udpRest", udp_rest),
		EXPORT("udpCoalesce", udp_coalesce), EXPORT("udpDropped", udp_dropped),
	};
	napi_define_properties(env, exports, sizeof receive / sizeof *receive, receive);
}
