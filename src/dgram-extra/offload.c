/* Checksums, the layout of frames, and segmentation. offload.h has the overview. */
#include "offload-bytes.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

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

uint16_t pseudo_sum(const uint8_t *frame, const struct layout *at, size_t l4_bytes)
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

static int is_ip_good(const uint8_t *frame, const struct layout *at)
{
	return !at->is_v4 || fold(sum_bytes(frame + at->l3, (size_t)(at->l4 - at->l3))) == 0xffff;
}

/* The same for the outer headers of a tunnel, if the inner checksum is right: then what it covers sums up to the complement
 * of the inner pseudo header. An absent checksum is right. */
static int is_outer_good(const uint8_t *frame, const struct layout *at)
{
	const struct layout outer = outer_of(at);
	size_t l4_bytes = (size_t)(at->payload - at->l4) + at->payload_bytes, between = (size_t)(at->l4 - outer.l4);
	if (!is_ip_good(frame, &outer))
		return 0;
	return get_sum(frame + outer.l4 + UDP_CHECKSUM) == 0 ||
	       fold(pseudo_sum(frame, &outer, between + l4_bytes) + sum_bytes(frame + outer.l4, between) +
		    (uint16_t)~pseudo_sum(frame, at, l4_bytes)) == 0xffff;
}

int is_good(const uint8_t *frame, const struct layout *at)
{
	size_t l4_bytes = (size_t)(at->payload - at->l4) + at->payload_bytes;
	if (at->outer_l4 && !is_outer_good(frame, at))
		return 0;
	if (!is_ip_good(frame, at))
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

int find_tunnel(const uint8_t *frame, size_t length, const struct layout *outer, struct layout *at)
{
	const uint8_t *tunnel = frame + outer->payload;
	size_t inner = outer->payload + 8u;
	if (outer->protocol != UDP || outer->payload_bytes < 8)
		return 0;
	if (!(tunnel[0] & 0xc0) && get16(tunnel + 2) == 0x6558) /* Geneve with an Ethernet frame, RFC 8926 3.4 */
		inner += (tunnel[0] & 63u) * 4;
	else if (tunnel[0] != 8 || tunnel[1] || get16(tunnel + 2)) /* VXLAN, RFC 7348 5 */
		return 0;
	if (inner >= length || !find_layout(frame + inner, length - inner, at) || at->payload + inner > MAX_HEADER_BYTES)
		return 0;
	at->l3 += inner, at->l4 += inner, at->payload += inner;
	at->outer_l3 = outer->l3, at->outer_l4 = outer->l4, at->outer_v4 = outer->is_v4;
	return 1;
}

void put_ip_length(uint8_t *header, const struct layout *at, size_t bytes_behind_header)
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

/* Adds to `cut` the tunnel of a superframe with its outer IP header at l3. The outer UDP header and the inner IP header are
 * where the kernel says; so any tunnel over UDP will do. */
static int cut_tunnel(struct cutter *cut, size_t l3, const struct gso *gso)
{
	const uint8_t *frame = cut->frame;
	size_t l4 = (size_t)gso->outer_l4, inner = (size_t)gso->inner_l3, length = cut->length;
	int is_v4 = (gso->type & GSO_TUNNEL) == GSO_TUNNEL_V4;
	if (gso->outer_l4 < 0 || gso->inner_l3 < 0 || l4 < l3 + (is_v4 ? 20 : 40) || inner < l4 + 8 || inner + 20 > length ||
	    (gso->csum_start - gso->outer_l4) % 2) /* sums are of whole words */
		return -EINVAL;
	cut->at.outer_l3 = l3, cut->at.outer_l4 = l4, cut->at.outer_v4 = is_v4;
	if (gso->flags & TUNNEL_CSUM) /* the field has the sum over the pseudo header */
		cut->outer_sum = get_sum(frame + l4 + UDP_CHECKSUM) + (uint64_t)(uint16_t)~htons((uint16_t)(length - l4));
	return 0;
}

int cut_start(struct cutter *cut, const uint8_t *frame, size_t length, const struct gso *gso)
{
	int type = gso->type & ~(GSO_ECN | GSO_TUNNEL), is_udp = type == GSO_UDP_L4, tunnel = gso->type & GSO_TUNNEL;
	size_t outer = find_ip(frame, length), l4 = (size_t)gso->csum_start, least = is_udp ? 8 : 20;
	if (outer == 0 || gso->csum_start < 0 || l4 + least > length || gso->size <= 0)
		return -EINVAL;
	*cut = (struct cutter){ .frame = frame, .length = length, .segment_bytes = (size_t)gso->size };
	uint16_t ether_type = get16(frame + outer - 2);
	if (tunnel && (ether_type != (tunnel == GSO_TUNNEL_V4 ? 0x0800 : 0x86dd) || cut_tunnel(cut, outer, gso) < 0))
		return -EINVAL;
	size_t l3 = tunnel ? (size_t)gso->inner_l3 : outer;
	if (tunnel) /* not every tunnel has an Ethernet header inside */
		ether_type = frame[l3] >> 4 == 4 ? 0x0800 : frame[l3] >> 4 == 6 ? 0x86dd : 0;
	int is_v4 = ether_type == 0x0800;
	if (l4 < l3 + 20 || (!is_v4 && (ether_type != 0x86dd || l4 < l3 + 40)))
		return -EINVAL;
	if (!is_udp && type != (is_v4 ? GSO_TCPV4 : GSO_TCPV6))
		return -EINVAL;
	size_t header = is_udp ? least : (size_t)(frame[l4 + 12] >> 4) * 4;
	if (header < least || l4 + header >= length || l4 + header > MAX_HEADER_BYTES)
		return -EINVAL;
	cut->at.l3 = l3, cut->at.l4 = l4, cut->at.payload = l4 + header, cut->at.is_v4 = is_v4;
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

/* Writes the outer headers of a segment. `l4_bytes` is its inner TCP or UDP header and payload. Their checksum is complete, so
 * they sum up to the complement of the inner pseudo header, and need not be read again. */
static void put_outer(const struct cutter *cut, uint8_t *header, size_t l4_bytes)
{
	const struct layout outer = outer_of(&cut->at);
	size_t between = (size_t)(cut->at.l4 - outer.l4), udp_bytes = between + l4_bytes;
	uint8_t *udp = header + outer.l4;
	if (outer.is_v4)
		put16(header + outer.l3 + 4, (uint16_t)(get16(header + outer.l3 + 4) + cut->next));
	put_ip_length(header, &outer, udp_bytes);
	put16(udp + 4, (uint16_t)udp_bytes);
	if (!cut->outer_sum)
		return;
	put_sum(udp + UDP_CHECKSUM, 0);
	uint16_t inner = (uint16_t)~fold(cut->fixed_sum + htons((uint16_t)l4_bytes));
	uint16_t sum = (uint16_t)~fold(cut->outer_sum + htons((uint16_t)udp_bytes) + sum_bytes(udp, between) + inner);
	put_sum(udp + UDP_CHECKSUM, sum == 0 ? 0xffff : sum); /* RFC 768 */
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
	if (at->outer_l4)
		put_outer(cut, header, l4_bytes);

	*payload = cut->frame + start;
	*payload_bytes = bytes;
	cut->next++;
	return at->payload;
}
