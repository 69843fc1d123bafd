/*
 * Sends many datagrams to the underlay in one call: whole frames, and segments of superframes, each behind its tunnel
 * header. Consecutive datagrams of one size to one destination become one message, which the kernel cuts (UDP_SEGMENT).
 * A superframe may also leave whole, as a tunnel frame (tunnel-send.c).
 * framed.h has the overview.
 */
#define _GNU_SOURCE
#include "framed.h"
#include "tunnel-send.h"

#include <netinet/udp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

#define MAX_DATAGRAM 65000 /* UDP_SEGMENT: all segments together are one IP packet, outer headers included */
#define MAX_SEGMENTS 4096  /* segments that are gathered before a send: a batch of 64 superframes of 64 */
#define HEADER_ARENA (MAX_SEGMENTS * 96) /* headers of segments: 8 + 14 + 20 + 32 for TCP over IPv4 with timestamps */

/* A segment that waits to be sent: one vector (a whole frame) or two (header, payload), and its list entry. */
struct segment {
	struct iovec vecs[2];
	int32_t entry;
};

/* One message of sendmmsg: consecutive segments of one size to one destination. */
struct message {
	int first, count; /* segments */
	int slot, tos;
	size_t segment_bytes, bytes;
	int closed; /* a shorter segment was the last */
};

/* Messages that udpSend has gathered and not sent yet. */
struct gather {
	int segment_count, message_count;
	size_t header_bytes;
	struct segment segments[MAX_SEGMENTS];
	struct iovec vecs[2 * MAX_SEGMENTS];
	struct message messages[MAX_MESSAGES];
	struct mmsghdr msgs[MAX_MESSAGES];
	uint8_t controls[MAX_MESSAGES][CONTROL_BYTES];
	uint8_t headers[HEADER_ARENA];
};

struct destination {
	union address address;
	uint8_t no_segmentation; /* the route refused UDP_SEGMENT */
	uint8_t doubts; /* messages in a row that failed with an error that may be news of other datagrams */
	uint8_t passed; /* a message was sent */
	uint8_t no_tunnel; /* a tunnel frame was refused */
	struct tunnel_link link; /* of its route */
};

/* The state of sending in one thread: the destinations by their slots, and the gathered messages. */
struct sending {
	struct destination *destinations;
	int destination_count;
	int refused; /* REFUSED = a destination does not take UDP_SEGMENT any more */
	int trains;  /* messages of many segments that this call has sent */
	struct gather gather;
};

struct sending *sending_create(void)
{
	return calloc(1, sizeof(struct sending));
}

void sending_free(struct sending *sending)
{
	free(sending->destinations);
	free(sending);
}

/* addressSet(slot, address16, port): sets the destination of a slot. Output lists name a destination by its slot. */
static napi_value address_set(napi_env env, napi_callback_info info)
{
	ARGS(3);
	struct sending *sending = state_of(env)->sending;
	int slot = arg_int(env, argv[0]);
	size_t bytes;
	uint8_t *ip = arg_bytes(env, argv[1], &bytes);
	if (slot < 0 || slot >= 1 << 24 || !ip || bytes != 16)
		return number(env, -EINVAL);
	if (slot >= sending->destination_count) {
		int count = slot < 512 ? 1024 : slot * 2;
		struct destination *grown = realloc(sending->destinations, (size_t)count * sizeof *grown);
		if (!grown)
			return number(env, -ENOMEM);
		memset(grown + sending->destination_count, 0, (size_t)(count - sending->destination_count) * sizeof *grown);
		sending->destinations = grown;
		sending->destination_count = count;
	}
	memset(&sending->destinations[slot], 0, sizeof *sending->destinations);
	make_address(&sending->destinations[slot].address, ip, arg_int(env, argv[2]));
	return number(env, 0);
}

/* addressRefused(slot): whether the route of this destination refused UDP_SEGMENT. */
static napi_value address_refused(napi_env env, napi_callback_info info)
{
	ARGS(1);
	const struct sending *sending = state_of(env)->sending;
	int slot = arg_int(env, argv[0]);
	if (slot < 0 || slot >= sending->destination_count)
		return number(env, 0);
	return number(env, sending->destinations[slot].no_segmentation);
}

/* addressLink(slot, link, mtuBytes): superframes to this destination may leave as tunnel frames by the link with this index,
 * once a message was sent there; 0 = they may not. */
