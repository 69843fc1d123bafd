/* Checksums, segmentation and coalescing. offload.h has the overview. */
#include "offload.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

enum { TCP = 6, UDP = 17 };
enum { FIN = 0x01, SYN = 0x02, RST = 0x04, PSH = 0x08, URG = 0x20, CWR = 0x80 };

static uint16_t get16(const uint8_t *bytes)
{
	return (uint16_t)(bytes[0] << 8 | bytes[1]);
}

static void put16(uint8_t *bytes, uint16_t value)
{
	bytes[0] = (uint8_t)(value >> 8);
	bytes[1] = (uint8_t)value;
}

static uint32_t get32(const uint8_t *bytes)
{
	return (uint32_t)get16(bytes) << 16 | get16(bytes + 2);
}

static void put32(uint8_t *bytes, uint32_t value)
{
	put16(bytes, (uint16_t)(value >> 16));
	put16(bytes + 2, (uint16_t)value);
}

/* ------------------------------------------------------------------------------------------------ checksums */

/* Bulk TCP spends a tenth of its time in this loop. The compiler makes two versions of it, and the loader picks the one
 * with the widest vectors of the processor; the loop needs no moves between the halves of a vector. It is aligned to a
 * cache line, without which it took a sixth longer. Clang is excluded: it has no `optimize`, and other files cannot
 * call a function with target_clones (clang 14). */
#if defined(__clang__)
#elif defined(__x86_64__) && defined(__GLIBC__)
__attribute__((target_clones("avx2", "default"), optimize("O3", "unroll-loops", "align-loops=64"), aligned(64)))
#else
__attribute__((optimize("O3", "unroll-loops")))
#endif
uint64_t sum_bytes(const uint8_t *bytes, size_t length)
{
	uint64_t low = 0, high = 0, word = 0;
	size_t words = length / 8;
	for (size_t i = 0; i < words; i++) {
		memcpy(&word, bytes + 8 * i, 8);
		low += word & 0xffffffff;
		high += word >> 32;
	}
	if (length & 7) {
		word = 0;
		memcpy(&word, bytes + 8 * words, length & 7);
		low += word & 0xffffffff;
		high += word >> 32;
	}
	return low + high;
}

uint16_t fold(uint64_t sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)((sum & 0xffff) + (sum >> 16));
}

static void put_sum(uint8_t *field, uint16_t sum)
{
	memcpy(field, &sum, 2);
}

static uint16_t get_sum(const uint8_t *field)
{
	uint16_t sum;
	memcpy(&sum, field, 2);
	return sum;
}

/* Returns the sum over the pseudo header. RFC 9293 3.1, RFC 8200 8.1 */
static uint16_t pseudo_sum(const uint8_t *frame, const struct layout *at, size_t l4_bytes)
{
	const uint8_t *ip = frame + at->l3;
	uint64_t addresses = at->is_v4 ? sum_bytes(ip + 12, 8) : sum_bytes(ip + 8, 32);
	return fold(addresses + htons(at->protocol) + htons((uint16_t)l4_bytes));
}

int is_partial(const uint8_t *frame, const struct layout *at)
{
	size_t l4_bytes = (size_t)(at->payload - at->l4) + at->payload_bytes;
	return get_sum(frame + at->l4 + at->checksum) == pseudo_sum(frame, at, l4_bytes);
}

int is_good(const uint8_t *frame, const struct layout *at)
{
	size_t l4_bytes = (size_t)(at->payload - at->l4) + at->payload_bytes;
	if (at->is_v4 && fold(sum_bytes(frame + at->l3, (size_t)(at->l4 - at->l3))) != 0xffff)
		return 0;
	if (at->protocol == UDP && get_sum(frame + at->l4 + at->checksum) == 0)
		return 0;
	return is_partial(frame, at) ||
	       fold(pseudo_sum(frame, at, l4_bytes) + sum_bytes(frame + at->l4, l4_bytes)) == 0xffff;
}

/* --------------------------------------------------------------------------------------------------- layout */

static int is_tag(uint16_t ether_type)
{
	return ether_type == 0x8100 || ether_type == 0x88a8 || ether_type == 0x9100;
}

