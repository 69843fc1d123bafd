/* The header before each frame of a TAP. */
#ifndef DGRAM_EXTRA_VIRTIO_NET_H
#define DGRAM_EXTRA_VIRTIO_NET_H

#include <stdint.h>

struct virtio_net_hdr { /* virtio 1.4, 5.1.6 */
	uint8_t flags, gso_type;
	uint16_t hdr_len, gso_size, csum_start, csum_offset;
	/* only where the TAP has a header of TUNNEL_HEADER bytes (Linux 6.17) */
	uint16_t num_buffers, hash[4], outer_l4, inner_l3;
};

enum { LEGACY_HEADER = 10, TUNNEL_HEADER = sizeof(struct virtio_net_hdr) };

#endif
