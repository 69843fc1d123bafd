/* Random frames through the pure half of the offloads (src/dgram-extra/offload.c), for a compiler that watches memory:
 *
 *   cc -g -O1 -fsanitize=address,undefined -I src/dgram-extra test/fuzz/offload.c src/dgram-extra/offload*.c -o fuzz
 *   ./fuzz SEED FRAMES
 *
 * or, guided by coverage, with clang and -fsanitize=fuzzer,address,undefined -DLIBFUZZER (npm run fuzz -- offload).
 *
 * Each frame lies in memory of exactly its size, so that one byte too far is seen. They are TCP and UDP packets with a
 * few bytes changed, or cut off: random bytes alone would not get past the first check. */
#include "offload.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef LIBFUZZER
static uint64_t state;

static uint32_t dice(uint32_t sides)
{
	state ^= state << 13, state ^= state >> 7, state ^= state << 17;
	return (uint32_t)(state >> 16) % sides;
}

static uint8_t *make(size_t *length, int *l4)
{
	static const uint8_t v4[] = { 0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 6 }, v6[] = { 0x60, 0, 0, 0, 0, 0, 6, 64 };
	size_t tags = dice(6), l3 = 14 + 4 * tags, is_v4 = dice(2), header = is_v4 ? 20 + 4 * dice(3) : 40;
	*length = l3 + header + 20 + dice(dice(8) ? 300 : 5);
	uint8_t *frame = malloc(*length);
	memset(frame, (int)dice(256), *length);
	for (size_t i = 0; i < tags; i++)
		memcpy(frame + 12 + 4 * i, dice(2) ? "\x81\0" : "\x88\xa8", 2);
	memcpy(frame + l3 - 2, is_v4 ? "\x08\0" : "\x86\xdd", 2);
	memcpy(frame + l3, is_v4 ? v4 : v6, is_v4 ? sizeof v4 : sizeof v6);
	size_t ip_bytes = *length - l3 - (is_v4 ? 0 : 40), at = l3 + (is_v4 ? 2 : 4);
	frame[at] = (uint8_t)(ip_bytes >> 8), frame[at + 1] = (uint8_t)ip_bytes;
	if (is_v4)
		frame[l3] = (uint8_t)(0x40 | header / 4);
	if (dice(2)) {
		frame[l3 + (is_v4 ? 9 : 6)] = 17;
		frame[l3 + header + 4] = (uint8_t)((*length - l3 - header) >> 8);
		frame[l3 + header + 5] = (uint8_t)(*length - l3 - header);
	}
	frame[l3 + header + 12] = (uint8_t)(0x50 + 16 * dice(3));
	*l4 = (int)(l3 + header);
	for (uint32_t i = dice(4); i > 0; i--)
		frame[dice((uint32_t)*length)] ^= (uint8_t)(1 << dice(8));
	if (dice(8) == 0)
		frame = realloc(frame, *length = 1 + dice((uint32_t)*length));
	return frame;
}
#endif

static const int types[] = { GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, GSO_TCPV4 | GSO_ECN, GSO_NONE, 77, GSO_TCPV4 | GSO_TUNNEL_V4,
	GSO_TCPV6 | GSO_TUNNEL_V4, GSO_TCPV4 | GSO_TUNNEL_V6, GSO_UDP_L4 | GSO_TUNNEL_V4, GSO_UDP_L4 | GSO_TUNNEL_V6 };
enum { TYPES = sizeof types / sizeof *types };
static unsigned long cut_ones, joined;

/* The first segment of the train that later ones are offered to, and the train. */
static uint8_t *first;
static size_t first_bytes;
static struct train train;