size_t find_ip(const uint8_t *frame, size_t length)
{
	size_t l3 = 14;
	for (int tags = 0; tags <= 4 && l3 + 20 <= length; tags++, l3 += 4)
		if (!is_tag(get16(frame + l3 - 2)))
			return l3;
	return 0;
}

int ip_fills(const uint8_t *frame, size_t length)
{
	size_t l3 = find_ip(frame, length);
	uint16_t ether_type = l3 ? get16(frame + l3 - 2) : 0;
	return (ether_type == 0x0800 && l3 + get16(frame + l3 + 2) == length) ||
	       (ether_type == 0x86dd && l3 + 40 + get16(frame + l3 + 4) == length);
}

int find_layout(const uint8_t *frame, size_t length, struct layout *at)
{
	size_t l3 = find_ip(frame, length), end;
	if (l3 == 0)
		return 0;
	const uint8_t *ip = frame + l3;
	uint16_t ether_type = get16(frame + l3 - 2);
	memset(at, 0, sizeof *at);
	at->l3 = (uint16_t)l3;
	if (ether_type == 0x0800) {
		size_t header = (size_t)(ip[0] & 15) * 4;
		if (ip[0] >> 4 != 4 || header < 20 || (get16(ip + 6) & 0x3fff)) /* a fragment */
			return 0;
		at->is_v4 = 1;
		at->protocol = ip[9];
		at->l4 = (uint16_t)(l3 + header);
		end = l3 + get16(ip + 2);
	} else if (ether_type == 0x86dd && l3 + 40 <= length && ip[0] >> 4 == 6) {
		at->protocol = ip[6];
		at->l4 = (uint16_t)(l3 + 40);
		end = l3 + 40 + get16(ip + 4);
	} else {
		return 0;
	}
	if (end != length)
		return 0;
	if (at->protocol == TCP && at->l4 + 20u <= end) {
		size_t header = (size_t)(frame[at->l4 + 12] >> 4) * 4;
		at->payload = (uint16_t)(at->l4 + header);
		at->checksum = TCP_CHECKSUM;
		if (header < 20)
			return 0;
	} else if (at->protocol == UDP && at->l4 + 8u <= end && get16(frame + at->l4 + 4) == end - at->l4) {
		at->payload = (uint16_t)(at->l4 + 8);
		at->checksum = UDP_CHECKSUM;
	} else {
		return 0;
	}
	if (at->payload > end || at->payload > MAX_HEADER_BYTES)
		return 0;
	at->payload_bytes = (uint16_t)(end - at->payload);
	return 1;
}

static void put_ip_length(uint8_t *header, const struct layout *at, size_t bytes_behind_header)
{
	uint8_t *ip = header + at->l3;
	size_t ip_header = (size_t)(at->l4 - at->l3);
	if (!at->is_v4) {
		put16(ip + 4, (uint16_t)(bytes_behind_header + ip_header - 40));
		return;
	}
	put16(ip + 2, (uint16_t)(bytes_behind_header + ip_header));
	put16(ip + 10, 0);
	put_sum(ip + 10, (uint16_t)~fold(sum_bytes(ip, ip_header)));
}

/* ---------------------------------------------------------------------------------------------- segmentation */

int cut_start(struct cutter *cut, const uint8_t *frame, size_t length, int gso_type, int gso_size, int csum_start)
{
	int type = gso_type & ~GSO_ECN, is_udp = type == GSO_UDP_L4;
	size_t l3 = find_ip(frame, length), l4 = (size_t)csum_start, least = is_udp ? 8 : 20;
	if (l3 == 0 || csum_start < 0 || l4 < l3 + 20 || l4 + least > length || gso_size <= 0)
		return -EINVAL;
	uint16_t ether_type = get16(frame + l3 - 2);
	int is_v4 = ether_type == 0x0800;
	if (!is_v4 && (ether_type != 0x86dd || l4 < l3 + 40))
		return -EINVAL;
	if (!is_udp && type != (is_v4 ? GSO_TCPV4 : GSO_TCPV6))
		return -EINVAL;
	size_t header = is_udp ? least : (size_t)(frame[l4 + 12] >> 4) * 4;
	if (header < least || l4 + header >= length || l4 + header > MAX_HEADER_BYTES)
		return -EINVAL;
	*cut = (struct cutter){ .frame = frame, .length = length, .segment_bytes = (size_t)gso_size };
	cut->at = (struct layout){ .l3 = l3, .l4 = l4, .payload = l4 + header, .is_v4 = is_v4 };
	cut->at.protocol = is_udp ? UDP : TCP;
	cut->at.checksum = is_udp ? UDP_CHECKSUM : TCP_CHECKSUM;
	/* The pseudo header has the final destination, which a routing header may hide from us. So the sum that the sender
	 * left in the field is used, less the length. */
	cut->fixed_sum = get_sum(frame + l4 + cut->at.checksum) + (uint64_t)(uint16_t)~htons((uint16_t)(length - l4));
	return 0;
}

