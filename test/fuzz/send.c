/* Output lists through what makes datagrams and tunnel frames of them (src/dgram-extra/udp-send.c and tunnel-send.c), to sockets
 * and a tunnel port that take, refuse or keep waiting as they like. native.h says how it is built (npm run fuzz -- send).
 *
 * The input is the choices by which frames, their descriptors and the answers of the kernel are made; every eighth frame has
 * words that nobody wrote so. Every byte of a message is read. A message is what UDP_SEGMENT takes, and each datagram is sent
 * once or counted as lost to its entry. A tunnel frame is cut as a device would cut it. */
#include "batch.h"

#include <netinet/udp.h>
#include <poll.h>
#include <sys/uio.h>

static int send_messages(int fd, struct mmsghdr *msgs, unsigned count, int flags);
static int wait_for_room(struct pollfd *fds, nfds_t count, int timeout_ms);
static ssize_t write_tunnel(int fd, const struct iovec *vecs, int count);

#define sendmmsg send_messages
#define poll wait_for_room
#define writev write_tunnel
#include "../../src/dgram-extra/udp-send.c"
#include "../../src/dgram-extra/tunnel-send.c"
#undef sendmmsg
#undef poll
#undef writev

enum { FRAMES = 8, ENTRIES = 16, SLOTS = 4, PREFIX = 8, SOCKET = 7, TUNNEL_PORT = 9 };

static size_t accepted;
static int calls, segmentation, moody;
static uint8_t copy[65536];

void ring_leave(struct ring *ring)
{
	(void)ring;
}

WITHOUT(ring)
WITHOUT(tap)
WITHOUT(receive)
WITHOUT(errors)

int is_news(int error)
{
	return error == EMSGSIZE || error == ECONNREFUSED;
}

socklen_t make_address(union address *to, const uint8_t *ip, int port)
{
	memset(to, 0, sizeof *to);
	to->v6.sin6_port = htons((uint16_t)port);
	to->sa.sa_family = ip[0] ? AF_INET6 : AF_INET;
	return sizeof to->v6;
}

/* How many datagrams the kernel makes of a message. */
static size_t datagrams_of(const struct msghdr *msg)
{
	const union address *to = msg->msg_name;
	size_t bytes = 0, segment = 0;
	int is_v4 = to->sa.sa_family == AF_INET;
	if (msg->msg_namelen != (is_v4 ? sizeof to->v4 : sizeof to->v6) || (!is_v4 && to->sa.sa_family != AF_INET6))
		fail("to nowhere");
	for (size_t i = 0; i < msg->msg_iovlen; i++) {
		size_t length = msg->msg_iov[i].iov_len;
		if (length < 1 || length > sizeof copy)
			fail("a vector of no size");
		memcpy(copy, msg->msg_iov[i].iov_base, length);
		bytes += length;
	}
	if (msg->msg_controllen > CONTROL_BYTES)
		fail("more control messages than there is room for");
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR((struct msghdr *)msg, c)) {
		uint16_t value;
		if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_SEGMENT && c->cmsg_len == CMSG_LEN(sizeof value))
			memcpy(&value, CMSG_DATA(c), sizeof value), segment = value;
		else if (c->cmsg_level != (is_v4 ? IPPROTO_IP : IPPROTO_IPV6) || c->cmsg_type != (is_v4 ? IP_TOS : IPV6_TCLASS) ||
			 c->cmsg_len != CMSG_LEN(sizeof(int)))
			fail("another control message");
	}
	if (!segment)
		return 1;
	size_t count = (bytes + segment - 1) / segment, next = 0, at = 0;
	if (!segmentation || count < 2 || count > MAX_RUN || bytes > 65507)
		fail("not what UDP_SEGMENT takes");
	for (size_t i = 0; i < msg->msg_iovlen; i++) { /* each datagram begins where a vector does */
		if (at == next)
			next += segment;
		at += msg->msg_iov[i].iov_len;
		if (at > next)
			fail("a datagram across its end");
	}
	return count;
}

static int send_messages(int fd, struct mmsghdr *msgs, unsigned count, int flags)
{
	static const int errors[] = { EAGAIN, EIO, EINVAL, EMSGSIZE, ECONNREFUSED, EPERM, ENETUNREACH, ENOBUFS };
	if (fd != SOCKET || flags != MSG_DONTWAIT || count < 1 || count > MAX_MESSAGES)
		fail("not what was to be sent");
	if (++calls > 100000)
		fail("no end of it");
	if (moody && roll(2))
		return errno = errors[roll(8)], -1;
	unsigned taken = moody ? 1 + roll(count) : count;
	for (unsigned i = 0; i < taken; i++) {
		msgs[i].msg_len = 0;
		accepted += datagrams_of(&msgs[i].msg_hdr);
	}
	return (int)taken;
}

