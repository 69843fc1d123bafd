/*
 * The offloads of a NIC: checksums, superframes cut into segments, segments joined into superframes. The functions are
 * pure: they know bytes, and no descriptors or sockets. The words of a running sum are in host byte order, as RFC 1071
 * allows; `fold` returns the value in the form of a packet.
 */
#ifndef DGRAM_EXTRA_OFFLOAD_H
#define DGRAM_EXTRA_OFFLOAD_H

#include <stddef.h>
#include <stdint.h>

/* virtio-net header values (virtio 1.2, 5.1.6) */
enum { NEEDS_CSUM = 1, TUNNEL_CSUM = 8 }; /* the second: the outer UDP checksum of a tunnel superframe is wanted */
enum { TCP_CHECKSUM = 16, UDP_CHECKSUM = 6 }; /* where the field is in the header */
enum { GSO_NONE = 0, GSO_TCPV4 = 1, GSO_TCPV6 = 4, GSO_UDP_L4 = 5, GSO_ECN = 0x80 };
/* Bits on top of a type (virtio 1.4, 5.1.6): the superframe is inside a UDP tunnel over IPv4, or over IPv6. */
enum { GSO_TUNNEL_V4 = 0x20, GSO_TUNNEL_V6 = 0x40, GSO_TUNNEL = 0x60 };

uint64_t sum_bytes(const uint8_t *bytes, size_t length);
uint16_t fold(uint64_t sum);

/* Headers of a frame (Ethernet, IP, TCP or UDP), as offsets from its first byte. */
struct layout {
	uint16_t l3, l4, payload;
	uint16_t payload_bytes;
	uint8_t protocol; /* 6 or 17 */
	uint8_t is_v4;
	uint8_t checksum; /* offset of the field in the TCP or UDP header */
	/* The same of the headers around a UDP tunnel; outer_l4 = 0: there is no tunnel. */
	uint8_t outer_v4;
	uint16_t outer_l3, outer_l4;
};

/* Returns the offset of the header behind Ethernet and its tags; its EtherType is in the two bytes before it. 0 = the
 * frame has more than four tags, or fewer than 20 bytes (an IP header) behind them. */
size_t find_ip(const uint8_t *frame, size_t length);

/* 1 if the IP packet ends where the frame ends, according to the IP header. */
int ip_fills(const uint8_t *frame, size_t length);

/* 1 if the frame is a whole TCP segment or UDP datagram, directly behind the IP header, with no bytes after it; else 0. */
int find_layout(const uint8_t *frame, size_t length, struct layout *at);
/* The same for the frame inside a VXLAN or Geneve tunnel. `outer` is the layout of the whole frame. */
int find_tunnel(const uint8_t *frame, size_t length, const struct layout *outer, struct layout *at);

/* 1 if the TCP or UDP checksum was left to the device: the field holds the sum over the pseudo header. */
int is_partial(const uint8_t *frame, const struct layout *at);
/* 1 if all checksums of the frame are right. One that was left to the device counts as right, an absent one as wrong, but for
 * the outer one of a tunnel. */
int is_good(const uint8_t *frame, const struct layout *at);

#define MAX_HEADER_BYTES 512 /* Ethernet, 4 tags, IP and TCP with options; the same again inside a tunnel, Geneve with options */

/* How a superframe is to be cut: its virtio-net header. */
struct gso {
	int type, size, flags;
	int csum_start;         /* TCP or UDP header of what is cut, from the frame's first byte */
	int outer_l4, inner_l3; /* of a tunnel superframe: its outer UDP header, and its inner IP header */
};

/* The state of cutting one superframe into segments. */
struct cutter {
	const uint8_t *frame;
	size_t length, segment_bytes; /* payload bytes of a segment */
	struct layout at;
	uint32_t next; /* index of the next segment */
	uint64_t fixed_sum, outer_sum; /* sums over the pseudo headers without their length; outer_sum = 0: no outer checksum */
};

/* Returns 0, or -EINVAL if the frame does not fit its virtio-net header. */
int cut_start(struct cutter *cut, const uint8_t *frame, size_t length, const struct gso *gso);
size_t cut_count(const struct cutter *cut);
/* Writes the headers of the next segment, and returns their bytes. The payload is `*payload_bytes` bytes at `*payload`, a
 * part of the frame. */
size_t cut_next(struct cutter *cut, uint8_t *header, const uint8_t **payload, size_t *payload_bytes);

#define MAX_TRAIN 64 /* the kernel joins as many segments at most (UDP_GRO_CNT_MAX) */

/* A train: consecutive segments of one flow that become one superframe. */
struct train {
	const uint8_t *head;
	struct layout at;
	uint32_t segments;
	uint32_t payload_bytes;
	uint8_t last_flags;
	uint8_t closed;
};

/* Starts a train with one segment. The caller checks checksums, at the latest before the train has two segments. */
void train_start(struct train *train, const uint8_t *frame, const struct layout *at);
/* Adds the segment if it continues the train, and returns 1 then; otherwise returns 0. The caller checks checksums. */
int train_add(struct train *train, const uint8_t *frame, const struct layout *at);
/* Writes the headers of the superframe (at.payload bytes) and returns the gso type for the virtio-net header. The
 * payload of the superframe is the payload of all segments, in order. */
int train_header(const struct train *train, uint8_t *header);

#endif