static napi_value address_link(napi_env env, napi_callback_info info)
{
	ARGS(3);
	struct sending *sending = state_of(env)->sending;
	int slot = arg_int(env, argv[0]);
	if (slot < 0 || slot >= sending->destination_count)
		return number(env, -EINVAL);
	struct destination *to = &sending->destinations[slot];
	struct tunnel_link link = { .index = arg_int(env, argv[1]), .mtu_bytes = arg_int(env, argv[2]) };
	if (link.index != to->link.index)
		to->no_tunnel = 0;
	to->link = link;
	return number(env, 0);
}

/* addressTunnel(slot): 1 if superframes to this destination leave as tunnel frames, 2 if they would and a tunnel frame was
 * refused, else 0. */
static napi_value address_tunnel(napi_env env, napi_callback_info info)
{
	ARGS(1);
	const struct sending *sending = state_of(env)->sending;
	int slot = arg_int(env, argv[0]);
	if (slot < 0 || slot >= sending->destination_count || !sending->destinations[slot].link.index)
		return number(env, 0);
	const struct destination *to = &sending->destinations[slot];
	return number(env, to->no_tunnel ? 2 : to->passed);
}

/* Completes a checksum that the sender left to the device: the field already holds the pseudo-header sum. */
static int complete_checksum(uint8_t *frame, int32_t *d)
{
	size_t start = (size_t)d[CSUM_START], field = start + (size_t)d[CSUM_OFFSET];
	if (d[CSUM_START] < 14 || d[CSUM_OFFSET] < 0 || field + 2 > (size_t)d[LENGTH])
		return -EINVAL;
	uint16_t sum = (uint16_t)~fold(sum_bytes(frame + start, (size_t)d[LENGTH] - start));
	if (sum == 0 && d[CSUM_OFFSET] == UDP_CHECKSUM)
		sum = 0xffff; /* RFC 768: zero means "no checksum"; TCP keeps the zero, which readers expect (RFC 1624) */
	memcpy(frame + field, &sum, 2);
	d[FLAGS] &= ~NEEDS_CSUM;
	return 0;
}

static void put_control(struct msghdr *msg, uint8_t *control, int level, int type, const void *value, size_t bytes)
{
	struct cmsghdr *c = (void *)(control + msg->msg_controllen);
	msg->msg_control = control;
	msg->msg_controllen += CMSG_SPACE(bytes);
	c->cmsg_level = level;
	c->cmsg_type = type;
	c->cmsg_len = CMSG_LEN(bytes);
	memcpy(CMSG_DATA(c), value, bytes);
}

/* Wait for a full socket buffer. Then the frames are dropped with EAGAIN. */
#define SEND_WAIT_MS 10

/* Each message has a second try, since an error may be news of another datagram (udp-errors.c). All messages of a call
 * share so many further tries, for a flood of ICMP messages that fails a second try too. */
#define MORE_TRIES 64
/* After so many failed messages in a row, an error that may be news counts as a refusal of UDP_SEGMENT. */
#define MAX_DOUBTS 3

/* Sends messages. `errors` gets the error of each message, 0 for a sent one. */
static void send_all(int fd, struct mmsghdr *msgs, int count, int *errors)
{
	memset(errors, 0, (size_t)count * sizeof *errors);
	for (int sent = 0, waited = 0, tried = -1, more = MORE_TRIES; sent < count;) {
		int n = sendmmsg(fd, msgs + sent, (unsigned)(count - sent), MSG_DONTWAIT);
		if (n > 0) {
			sent += n;
		} else if (is_news(errno) && (tried < sent || more-- > 0)) {
			tried = sent;
		} else if (errno == EAGAIN && !waited) {
			waited = 1;
			poll(&(struct pollfd){ .fd = fd, .events = POLLOUT }, 1, SEND_WAIT_MS);
		} else {
			errors[sent++] = -errno;
		}
	}
}

static void make_message(struct gather *g, const struct message *m, struct mmsghdr *out, uint8_t *control,
			 struct destination *to, struct iovec *vecs, int first, int count)
{
	struct msghdr *msg = &out->msg_hdr;
	int v4 = to->address.sa.sa_family == AF_INET, vec_count = 0;
	for (int i = first; i < first + count; i++) {
		vecs[vec_count++] = g->segments[i].vecs[0];
		if (g->segments[i].vecs[1].iov_len)
			vecs[vec_count++] = g->segments[i].vecs[1];
	}
	*msg = (struct msghdr){
		.msg_name = &to->address,
		.msg_namelen = v4 ? sizeof to->address.v4 : sizeof to->address.v6,
		.msg_iov = vecs,
		.msg_iovlen = (size_t)vec_count,
	};
	if (m->tos)
		put_control(msg, control, v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_TOS : IPV6_TCLASS, &m->tos, sizeof m->tos);
	if (count > 1) {
		uint16_t bytes = (uint16_t)m->segment_bytes;
		put_control(msg, control, IPPROTO_UDP, UDP_SEGMENT, &bytes, sizeof bytes);
	}
}