size_t cut_count(const struct cutter *cut)
{
	return (cut->length - cut->at.payload + cut->segment_bytes - 1) / cut->segment_bytes;
}

size_t cut_next(struct cutter *cut, uint8_t *header, const uint8_t **payload, size_t *payload_bytes)
{
	const struct layout *at = &cut->at;
	size_t start = at->payload + cut->next * cut->segment_bytes;
	size_t bytes = cut->length - start < cut->segment_bytes ? cut->length - start : cut->segment_bytes;
	int is_last = start + bytes == cut->length;
	uint8_t *l4 = header + at->l4;
	size_t l4_header = (size_t)(at->payload - at->l4), l4_bytes = l4_header + bytes;

	memcpy(header, cut->frame, at->payload);
	if (at->is_v4) /* RFC 6864: each segment has an id of its own, counted as the kernel's stack does */
		put16(header + at->l3 + 4, (uint16_t)(get16(header + at->l3 + 4) + cut->next));
	put_ip_length(header, at, l4_bytes);
	if (at->protocol == TCP) {
		put32(l4 + 4, get32(l4 + 4) + (uint32_t)(cut->next * cut->segment_bytes));
		if (!is_last)
			l4[13] &= (uint8_t)~(FIN | PSH);
		if (cut->next > 0)
			l4[13] &= (uint8_t)~CWR; /* RFC 3168 6.1.2: on the first data packet only */
	} else {
		put16(l4 + 4, (uint16_t)l4_bytes);
	}
	put_sum(l4 + at->checksum, 0);
	uint16_t sum = (uint16_t)~fold(cut->fixed_sum + htons((uint16_t)l4_bytes) + sum_bytes(l4, l4_header) +
				       sum_bytes(cut->frame + start, bytes));
	put_sum(l4 + at->checksum, sum == 0 && at->protocol == UDP ? 0xffff : sum); /* RFC 768: zero says "none" */

	*payload = cut->frame + start;
	*payload_bytes = bytes;
	cut->next++;
	return at->payload;
}

/* ------------------------------------------------------------------------------------------------ coalescing */

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

/* Compares all fields that the kernel's GRO compares, and the IP id: to cut the superframe again must give the same
 * frames. */
int train_add(struct train *train, const uint8_t *frame, const struct layout *at)
{
	const uint8_t *head = train->head;
	const struct layout *of = &train->at;
	if (train->closed || train->segments == MAX_TRAIN || at->l3 != of->l3 || at->l4 != of->l4 || at->payload != of->payload ||
	    at->protocol != of->protocol || at->is_v4 != of->is_v4)
		return 0;
	if (at->payload_bytes == 0 || at->payload_bytes > of->payload_bytes ||
	    at->payload - at->l3 + train->payload_bytes + at->payload_bytes > 65535)
		return 0;
	if (memcmp(head, frame, at->l3) != 0)
		return 0;
	const uint8_t *a = head + at->l3, *b = frame + at->l3;
	if (at->is_v4) {
		/* all fields and options, except length, id and checksum */
		if (memcmp(a, b, 2) != 0 || memcmp(a + 6, b + 6, 4) != 0 || memcmp(a + 12, b + 12, at->l4 - at->l3 - 12) != 0 ||
		    get16(b + 4) != (uint16_t)(get16(a + 4) + train->segments))
			return 0;
	} else if (memcmp(a, b, 4) != 0 || memcmp(a + 6, b + 6, 34) != 0) {
		return 0;
	}
	a = head + at->l4, b = frame + at->l4;
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
	return type;
}
