/* Shared by offload.c and offload-join.c: numbers in packets, and headers that both write. */
#ifndef DGRAM_EXTRA_OFFLOAD_BYTES_H
#define DGRAM_EXTRA_OFFLOAD_BYTES_H

#include "offload.h"

#include <string.h>

enum { TCP = 6, UDP = 17 };
enum { FIN = 0x01, SYN = 0x02, RST = 0x04, PSH = 0x08, URG = 0x20, CWR = 0x80 };

static inline uint16_t get16(const uint8_t *bytes)
{
	return (uint16_t)(bytes[0] << 8 | bytes[1]);
}

static inline void put16(uint8_t *bytes, uint16_t value)
{
	bytes[0] = (uint8_t)(value >> 8);
	bytes[1] = (uint8_t)value;
}

static inline uint32_t get32(const uint8_t *bytes)
{
	return (uint32_t)get16(bytes) << 16 | get16(bytes + 2);
}

static inline void put32(uint8_t *bytes, uint32_t value)
{
	put16(bytes, (uint16_t)(value >> 16));
	put16(bytes + 2, (uint16_t)value);
}

static inline void put_sum(uint8_t *field, uint16_t sum)
{
	memcpy(field, &sum, 2);
}

static inline uint16_t get_sum(const uint8_t *field)
{
	uint16_t sum;
	memcpy(&sum, field, 2);
	return sum;
}

static inline struct layout outer_of(const struct layout *at)
{
	return (struct layout){ .l3 = at->outer_l3, .l4 = at->outer_l4, .is_v4 = at->outer_v4, .protocol = UDP };
}

/* Returns the sum over the pseudo header. RFC 9293 3.1, RFC 8200 8.1 */
uint16_t pseudo_sum(const uint8_t *frame, const struct layout *at, size_t l4_bytes);
/* Writes the length into an IP header, and its checksum. */
void put_ip_length(uint8_t *header, const struct layout *at, size_t bytes_behind_header);

#endif