/* Sends the segments of a refused message one by one, so that no datagram is lost to the offload itself. If all of them
 * succeed, UDP_SEGMENT is not used for this destination any more; after an error that may be news, this needs MAX_DOUBTS
 * messages in a row. */
static void send_apart(int fd, struct sending *sending, const struct message *m, int32_t *list, int why)
{
	struct gather *g = &sending->gather;
	struct destination *to = &sending->destinations[m->slot];
	int failures = 0;
	for (int i = m->first; i < m->first + m->count; i++) {
		struct mmsghdr out;
		struct iovec vecs[2];
		uint8_t control[CONTROL_BYTES] __attribute__((aligned(8)));
		int error;
		make_message(g, m, &out, control, to, vecs, i, 1);
		send_all(fd, &out, 1, &error);
		if (error)
			lose(list + 2 * g->segments[i].entry, error), failures++;
	}
	if (failures == 0 && (!is_news(-why) || ++to->doubts == MAX_DOUBTS))
		to->no_segmentation = 1, sending->refused = REFUSED;
}

static void note_sent(struct sending *sending, const struct message *m)
{
	struct destination *to = &sending->destinations[m->slot];
	to->passed = 1;
	if (m->count > 1)
		to->doubts = 0, sending->trains++;
}

static void send_gathered(int fd, struct sending *sending, int32_t *list)
{
	struct gather *g = &sending->gather;
	int errors[MAX_MESSAGES], vec = 0;
	for (int i = 0; i < g->message_count; i++) {
		struct message *m = &g->messages[i];
		make_message(g, m, &g->msgs[i], g->controls[i], &sending->destinations[m->slot], g->vecs + vec, m->first, m->count);
		vec += (int)g->msgs[i].msg_hdr.msg_iovlen;
	}
	send_all(fd, g->msgs, g->message_count, errors);
	for (int i = 0; i < g->message_count; i++) {
		struct message *m = &g->messages[i];
		int error = errors[i];
		/* EIO: a device or filter on the path does not support UDP_SEGMENT. EINVAL, EMSGSIZE: this socket or route does
		 * not, or a segment is too long for the path. */
		if (m->count > 1 && (error == -EIO || error == -EINVAL || error == -EMSGSIZE))
			send_apart(fd, sending, m, list, error);
		else if (error)
			for (int s = m->first; s < m->first + m->count; s++)
				lose(list + 2 * g->segments[s].entry, error);
		else
			note_sent(sending, m);
	}
	g->segment_count = g->message_count = 0;
	g->header_bytes = 0;
}

/* Adds a segment to the last message if it fits, otherwise to a new one. The caller makes sure that there is room. */
static void gather_segment(struct gather *g, struct segment segment, int slot, int tos, int may_join)
{
	size_t bytes = segment.vecs[0].iov_len + segment.vecs[1].iov_len;
	struct message *m = g->message_count ? &g->messages[g->message_count - 1] : NULL;
	if (!m || !may_join || m->slot != slot || m->tos != tos || m->closed || m->count == MAX_RUN ||
	    bytes > m->segment_bytes || m->bytes + bytes > MAX_DATAGRAM) {
		m = &g->messages[g->message_count++];
		*m = (struct message){ .first = g->segment_count, .slot = slot, .tos = tos, .segment_bytes = bytes };
	}
	m->closed = bytes < m->segment_bytes;
	m->bytes += bytes;
	m->count++;
	g->segments[g->segment_count++] = segment;
}

static int has_room(const struct gather *g)
{
	return g->segment_count < MAX_SEGMENTS && g->message_count < MAX_MESSAGES &&
	       g->header_bytes + HEADROOM + MAX_HEADER_BYTES <= HEADER_ARENA;
}

/* Sends a superframe as a tunnel frame, if it may leave so. Messages that were gathered before leave before it. Returns whether
 * it has left. */