/* Takes the frame. `restart` says whether it may become the first of a new train. */
static void take(uint8_t *frame, size_t length, const struct gso *gso, size_t reach, int restart)
{
	uint8_t header[MAX_HEADER_BYTES];
	const uint8_t *payload;
	struct cutter cut;
	struct layout at, inner;
	size_t bytes;
	(void)ip_fills(frame, reach < length ? reach : length);
	if (cut_start(&cut, frame, length, gso) == 0) {
		size_t covered = 0;
		for (size_t n = cut_count(&cut); n > 0; n--, covered += bytes) {
			size_t head = cut_next(&cut, header, &payload, &bytes);
			if (head > sizeof header || payload < frame || payload + bytes > frame + length)
				abort();
		}
		if (covered + cut.at.payload != length)
			abort();
		cut_ones++;
	}
	if (find_layout(frame, length, &at)) {
		if (find_tunnel(frame, length, &at, &inner))
			at = inner;
		(void)is_good(frame, &at);
		if (first && train_add(&train, frame, &at)) {
			(void)train_header(&train, header);
			joined++;
		} else if (restart) {
			free(first);
			first = memcpy(malloc(length), frame, first_bytes = length);
			train_start(&train, first, &at);
		}
	}
	free(frame);
}

#ifdef LIBFUZZER
/* Frames one after the other, each behind 8 bytes: type, size of a segment, checksum start, reach, flags, length. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	while (size > 8) {
		size_t length = 1 + (size_t)data[6] + 256 * (size_t)(data[7] & 7);
		if (length > size - 8)
			length = size - 8;
		uint8_t *frame = memcpy(malloc(length), data + 8, length);
		const struct gso gso = { .type = types[data[0] % TYPES], .size = data[1] + 256 * data[5], .csum_start = data[2] - 2,
			.flags = data[4] & TUNNEL_CSUM, .outer_l4 = data[3] & 1 ? data[3] : 34, .inner_l3 = data[2] - 2 - (data[4] & 16 ? 40 : 20) };
		take(frame, length, &gso, 2 * (size_t)data[3], data[4] & 1);
		data += 8 + length, size -= 8 + length;
	}
	free(first), first = NULL;
	memset(&train, 0, sizeof train);
	return 0;
}
#else
int main(int argc, char **argv)
{
	unsigned long frames = argc > 2 ? strtoul(argv[2], NULL, 10) : 100000;
	state = argc > 1 ? strtoull(argv[1], NULL, 10) | 1 : 1;
	for (unsigned long i = 0; i < frames; i++) {
		size_t length;
		int l4;
		uint8_t *frame = make(&length, &l4);
		if (first && train.at.protocol == 17 && dice(2)) { /* what follows the first of a train: itself, but the ids */
			frame = memcpy(realloc(frame, first_bytes), first, length = first_bytes);
			frame[train.at.l3 + 5] += train.at.is_v4 * (uint8_t)train.segments;
			if (train.at.outer_l4)
				frame[train.at.outer_l3 + 5] += train.at.outer_v4 * (uint8_t)train.segments;
		}
		struct gso gso = { .type = types[dice(TYPES)], .size = (int)dice(200) - 2, .csum_start = dice(4) ? l4 : (int)dice(400) - 9,
			.flags = dice(2) ? TUNNEL_CSUM : 0, .outer_l4 = 34, .inner_l3 = l4 - (dice(2) ? 20 : 40) };
		if (length > 60 && dice(2)) { /* in a tunnel */
			uint8_t *nested = malloc(length + 50);
			memcpy(nested + 50, frame, length), memset(nested, 0, 50);
			free(frame), frame = nested, length += 50;
			frame[12] = 8, frame[14] = 0x45, frame[16] = (uint8_t)((length - 14) >> 8), frame[17] = (uint8_t)(length - 14);
			frame[23] = 17, frame[38] = (uint8_t)((length - 34) >> 8), frame[39] = (uint8_t)(length - 34), frame[42] = 8;
			frame[41] = (uint8_t)dice(2);
			gso.csum_start += 50, gso.inner_l3 += 50;
		}
		take(frame, length, &gso, dice(400), (int)dice(2));
	}
	free(first);
	printf("%lu frames, %lu cut, %lu joined\n", frames, cut_ones, joined);
	return 0;
}
#endif
