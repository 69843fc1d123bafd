/* Coalescing: segments of one flow become one superframe. offload.h has the overview. */
#include "offload-bytes.h"

void train_start(struct train *train, const uint8_t *frame, const struct layout *at)
{
	*train = (struct train){ .head = frame, .at = *at, .segments = 1, .payload_bytes = at->payload_bytes };
	if (at->protocol == TCP) {
		train->last_flags = frame[at->l4 + 13];
		/* A segment with one of these flags, or without data, stays alone. */
		train->closed = (train->last_flags & (FIN | SYN | RST | PSH | URG)) != 0;
	}
	train->closed |= at->payload_bytes == 0;
}

/* 1 if an IP header continues that of the first segment, `segments` segments ago: all fields and options are the same, except
 * length, id and checksum. */
static int same_ip(const uint8_t *a, const uint8_t *b, int is_v4, int bytes, uint32_t segments)
{
	if (!is_v4)
		return memcmp(a, b, 4) == 0 && memcmp(a + 6, b + 6, (size_t)bytes - 6) == 0;
	return memcmp(a, b, 2) == 0 && memcmp(a + 6, b + 6, 4) == 0 && memcmp(a + 12, b + 12, (size_t)bytes - 12) == 0 &&
	       get16(b + 4) == (uint16_t)(get16(a + 4) + segments);
}

/* 1 if the headers around a UDP tunnel continue those of the first segment. */
static int same_outer(const uint8_t *head, const uint8_t *frame, const struct layout *at, uint32_t segments)
{
	const uint8_t *a = head + at->outer_l4, *b = frame + at->outer_l4;
	return memcmp(head, frame, at->outer_l3) == 0 &&
	       same_ip(head + at->outer_l3, frame + at->outer_l3, at->outer_v4, at->outer_l4 - at->outer_l3, segments) &&
	       memcmp(a, b, 4) == 0 && !get_sum(a + UDP_CHECKSUM) == !get_sum(b + UDP_CHECKSUM) &&
	       memcmp(a + 8, b + 8, (size_t)(at->l3 - at->outer_l4) - 8) == 0;
}

/* Compares all fields that the kernel's GRO compares, and the IP id: to cut the superframe again must give the same
 * frames. */
int train_add(struct train *train, const uint8_t *frame, const struct layout *at)
{
	const uint8_t *head = train->head;
	const struct layout *of = &train->at;
	if (train->closed || train->segments == MAX_TRAIN || at->l3 != of->l3 || at->l4 != of->l4 || at->payload != of->payload ||
	    at->protocol != of->protocol || at->is_v4 != of->is_v4 || at->outer_l4 != of->outer_l4 || at->outer_l3 != of->outer_l3)
		return 0;
	size_t ip = at->outer_l4 ? at->outer_l3 : at->l3;
	if (at->payload_bytes == 0 || at->payload_bytes > of->payload_bytes ||
	    at->payload - ip + train->payload_bytes + at->payload_bytes > 65535)
		return 0;
	if (at->outer_l4 ? !same_outer(head, frame, at, train->segments) : memcmp(head, frame, at->l3) != 0)
		return 0;
	if (!same_ip(head + at->l3, frame + at->l3, at->is_v4, at->l4 - at->l3, train->segments))
		return 0;
	const uint8_t *a = head + at->l4, *b = frame + at->l4;
	if (memcmp(a, b, 4) != 0) /* ports */
		return 0;
	if (at->protocol == TCP) {
		uint8_t flags = b[13];
		if (get32(b + 4) != get32(a + 4) + train->payload_bytes || /* sequence */
		    memcmp(a + 8, b + 8, 5) != 0 ||                            /* acknowledgment, data offset */
		    ((a[13] ^ flags) & ~(FIN | PSH | CWR)) != 0 || (flags & CWR) ||
		    memcmp(a + 14, b + 14, 2) != 0 || /* window */
		    memcmp(a + 18, b + 18, (size_t)(at->payload - at->l4) - 18) != 0) /* urgent pointer, options */
			return 0;
		train->last_flags = flags;
		train->closed = (flags & (FIN | PSH)) != 0;
	}
	train->closed |= at->payload_bytes < of->payload_bytes;
	train->payload_bytes += at->payload_bytes;
	train->segments++;
	return 1;
}

int train_header(const struct train *train, uint8_t *header)
{
	const struct layout *at = &train->at;
	uint8_t *l4 = header + at->l4;
	size_t l4_bytes = (size_t)(at->payload - at->l4) + train->payload_bytes;
	int type = GSO_UDP_L4;
	memcpy(header, train->head, at->payload);
	put_ip_length(header, at, l4_bytes);
	if (at->protocol == TCP) {
		l4[13] |= train->last_flags & (FIN | PSH);
		type = (at->is_v4 ? GSO_TCPV4 : GSO_TCPV6) | (l4[13] & CWR ? GSO_ECN : 0);
	} else {
		put16(l4 + 4, (uint16_t)l4_bytes);
	}
	put_sum(l4 + at->checksum, pseudo_sum(train->head, at, l4_bytes));
	if (at->outer_l4) {
		const struct layout outer = outer_of(at);
		uint8_t *udp = header + outer.l4;
		size_t udp_bytes = (size_t)(at->l4 - outer.l4) + l4_bytes;
		put_ip_length(header, &outer, udp_bytes);
		put16(udp + 4, (uint16_t)udp_bytes);
		if (get_sum(udp + UDP_CHECKSUM))
			put_sum(udp + UDP_CHECKSUM, pseudo_sum(train->head, &outer, udp_bytes));
		type |= outer.is_v4 ? GSO_TUNNEL_V4 : GSO_TUNNEL_V6;
	}
	return type;
}
