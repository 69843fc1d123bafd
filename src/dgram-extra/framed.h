/*
 * Framed I/O: batches of frames between TAPs (tap.c), sockets (udp-receive.c, udp-send.c) and one slab of memory, with
 * the offloads of offload.c.
 *
 *   - A batch is a slab of bytes plus descriptors of DESC_WORDS 32-bit words (../wire/descriptor.ts has the same
 *     layout). JavaScript sees both as external ArrayBuffers, so no call copies payload.
 *   - A descriptor is one frame: a whole frame, or a superframe that still has to be cut (GSO_TYPE). A descriptor from a
 *     socket may also be a run: several frames of one flow and one size (the last may be shorter). The frames of a run are
 *     SEGMENT bytes apart, up to RUN_END; OFFSET and LENGTH describe the first.
 *   - No call here waits, so no call is interrupted (EINTR).
 *   - An output list has two words for each entry: the index of a descriptor, and an argument. If a frame of the entry was
 *     not delivered, `lose` puts the error into the argument.
 */
#ifndef DGRAM_EXTRA_FRAMED_H
#define DGRAM_EXTRA_FRAMED_H

#include "dgram_extra.h"
#include "offload.h"
#include "ring.h"

/* Descriptor words; keep in step with src/wire/descriptor.ts. */
enum {
	OFFSET,       /* first byte of the frame in the slab */
	LENGTH,       /* bytes of the frame */
	FLAGS,        /* virtio-net flags: 1 NEEDS_CSUM, 2 DATA_VALID */
	GSO_TYPE,     /* virtio-net segmentation type */
	GSO_SIZE,     /* payload bytes of a segment */
	HEADER_BYTES, /* bytes of a superframe before its payload */
	CSUM_START,   /* first byte that the checksum covers, from the frame's first byte */
	CSUM_OFFSET,  /* the checksum field, from CSUM_START */
	ADDRESS,      /* 4 words: underlay source, 16 bytes in network order, IPv4 as v4-mapped */
	OUTER_L4 = 8, /* the same words in a tunnel superframe (GSO_TUNNEL), which only a port sends: its outer UDP header, */
	INNER_L3 = 9, /* and its inner IP header, from the frame's first byte */
	PORT = 12,    /* underlay source port */
	TOS,          /* outer traffic class: as received, or to be sent */
	SEGMENT,      /* bytes from one frame of a run to the next; 0 = one frame */
	RUN_END,      /* offset behind the last frame of a run */
	DESC_WORDS = 16,
};

#define HEADROOM 32       /* before each frame: for the virtio-net header (24 bytes), then for the tunnel header and a VLAN tag */
#define MAX_FRAME 65536   /* a frame of a TAP has at most 64 KiB, so that much must be free before a read */
#define MAX_BATCHES 16    /* two directions of a worker, and room for tests */
#define MAX_MESSAGES 1024 /* the kernel's limit for one recvmmsg or sendmmsg (UIO_MAXIOV) */
#define CONTROL_BYTES 64  /* CMSG_SPACE of traffic class and segment size */
#define NEWS_TRIES 16     /* tries of a call that may fail because of ICMP news (udp-errors.c); each failure clears one error */
#define MAX_RULES 4       /* encapsulations of a thread */
#define MAX_RUN 64        /* UDP_MAX_SEGMENTS before Linux 6.9; newer kernels take 128 */

/* In the result of tapWrite and udpSend: a superframe or message of many frames was refused, and its frames went one by
 * one; the number of those that were not refused begins at bit JOINED_SHIFT. */
enum { REFUSED = 1 << 30, JOINED_SHIFT = 16, MAX_JOINED = (REFUSED >> JOINED_SHIFT) - 1 };

static inline int delivery(int delivered, int joined, int refused)
{
	return delivered | (joined < MAX_JOINED ? joined : MAX_JOINED) << JOINED_SHIFT | refused;
}

/* The tunnel header at the beginning of a datagram: its length, and the bits that a plain header has. Keep in step with
 * HeaderRule of src/encap/contract.ts. */
struct header_rule {
	int32_t base_bytes;         /* bytes of the shortest header */
	int32_t length_mask;        /* bits of the first byte that give the additional length, */
	int32_t unit_bytes;         /* in units of so many bytes */
	uint32_t plain_mask, plain; /* first four bytes, big-endian: in a plain header these bits have this value */
};

/* Received datagrams that udp-receive.c had no descriptors left for. */
struct rest {
	const struct header_rule *rule;
	int next, got;             /* the next message, and the number of messages */
	size_t at, stride;         /* position in the next message, 0 = at its start; bytes of its datagrams */
	int32_t words[DESC_WORDS]; /* descriptor words that are the same for all datagrams of that message */
};

struct batch {
	uint8_t *slab;
	size_t slab_bytes;
	int32_t *words;
	int descriptors, messages;
	int prepared; /* messages that are ready for a receive */
	struct rest rest;
	struct mmsghdr *msgs;
	struct iovec *vecs;
	struct sockaddr_in6 *names;
	uint8_t (*controls)[CONTROL_BYTES];
};

/* The state of the addon in one thread. */
struct state {
	struct batch batches[MAX_BATCHES];
	struct header_rule rules[MAX_RULES];
	int rule_count;
	struct ring ring;        /* for tap.c */
	struct sending *sending; /* for udp-send.c */
};

struct state *state_of(napi_env env);
/* NULL if there is no such batch. */
struct batch *batch_of(napi_env env, napi_value value);
/* Returns a frame of the batch; NULL if the descriptor points outside the slab. */
uint8_t *frame_at(const struct batch *batch, int32_t index, int32_t **desc);
/* Starts to cut the superframe of a descriptor. Returns 0, or -EINVAL. */
int start_cut(struct cutter *cut, const uint8_t *frame, const int32_t *desc);
/* Notes that a frame of this entry is lost. The argument becomes the negated errno of the first lost frame, less 65,536
 * for each further lost frame of a run or a superframe. */
void lose(int32_t *entry, int error);

/* Makes the state of udp-send.c for one thread; NULL without memory. */
struct sending *sending_create(void);
void sending_free(struct sending *sending);

void define_tap(napi_env env, napi_value exports);
void define_receive(napi_env env, napi_value exports);
void define_send(napi_env env, napi_value exports);
void define_errors(napi_env env, napi_value exports);

#endif