static int send_whole(int fd, struct sending *sending, int32_t *list, struct tunnel_source *from, int slot,
		      const struct cutter *cut, const int32_t *d, int prefix)
{
	struct destination *to = &sending->destinations[slot];
	if (!to->link.index || to->no_tunnel || !to->passed || !tunnel_fits(from, &to->address, &to->link, cut, d, prefix))
		return 0;
	if (sending->gather.message_count)
		send_gathered(fd, sending, list);
	int result = tunnel_send(from, &to->address, &to->link, cut, d, prefix);
	to->no_tunnel = result == TUNNEL_REFUSED;
	return result == TUNNEL_SENT;
}

/* udpSend(batch, fd, list, entries, headerBytes, segmentation, tunnel): sends the frames of a list, each with the headerBytes
 * bytes before it. A superframe is cut, and each segment gets these bytes. The argument of an entry is the slot of its
 * destination. With `segmentation`, consecutive datagrams of one size to one destination are sent as one message
 * (UDP_SEGMENT). With `tunnel`, a source of tunnel frames, a superframe leaves whole where that is possible. If the kernel
 * refuses a destination, only the datagrams to it are lost. Returns the number of entries that were sent completely, with the number of such messages and the bit REFUSED (delivery). */
static napi_value udp_send(napi_env env, napi_callback_info info)
{
	ARGS(7);
	struct sending *sending = state_of(env)->sending;
	struct gather *g = &sending->gather;
	struct batch *batch = batch_of(env, argv[0]);
	sending->refused = sending->trains = 0;
	int fd = arg_int(env, argv[1]), entries = arg_int(env, argv[3]), delivered = 0;
	int prefix = arg_int(env, argv[4]), segmentation = arg_int(env, argv[5]);
	size_t list_bytes;
	int32_t *list = arg_bytes(env, argv[2], &list_bytes);
	struct tunnel_source *tunnel = arg_tunnel_source(env, argv[6]);
	if (!batch || !list || (size_t)entries * 8 > list_bytes || prefix < 0 || prefix > HEADROOM)
		return number(env, -EINVAL);
	for (int i = 0; i < entries; i++) {
		int32_t *entry = list + 2 * i, *d;
		uint8_t *frame = frame_at(batch, entry[0], &d);
		int slot = entry[1], error = 0;
		struct cutter cut;
		if (!frame || d[OFFSET] < prefix || d[SEGMENT] || slot < 0 || slot >= sending->destination_count ||
		    !sending->destinations[slot].address.sa.sa_family)
			error = -EINVAL;
		else if (d[GSO_TYPE])
			error = start_cut(&cut, frame, d);
		else if (d[FLAGS] & NEEDS_CSUM)
			error = complete_checksum(frame, d);
		if (error) {
			entry[1] = error;
			continue;
		}
		if (tunnel && d[GSO_TYPE] && send_whole(fd, sending, list, tunnel, slot, &cut, d, prefix))
			continue;
		int may_join = segmentation && !sending->destinations[slot].no_segmentation;
		size_t count = d[GSO_TYPE] ? cut_count(&cut) : 1;
		for (size_t s = 0; s < count; s++) {
			if (!has_room(g))
				send_gathered(fd, sending, list);
			struct segment segment = { .entry = i };
			if (d[GSO_TYPE]) {
				uint8_t *header = g->headers + g->header_bytes;
				const uint8_t *payload;
				size_t payload_bytes;
				memcpy(header, frame - prefix, (size_t)prefix);
				size_t bytes = (size_t)prefix + cut_next(&cut, header + prefix, &payload, &payload_bytes);
				g->header_bytes += bytes;
				segment.vecs[0] = (struct iovec){ header, bytes };
				segment.vecs[1] = (struct iovec){ (void *)payload, payload_bytes };
			} else {
				segment.vecs[0] = (struct iovec){ frame - prefix, (size_t)(d[LENGTH] + prefix) };
			}
			gather_segment(g, segment, slot, d[TOS], may_join);
		}
	}
	send_gathered(fd, sending, list);
	for (int i = 0; i < entries; i++)
		delivered += list[2 * i + 1] >= 0;
	return number(env, delivery(delivered, sending->trains, sending->refused));
}

void define_send(napi_env env, napi_value exports)
{
	static const napi_property_descriptor send[] = {
		EXPORT("addressSet", address_set),
		EXPORT("addressRefused", address_refused),
		EXPORT("addressLink", address_link),
		EXPORT("addressTunnel", address_tunnel),
		EXPORT("udpSend", udp_send),
	};
	napi_define_properties(env, exports, sizeof send / sizeof *send, send);
}