static int wait_for_room(struct pollfd *fds, nfds_t count, int timeout_ms)
{
	if (count != 1 || (fds->fd != SOCKET && fds->fd != TUNNEL_PORT) || fds->events != POLLOUT || timeout_ms > SEND_WAIT_MS)
		fail("another wait");
	return (int)roll(2);
}

/* Takes a tunnel frame, and counts the datagrams that it becomes. */
static ssize_t write_tunnel(int fd, const struct iovec *vecs, int count)
{
	static const int errors[] = { EAGAIN, EIO, EINVAL, ENOMEM, EBADFD };
	struct virtio_net_hdr header;
	struct cutter cut;
	uint8_t head[MAX_HEADER_BYTES];
	if (fd != TUNNEL_PORT || count != 3 || vecs[0].iov_len != sizeof header)
		fail("not what a tunnel port takes");
	if (moody && roll(2))
		return errno = errors[roll(5)], -1;
	memcpy(&header, vecs[0].iov_base, sizeof header);
	size_t outer = vecs[1].iov_len, length = outer + vecs[2].iov_len;
	uint8_t *frame = malloc(length);
	memcpy(frame, vecs[1].iov_base, outer);
	memcpy(frame + outer, vecs[2].iov_base, vecs[2].iov_len);
	size_t l3 = ETHERNET, l4 = header.outer_l4;
	int is_v4 = header.gso_type & GSO_TUNNEL_V4;
	if (get32(frame + 8) == 0 || l4 + UDP_HEADER != outer || get16(frame + l4 + 4) != length - l4 ||
	    (is_v4 ? get16(frame + l3 + 2) : get16(frame + l3 + 4) + IPV6) != (int)(length - l3))
		fail("another length");
	if (is_v4 && fold(sum_bytes(frame + l3, IPV4)) != 0xffff)
		fail("another sum of the outer header");
	const struct gso gso = { .type = header.gso_type, .size = header.gso_size, .flags = header.flags,
		.csum_start = header.csum_start, .outer_l4 = header.outer_l4, .inner_l3 = header.inner_l3 };
	if (header.hdr_len > MAX_HEADER_BYTES) {
		accepted += (length - header.hdr_len + header.gso_size - 1) / header.gso_size;
	} else {
		if (cut_start(&cut, frame, length, &gso) != 0 || cut.at.payload != header.hdr_len)
			fail("no tunnel frame");
		for (size_t i = cut_count(&cut); i > 0; i--, accepted++) {
			const uint8_t *payload;
			size_t bytes;
			cut_next(&cut, head, &payload, &bytes);
			if (bytes < 1 || payload + bytes > frame + length)
				fail("a segment across the end");
		}
	}
	free(frame);
	return (ssize_t)(sizeof header + length);
}

/* Frames one behind the other. Whether one may lie in another: then nobody knows what is sent of it. */
static int make_batch(void)
{
	int count = 1 + (int)roll(FRAMES), is_odd = 0;
	size_t at = HEADROOM, end = 0, most = roll(16) ? 600 : 6000;
	open_batch(HEADROOM + (size_t)count * (most + 200), count);
	for (int i = 0; i < count; i++) {
		int32_t *d = batch->words + i * DESC_WORDS;
		int l4, is_udp = (int)roll(2);
		size_t payload = roll((uint32_t)most - 200);
		d[OFFSET] = (int32_t)at;
		d[LENGTH] = (int32_t)make_frame(batch->slab + at, payload, is_udp, 0, &l4);
		switch (roll(4)) {
		case 0:
			d[GSO_TYPE] = is_udp ? GSO_UDP_L4 : batch->slab[at + (size_t)l4 - 20] == 0x45 ? GSO_TCPV4 : GSO_TCPV6;
			d[GSO_SIZE] = 1 + (int32_t)roll(roll(8) ? 400 : 20);
			if (roll(3) == 0) {
				d[LENGTH] = (int32_t)wrap_frame(batch->slab + at, (size_t)d[LENGTH], 0, 0);
				d[GSO_TYPE] |= GSO_TUNNEL_V4, d[OUTER_L4] = 34, d[FLAGS] = roll(2) ? TUNNEL_CSUM : 0;
				d[INNER_L3] = l4 + OUTER_BYTES - ((d[GSO_TYPE] & 7) == GSO_TCPV6 ? 40 : 20), l4 += OUTER_BYTES;
			}
			/* fall through */
		case 1:
			d[FLAGS] |= NEEDS_CSUM, d[CSUM_START] = l4, d[CSUM_OFFSET] = is_udp ? 6 : 16;
		}
		d[TOS] = (int32_t)roll(3);
		if (roll(3) == 0)
			batch->slab[at + roll((uint32_t)d[LENGTH])] ^= (uint8_t)roll(256);
		end = at + (size_t)d[LENGTH];
		at = (end + HEADROOM + 15) & ~(size_t)15;
		if (roll(8))
			continue;
		uint32_t what = roll(DESC_WORDS), value = roll(2) ? word() : word() << 16 | word();
		d[what] = what == CSUM_OFFSET ? d[LENGTH] - d[CSUM_START] - (int32_t)roll(4) : (int32_t)(roll(4) ? value : value % 40 - 20);
		is_odd |= what == OFFSET || what == LENGTH;
	}
	cut_batch(end);
	return is_odd;
}

