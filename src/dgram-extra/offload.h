/*
 * What a NIC with offloads would do: checksums, cutting superframes into segments, putting segments together.
 * Pure functions over bytes: no descriptors, no sockets. Words of a running sum are in host byte order, as RFC 1071
 * allows; `fold` gives the value as it stands in a packet.
 */
#ifndef DGRAM_EXTRA_OFFLOAD_H
#define DGRAM_EXTRA_OFFLOAD_H

#include <stddef.h>
#include <stdint.h>

/* virtio-net header values (virtio 1.2, 5.1.6) */
enum { NEEDS_CSUM = 1 };
enum { GSO_NONE = 0, GSO_TCPV4 = 1, GSO_TCPV6 = 4, GSO_UDP_L4 = 5, GSO_ECN = 0x80 };

uint64_t sum_bytes(const uint8_t *bytes, size_t length);
uint16_t fold(uint64_t sum);

/* Ethernet, IP and TCP or UDP header of a frame: offsets from its first byte. */
struct layout {
	uint16_t l3, l4, payload;
	uint16_t payload_bytes;
	uint8_t protocol; /* 6 or 17 */
	uint8_t is_v4;
	uint8_t checksum; /* offset of the field in the TCP or UDP header */
};

/* Offset of the header behind Ethernet and its tags, whose EtherType stands in the two bytes before it; 0 = there are
 * more than four tags, or fewer than the 20 bytes of an IP header behind them. */
size_t find_ip(const uint8_t *frame, size_t length);

/* 1 when the IP packet of a frame says that it ends where the frame does. */
int ip_fills(const uint8_t *frame, size_t length);

/* 1 when the frame is a whole TCP segment or UDP datagram right behind its IP header, and nothing behind it; else 0. */
int find_layout(const uint8_t *frame, size_t length, struct layout *at);

/* Whether the TCP or UDP checksum was left to the device: its field holds the sum over the pseudo header. */
int is_partial(const uint8_t *frame, const struct layout *at);
/* Whether all checksums of a frame may be believed; one left to the device may, one that is not there may not. */
int is_good(const uint8_t *frame, const struct layout *at);

#define MAX_HEADER_BYTES 240 /* 14, 4 tags, IP with options or extension headers, TCP with options (60) */

/* One superframe being cut: the headers of segment after segment. */
struct cutter {
	const uint8_t *frame;
	size_t length, segment_bytes; /* payload bytes a segment */
	struct layout at;
	uint32_t next; /* index of the next segment */
	uint64_t fixed_sum; /* over the pseudo header, but its length */
};

/* 0, or -EINVAL when frame and virtio-net header do not fit together. */
int cut_start(struct cutter *cut, const uint8_t *frame, size_t length, int gso_type, int gso_size, int csum_start);
size_t cut_count(const struct cutter *cut);
/* Writes the headers of the next segment; its payload is `*payload_bytes` bytes at `*payload` of the frame. Returns the
 * bytes of header. */
size_t cut_next(struct cutter *cut, uint8_t *header, const uint8_t **payload, size_t *payload_bytes);

#define MAX_TRAIN 64 /* segments: what the kernel itself puts together at most (UDP_GRO_CNT_MAX) */

/* A superframe being put together out of consecutive segments of one flow. */
struct train {
	const uint8_t *head;
	struct layout at;
	uint32_t segments;
	uint32_t payload_bytes;
	uint8_t last_flags;
	uint8_t closed;
};

/* Starts with a segment. Whether checksums are good is for the caller to know before the train has two. */
void train_start(struct train *train, const uint8_t *frame, const struct layout *at);
/* 1 when the segment continues the train and is now part of it; checksums as above. */
int train_add(struct train *train, const uint8_t *frame, const struct layout *at);
/* The superframe's headers (at.payload bytes) and what the virtio-net header must say; its payload is that of the
 * segments, in order. Returns the gso type. */
int train_header(const struct train *train, uint8_t *header);

#endif
