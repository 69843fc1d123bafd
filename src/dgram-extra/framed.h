/*
 * Framed I/O: batches of frames between TAPs (tap.c), sockets (udp-receive.c, udp-send.c) and one slab of memory, with
 * the offloads of offload.c.
 *
 *   - A batch is a slab of bytes plus descriptors of DESC_WORDS 32-bit words (../wire/descriptor.ts has the same
 *     layout); both are seen from JavaScript as external ArrayBuffers, so no call copies payload.
 *   - A descriptor is one frame: whole, or a superframe that still has to be cut (GSO_TYPE). Out of a socket it may
 *     also be a run: frames of one flow and one size (the last may be shorter), SEGMENT bytes apart up to RUN_END,
 *     of which OFFSET and LENGTH describe the first.
 *   - Nothing here waits, so no call is ever interrupted (EINTR).
 *   - An output list names descriptors of a batch, two words an entry: index, argument. On return the argument of
 *     an entry that was not delivered, or not all of it, holds what `lose` makes of the error.
 */
#ifndef DGRAM_EXTRA_FRAMED_H
#define DGRAM_EXTRA_FRAMED_H

#include "dgram_extra.h"
#include "ring.h"

/* Descriptor words; keep in step with src/wire/descriptor.ts. */
enum {
	OFFSET,       /* first byte of the frame in the slab */
	LENGTH,       /* bytes of the frame */
	FLAGS,        /* virtio-net flags: 1 NEEDS_CSUM, 2 DATA_VALID */
	GSO_TYPE,     /* virtio-net segmentation type */
	GSO_SIZE,     /* bytes of payload a segment */
	HEADER_BYTES, /* of a superframe: before its payload */
	CSUM_START,   /* from the frame's first byte */
	CSUM_OFFSET,  /* of the checksum field, from CSUM_START */
	ADDRESS,      /* 4 words: underlay source, 16 bytes in network order, IPv4 as v4-mapped */
	PORT = 12,    /* underlay source port */
	TOS,          /* outer traffic class: as received, or to be sent */
	SEGMENT,      /* bytes from one frame of a run to the next; 0 = one frame */
	RUN_END,      /* offset behind the last frame of a run */
	DESC_WORDS = 16,
};

#define HEADROOM 16       /* before each frame: the 10-byte virtio-net header, then reused for the tunnel's and a VLAN tag */
#define MAX_FRAME 65536   /* a TAP hands over at most 64 KiB, so that much must be free before a read */
#define MAX_BATCHES 16    /* two directions a worker, and room for tests */
#define MAX_MESSAGES 1024 /* the kernel's own bound for one recvmmsg or sendmmsg (UIO_MAXIOV) */
#define CONTROL_BYTES 64  /* CMSG_SPACE of traffic class and segment size */
#define NEWS_TRIES 16     /* of a call that fails with what may be news (udp-errors.c), which is told once each */
#define MAX_RULES 4       /* encapsulations a thread may have to do with */
#define MAX_RUN 64        /* UDP_MAX_SEGMENTS of kernels before 6.9; newer ones take 128 */

/* Where a header ends that a datagram begins with, and which bytes may be one; keep in step with HeaderRule of
 * src/encap/contract.ts. */
struct header_rule {
	int32_t base_bytes;         /* of the shortest */
	int32_t length_mask;        /* bits of its first byte that say how much longer it is, */
	int32_t unit_bytes;         /* in such units */
	uint32_t plain_mask, plain; /* of its first four bytes, big-endian: these bits have this value */
};

/* What udp-receive.c has received and not handed on, as the descriptors were used up. */
struct rest {
	const struct header_rule *rule;
	int next, got;             /* messages */
	size_t at, stride;         /* in the next one; 0 = at its start */
	int32_t words[DESC_WORDS]; /* what is true of all of it */
};

struct batch {
	uint8_t *slab;
	size_t slab_bytes;
	int32_t *words;
	int descriptors, messages;
	int prepared; /* messages that can be received into, as they are */
	struct rest rest;
	struct mmsghdr *msgs;
	struct iovec *vecs;
	struct sockaddr_in6 *names;
	uint8_t (*controls)[CONTROL_BYTES];
};

/* One a thread that loads the addon. */
struct state {
	struct batch batches[MAX_BATCHES];
	struct header_rule rules[MAX_RULES];
	int rule_count;
	struct ring ring;        /* of tap.c */
	struct sending *sending; /* of udp-send.c */
};

struct state *state_of(napi_env env);
/* NULL where there is no such batch. */
struct batch *batch_of(napi_env env, napi_value value);
/* A frame of the batch, or NULL where the descriptor points outside the slab. */
uint8_t *frame_at(const struct batch *batch, int32_t index, int32_t **desc);
/* A frame of this entry is lost: the argument becomes the negated errno of the first, less 65,536 for each other one
 * of a run or a superframe. */
void lose(int32_t *entry, int error);

/* What udp-send.c keeps a thread: NULL without memory. */
struct sending *sending_create(void);
void sending_free(struct sending *sending);

void define_tap(napi_env env, napi_value exports);
void define_receive(napi_env env, napi_value exports);
void define_send(napi_env env, napi_value exports);
void define_errors(napi_env env, napi_value exports);

#endif