/* Datagrams that an entry becomes; one that is refused is lost as one. */
static size_t datagrams_due(int32_t index, int32_t slot)
{
	struct cutter cut;
	int32_t *d;
	const uint8_t *frame = frame_at(batch, index, &d);
	if (!frame || d[OFFSET] < PREFIX || d[SEGMENT] || slot < 0 || slot >= state.sending->destination_count || !d[GSO_TYPE])
		return 1;
	return start_cut(&cut, frame, d) == 0 &&
			       state.sending->destinations[slot].address.sa.sa_family ?
		       cut_count(&cut) :
		       1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t ip[16] = { 0 };
	start(data, size);
	if (!state.sending)
		state.sending = sending_create();
	moody = (int)roll(2), segmentation = (int)roll(2);
	for (int set = (int)roll(SLOTS + 1); set > 0; set--) {
		ip[0] = (uint8_t)roll(2);
		arguments[0].number = (int32_t)roll(SLOTS), arguments[2].number = 4789;
		arguments[1].bytes = ip, arguments[1].length = sizeof ip;
		if (call(address_set) != 0)
			fail("no such slot");
	}
	struct tunnel_source source = { .tap = TUNNEL_PORT, .family = roll(2) ? AF_INET : AF_INET6, .port = 50000, .ttl = 64,
		.has_checksum = (int32_t)roll(2) };
	for (int set = (int)roll(SLOTS + 1); set > 0; set--) {
		arguments[0].number = (int32_t)roll(SLOTS), arguments[1].number = (int32_t)roll(3);
		arguments[2].number = roll(4) ? 1500 : (int32_t)word();
		if (call(address_link) == 0)
			state.sending->destinations[arguments[0].number].passed = (uint8_t)roll(2);
	}
	int is_odd = make_batch(), entries = 1 + (int)roll(ENTRIES), delivered = 0;
	int32_t *list = malloc((size_t)entries * 8), slots[ENTRIES];
	size_t due = 0, lost = 0;
	for (int i = 0; i < entries; i++) {
		list[2 * i] = (int32_t)roll((uint32_t)batch->descriptors + 1) - (roll(20) == 0);
		list[2 * i + 1] = slots[i] = (int32_t)roll(SLOTS + 1) - (roll(20) == 0);
		due += datagrams_due(list[2 * i], slots[i]);
	}
	arguments[0].number = 0, arguments[1].number = SOCKET, arguments[3].number = entries, arguments[4].number = PREFIX;
	arguments[2].bytes = list, arguments[2].length = (size_t)entries * 8, arguments[5].number = segmentation;
	arguments[6].bytes = roll(4) ? &source : NULL, arguments[6].length = sizeof source;
	accepted = 0, calls = 0;
	int32_t result = call(udp_send);
	for (int i = 0; i < entries; i++) {
		int32_t value = list[2 * i + 1];
		if (value < 0)
			lost += 1 + (size_t)((-(int64_t)value - 1) / 65536);
		else if (value != slots[i])
			fail("another slot");
		delivered += value >= 0;
	}
	if ((result & ((1 << JOINED_SHIFT) - 1)) != delivered)
		fail("not as many as were delivered");
	if (!is_odd && accepted + lost != due)
		fail("neither sent nor lost, or both");
	if (state.sending->gather.segment_count || state.sending->gather.message_count || state.sending->gather.header_bytes)
		fail("something stays behind");
	free(list);
	close_batch();
	free(state.sending->destinations);
	state.sending->destinations = NULL, state.sending->destination_count = 0;
	return 0;
}
