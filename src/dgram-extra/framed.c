/*
 * Framed I/O: batches of frames between TAPs, sockets and one slab of memory, with the offloads of offload.c.
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
#define _GNU_SOURCE
#include "dgram_extra.h"
#include "offload.h"

#include <arpa/inet.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#define UDP_GRO 104
#endif

/* Descriptor words; keep in step with src/wire/descriptor.ts. */
enum {
	OFFSET,       /* first byte of the frame in the slab */
	LENGTH,       /* bytes of the frame */
	FLAGS,        /* virtio-net flags: 1 NEEDS_CSUM, 2 DATA_VALID */
	GSO_TYPE,     /* virtio-net segmentation type */
	GSO_SIZE,     /* bytes of payload a segment */
	HEADER_BYTES, /* virtio-net hdr_len: a hint */
	CSUM_START,   /* from the frame's first byte */
	CSUM_OFFSET,  /* of the checksum field, from CSUM_START */
	ADDRESS,      /* 4 words: underlay source, 16 bytes in network order, IPv4 as v4-mapped */
	PORT = 12,    /* underlay source port */
	TOS,          /* outer traffic class: as received, or to be sent */
	SEGMENT,      /* bytes from one frame of a run to the next; 0 = one frame */
	RUN_END,      /* offset behind the last frame of a run */
	DESC_WORDS = 16,
};

#define HEADROOM 16      /* before each frame: the 10-byte virtio-net header, then reused for VXLAN and a VLAN tag */
#define MAX_FRAME 65536  /* a TAP hands over at most 64 KiB, so that much must be free before a read */
#define MAX_BATCHES 16   /* two directions a worker, and room for tests */
#define MAX_MESSAGES 1024 /* the kernel's own bound for one recvmmsg or sendmmsg (UIO_MAXIOV) */
#define CONTROL_BYTES 64 /* CMSG_SPACE of traffic class and segment size */

#define MAX_RUN 64         /* UDP_MAX_SEGMENTS of kernels before 6.9; newer ones take 128 */
#define MAX_DATAGRAM 65000 /* UDP_SEGMENT: all segments together are one IP packet, outer headers included */
#define MAX_SEGMENTS 4096  /* cut before they are sent: a batch of 64 superframes of 64 */
#define HEADER_ARENA (MAX_SEGMENTS * 96) /* their headers: 8 + 14 + 20 + 32 for TCP over IPv4 with timestamps */
#define REFUSED (1 << 30) /* in the result of udpSend: a destination turned out to be none for UDP_SEGMENT */

struct virtio_net_hdr { /* virtio 1.2, 5.1.6, legacy form without num_buffers */
	uint8_t flags, gso_type;
	uint16_t hdr_len, gso_size, csum_start, csum_offset;
};

struct batch {
	uint8_t *slab;
	size_t slab_bytes;
	int32_t *words;
	int descriptors, messages;
	struct mmsghdr *msgs;
	struct iovec *vecs;
	struct sockaddr_in6 *names;
	uint8_t (*controls)[CONTROL_BYTES];
};

/* A segment waiting to be sent: one vector (a whole frame) or two (header, payload), of which list entry. */
struct segment {
	struct iovec vecs[2];
	int32_t entry;
};

/* One message of sendmmsg: consecutive segments of one size to one destination. */
struct message {
	int first, count; /* of segments */
	int slot, tos;
	size_t segment_bytes, bytes;
	int closed; /* a shorter segment was the last */
};

/* What udpSend has gathered and not sent yet. */
struct gather {
	struct segment segments[MAX_SEGMENTS];
	struct iovec vecs[2 * MAX_SEGMENTS];
	struct message messages[MAX_MESSAGES];
	struct mmsghdr msgs[MAX_MESSAGES];
	uint8_t controls[MAX_MESSAGES][CONTROL_BYTES];
	uint8_t headers[HEADER_ARENA];
	int segment_count, message_count;
	size_t header_bytes;
};

struct destination {
	union address address;
	uint8_t no_segmentation; /* its route refused UDP_SEGMENT */
};

/* One a thread that loads the addon: batches and the destinations that output lists name by slot. */
struct state {
	struct batch batches[MAX_BATCHES];
	struct destination *destinations;
	int destination_count;
	struct gather *gather;
	int refused;
};

static struct state *state_of(napi_env env)
{
	void *state = NULL;
	napi_get_instance_data(env, &state);
	return state;
}

static struct batch *batch_of(napi_env env, napi_value value)
{
	int index = arg_int(env, value);
	if (index < 0 || index >= MAX_BATCHES)
		return NULL;
	struct batch *batch = &state_of(env)->batches[index];
	return batch->slab ? batch : NULL;
}

static void free_batch(struct batch *batch)
{
	if (batch->slab)
		munmap(batch->slab, batch->slab_bytes);
	free(batch->words);
	free(batch->msgs);
	free(batch->vecs);
	free(batch->names);
	free(batch->controls);
	memset(batch, 0, sizeof *batch);
}

static void free_state(napi_env env, void *data, void *hint)
{
	(void)env, (void)hint;
	struct state *state = data;
	for (int i = 0; i < MAX_BATCHES; i++)
		free_batch(&state->batches[i]);
	free(state->destinations);
	free(state->gather);
	free(state);
}

/* batchCreate(messages, descriptors, slabBytes, views): index; views.slab and views.words become external
 * ArrayBuffers. The memory lives until the thread's environment ends, so the views never dangle. */
static napi_value batch_create(napi_env env, napi_callback_info info)
{
	ARGS(4);
	int messages = arg_int(env, argv[0]), descriptors = arg_int(env, argv[1]);
	size_t slab_bytes = (size_t)arg_int(env, argv[2]);
	struct state *state = state_of(env);
	int index = 0;
	while (index < MAX_BATCHES && state->batches[index].slab)
		index++;
	if (index == MAX_BATCHES || messages < 1 || messages > MAX_MESSAGES || descriptors < messages ||
	    descriptors > MAX_MESSAGES * MAX_RUN || slab_bytes < HEADROOM + MAX_FRAME)
		return number(env, -EINVAL);
	struct batch *batch = &state->batches[index];
	void *slab = mmap(NULL, slab_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	batch->slab = slab == MAP_FAILED ? NULL : slab;
	batch->slab_bytes = slab_bytes;
	batch->messages = messages;
	batch->descriptors = descriptors;
	batch->words = calloc(descriptors, DESC_WORDS * sizeof(int32_t));
	batch->msgs = calloc(messages, sizeof *batch->msgs);
	batch->vecs = calloc(messages, sizeof *batch->vecs);
	batch->names = calloc(messages, sizeof *batch->names);
	batch->controls = calloc(messages, sizeof *batch->controls);
	if (!batch->slab || !batch->words || !batch->msgs || !batch->vecs || !batch->names || !batch->controls) {
		free_batch(batch);
		return number(env, -ENOMEM);
	}
	napi_value bytes, words;
	napi_create_external_arraybuffer(env, batch->slab, slab_bytes, NULL, NULL, &bytes);
	napi_create_external_arraybuffer(env, batch->words, (size_t)descriptors * DESC_WORDS * 4, NULL, NULL, &words);
	napi_set_named_property(env, argv[3], "slab", bytes);
	napi_set_named_property(env, argv[3], "words", words);
	return number(env, index);
}

/* A frame of the batch, or NULL where the descriptor points outside the slab. */
static uint8_t *frame_at(const struct batch *batch, int32_t index, int32_t **desc)
{
	if (index < 0 || index >= batch->descriptors)
		return NULL;
	int32_t *d = *desc = batch->words + (size_t)index * DESC_WORDS;
	size_t end = (size_t)d[OFFSET] + (size_t)d[LENGTH];
	if (d[OFFSET] < 0 || d[LENGTH] < 12 || end > batch->slab_bytes)
		return NULL;
	if (d[SEGMENT] && (d[SEGMENT] < d[LENGTH] || d[RUN_END] < 0 || (size_t)d[RUN_END] < end ||
			   (size_t)d[RUN_END] > batch->slab_bytes))
		return NULL;
	return batch->slab + d[OFFSET];
}

/* A frame of this entry is lost: the argument becomes the negated errno of the first, less 65,536 for each other one
 * of a run or a superframe. */
static void lose(int32_t *entry, int error)
{
	if (entry[1] >= 0)
		entry[1] = error;
	else if (entry[1] > INT32_MIN + 2 * 65536)
		entry[1] -= 65536;
}

/* -------------------------------------------------------------------------------------------------- TAP: read */

/* tapRead(batch, fd, maxFrames): frames read. Frames are packed, each starting 16-aligned behind HEADROOM bytes;
 * reading stops when the device is empty, maxFrames are there, or less than a largest frame is left. */
static napi_value tap_read(napi_env env, napi_callback_info info)
{
	ARGS(3);
	struct batch *batch = batch_of(env, argv[0]);
	int fd = arg_int(env, argv[1]), max = arg_int(env, argv[2]), count = 0;
	if (!batch)
		return number(env, -EINVAL);
	size_t offset = HEADROOM;
	while (count < max && count < batch->descriptors && offset + MAX_FRAME <= batch->slab_bytes) {
		uint8_t *frame = batch->slab + offset;
		struct virtio_net_hdr header;
		ssize_t got = read(fd, frame - sizeof header, MAX_FRAME + sizeof header);
		if (got < 0 && count == 0 && errno != EAGAIN)
			return number(env, -errno);
		if (got < 0)
			break;
		if ((size_t)got < sizeof header)
			continue;
		memcpy(&header, frame - sizeof header, sizeof header);
		int32_t *d = batch->words + count++ * DESC_WORDS;
		d[OFFSET] = (int32_t)offset;
		d[LENGTH] = (int32_t)(got - sizeof header);
		d[FLAGS] = header.flags;
		d[GSO_TYPE] = header.gso_type;
		d[GSO_SIZE] = header.gso_size;
		d[HEADER_BYTES] = header.hdr_len;
		d[CSUM_START] = header.csum_start;
		d[CSUM_OFFSET] = header.csum_offset;
		d[TOS] = d[SEGMENT] = 0;
		offset += ((size_t)d[LENGTH] + 15 + HEADROOM) & ~(size_t)15;
	}
	return number(env, count);
}

/* ------------------------------------------------------------------------------------------------- TAP: write */

/* Arguments of tapWrite, as bits. */
enum { STRIP_TAG = 1, APART = 2 };

/* One write to a TAP: virtio-net header, then the frame's first `head_bytes`, then vectors; vecs[0..2] are filled in
 * here. With `strip`, the 4 bytes of an 802.1Q tag behind the two addresses are left out; offsets in `header` still
 * count them. */
static int write_vectors(int fd, size_t strip, struct virtio_net_hdr *header, const uint8_t *head, size_t head_bytes,
			 struct iovec *vecs, int count)
{
	if (head_bytes < 12 + strip)
		return -EINVAL;
	if (header->flags & NEEDS_CSUM)
		header->csum_start -= strip;
	if (header->gso_type)
		header->hdr_len -= strip;
	vecs[0] = (struct iovec){ header, sizeof *header };
	vecs[1] = (struct iovec){ (void *)head, 12 };
	vecs[2] = (struct iovec){ (void *)(head + 12 + strip), head_bytes - 12 - strip };
	return writev(fd, vecs, count) < 0 ? -errno : 0;
}

/* A run being written: where to, its frames, and the entry that answers for it. */
struct run {
	int fd;
	size_t strip;
	const uint8_t *first;
	size_t stride, bytes; /* from one frame to the next; of each but the last */
	size_t total;         /* from the first byte to behind the last frame */
	int32_t *entry;
};

static const uint8_t *run_frame(const struct run *run, size_t index, size_t *bytes)
{
	size_t left = run->total - index * run->stride;
	*bytes = left < run->bytes ? left : run->bytes;
	return run->first + index * run->stride;
}

/* A frame as it is. A checksum left to the device (a kernel peer's) is for the stack to complete. */
static void write_single(const struct run *run, size_t index)
{
	struct virtio_net_hdr header = { 0 };
	struct iovec vecs[3];
	struct layout at;
	size_t bytes;
	const uint8_t *frame = run_frame(run, index, &bytes);
	if (find_layout(frame, bytes, &at) && is_partial(frame, &at)) {
		header.flags = NEEDS_CSUM;
		header.csum_start = at.l4, header.csum_offset = at.checksum;
	}
	int error = write_vectors(run->fd, run->strip, &header, frame, bytes, vecs, 3);
	if (error)
		lose(run->entry, error);
}

/* The frames from `first` on that make a train, as one superframe. */
static int write_superframe(const struct run *run, const struct train *train, size_t first)
{
	uint8_t head[MAX_HEADER_BYTES];
	struct iovec vecs[3 + MAX_TRAIN];
	const struct layout *at = &train->at;
	size_t bytes;
	struct virtio_net_hdr header = {
		.flags = NEEDS_CSUM, .gso_type = train_header(train, head), .hdr_len = at->payload,
		.gso_size = at->payload_bytes, .csum_start = at->l4, .csum_offset = at->checksum,
	};
	for (size_t i = 0; i < train->segments; i++) {
		const uint8_t *frame = run_frame(run, first + i, &bytes);
		vecs[3 + i] = (struct iovec){ (void *)(frame + at->payload), bytes - at->payload };
	}
	return write_vectors(run->fd, run->strip, &header, head, at->payload, vecs, 3 + (int)train->segments);
}

static void write_train(const struct run *run, const struct train *train, size_t first)
{
	int error = train->segments > 1 ? write_superframe(run, train, first) : -EINVAL;
	for (size_t i = 0; error && i < train->segments; i++) {
		if (error == -EINVAL) /* one alone, or a kernel without GSO_UDP_L4 (before 6.2) */
			write_single(run, first + i);
		else
			lose(run->entry, error);
	}
}

/* Consecutive segments of a flow become superframes, as far as they fit together. */
static void write_run(const struct run *run, int apart)
{
	struct train train = { 0 };
	size_t first = 0; /* of the train at hand */
	for (size_t i = 0; i * run->stride < run->total; i++) {
		struct layout at;
		size_t bytes;
		const uint8_t *frame = run_frame(run, i, &bytes);
		int fits = !apart && find_layout(frame, bytes, &at) && is_good(frame, &at);
		if (fits && train.segments && train_add(&train, frame, &at))
			continue;
		write_train(run, &train, first);
		train.segments = 0;
		first = i;
		if (fits)
			train_start(&train, frame, &at);
		else
			write_single(run, i);
	}
	write_train(run, &train, first);
}

/* tapWrite(batch, fd, list, entries): entries delivered. The argument says whether the 802.1Q tag is taken out on the
 * way, and whether the frames of a run are to stay apart. */
static napi_value tap_write(napi_env env, napi_callback_info info)
{
	ARGS(4);
	struct batch *batch = batch_of(env, argv[0]);
	int fd = arg_int(env, argv[1]), entries = arg_int(env, argv[3]), delivered = 0;
	size_t list_bytes;
	int32_t *list = arg_bytes(env, argv[2], &list_bytes);
	if (!batch || !list || (size_t)entries * 8 > list_bytes)
		return number(env, -EINVAL);
	for (int i = 0; i < entries; i++) {
		int32_t *entry = list + 2 * i, *d;
		uint8_t *frame = frame_at(batch, entry[0], &d);
		size_t strip = entry[1] & STRIP_TAG ? 4 : 0;
		int apart = entry[1] & APART, error = frame ? 0 : -EINVAL;
		entry[1] &= INT32_MAX; /* whatever it was, it is no error yet */
		if (frame && d[SEGMENT]) {
			struct run run = { fd, strip, frame, d[SEGMENT], d[LENGTH], d[RUN_END] - d[OFFSET], entry };
			write_run(&run, apart);
		} else if (frame) {
			struct virtio_net_hdr header = {
				.flags = d[FLAGS], .gso_type = d[GSO_TYPE], .hdr_len = d[HEADER_BYTES],
				.gso_size = d[GSO_SIZE], .csum_start = d[CSUM_START], .csum_offset = d[CSUM_OFFSET],
			};
			struct iovec vecs[3];
			error = write_vectors(fd, strip, &header, frame, (size_t)d[LENGTH], vecs, 3);
		}
		if (error)
			lose(entry, error);
		delivered += entry[1] >= 0;
	}
	return number(env, delivered);
}

/* ----------------------------------------------------------------------------------------------- UDP: receive */

/* addressSet(slot, address16, port): the destination that output lists name by this slot. */
static napi_value address_set(napi_env env, napi_callback_info info)
{
	ARGS(3);
	struct state *state = state_of(env);
	int slot = arg_int(env, argv[0]);
	size_t bytes;
	uint8_t *ip = arg_bytes(env, argv[1], &bytes);
	if (slot < 0 || slot >= 1 << 24 || !ip || bytes != 16)
		return number(env, -EINVAL);
	if (slot >= state->destination_count) {
		int count = slot < 512 ? 1024 : slot * 2;
		struct destination *grown = realloc(state->destinations, (size_t)count * sizeof *grown);
		if (!grown)
			return number(env, -ENOMEM);
		memset(grown + state->destination_count, 0, (size_t)(count - state->destination_count) * sizeof *grown);
		state->destinations = grown;
		state->destination_count = count;
	}
	state->destinations[slot].no_segmentation = 0;
	make_address(&state->destinations[slot].address, ip, arg_int(env, argv[2]));
	return number(env, 0);
}

/* Whether what is decided of one datagram holds for another: VXLAN, Ethernet, its tags, version and traffic class of IP
 * are the same. `bytes` are there of both. */
static int same_fate(const uint8_t *one, const uint8_t *other, size_t bytes)
{
	size_t ip = bytes > 8 ? find_ip(one + 8, bytes - 8) : 0;
	return ip && memcmp(one, other, 8 + ip + 2) == 0;
}

static void set_source(int32_t *d, const struct sockaddr_in6 *name, const struct msghdr *msg, int *segment)
{
	if (name->sin6_family == AF_INET) {
		const struct sockaddr_in *from = (const void *)name;
		d[ADDRESS] = d[ADDRESS + 1] = 0;
		d[ADDRESS + 2] = (int32_t)htonl(0xffff);
		memcpy(&d[ADDRESS + 3], &from->sin_addr, 4);
		d[PORT] = ntohs(from->sin_port);
	} else {
		memcpy(&d[ADDRESS], &name->sin6_addr, 16);
		d[PORT] = ntohs(name->sin6_port);
	}
	d[TOS] = 0;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR((struct msghdr *)msg, c)) {
		if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TOS)
			d[TOS] = *CMSG_DATA(c);
		else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_TCLASS)
			memcpy(&d[TOS], CMSG_DATA(c), sizeof(int));
		else if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO)
			memcpy(segment, CMSG_DATA(c), sizeof(int));
	}
}

/* Whether a message with a segment size is no run, but one inner superframe that was never cut: a kernel peer on this
 * machine sends such, and the size is the inner one. Its IP packet does not end within the first segment; cutting
 * there would make frames of its payload. -1 = it does not end there, and yet more VXLAN headers follow: the IP length
 * lies, to get at the next datagrams, or the payload does, to get into other networks. */
static int is_uncut(const uint8_t *datagram, size_t length, size_t segment)
{
	static const uint8_t vxlan[4] = { 0x08 };
	if (segment <= 8 || !ip_reaches_beyond(datagram + 8, length - 8, segment - 8))
		return 0;
	for (size_t at = segment; at + 8 <= length; at += segment)
		if (memcmp(datagram + at, vxlan, 4) == 0 && datagram[at + 7] == 0)
			return -1;
	return 1;
}

/* Descriptors for one message: one, or one a run of its segments. Returns how many. */
static int describe(struct batch *batch, int index, size_t offset, size_t length, int segment)
{
	int32_t *first = batch->words + (size_t)index * DESC_WORDS;
	const uint8_t *slab = batch->slab;
	size_t stride = segment > 0 && (size_t)segment < length ? (size_t)segment : length, end = offset + length;
	int count = 0, uncut = stride < length ? is_uncut(slab + offset, length, stride) : 0;
	memset(first, 0, ADDRESS * sizeof *first);
	if (uncut) {
		first[GSO_SIZE] = segment;
		stride = length = uncut < 0 ? 0 : length;
		end = offset + length;
	}
	for (size_t at = offset; (at < end || count == 0) && index + count < batch->descriptors; count++) {
		int32_t *d = first + count * DESC_WORDS;
		size_t start = at;
		if (count)
			memcpy(d, first, DESC_WORDS * sizeof *d);
		d[OFFSET] = (int32_t)start;
		d[LENGTH] = (int32_t)(end - start < stride ? end - start : stride);
		for (at += stride; at < end && same_fate(slab + start, slab + at, end - at < stride ? end - at : stride);)
			at += stride;
		d[RUN_END] = (int32_t)(at < end ? at : end);
		d[SEGMENT] = at - start > stride ? segment : 0;
	}
	return count;
}

/* udpReceive(batch, fd, maxMessages): descriptors filled. Each message has its own stride of the slab, behind 8
 * bytes that make the inner frame (8 bytes of VXLAN header in) 16-aligned. */
static napi_value udp_receive(napi_env env, napi_callback_info info)
{
	ARGS(3);
	struct batch *batch = batch_of(env, argv[0]);
	int fd = arg_int(env, argv[1]), max = arg_int(env, argv[2]), count = 0;
	if (!batch || max < 0)
		return number(env, -EINVAL);
	size_t stride = HEADROOM + MAX_FRAME;
	if ((size_t)max > batch->slab_bytes / stride)
		max = (int)(batch->slab_bytes / stride);
	if (max > batch->messages)
		max = batch->messages;
	for (int i = 0; i < max; i++) {
		batch->vecs[i] = (struct iovec){ batch->slab + stride * i + 8, MAX_FRAME };
		batch->msgs[i].msg_hdr = (struct msghdr){
			.msg_name = &batch->names[i], .msg_namelen = sizeof batch->names[i],
			.msg_iov = &batch->vecs[i], .msg_iovlen = 1,
			.msg_control = batch->controls[i], .msg_controllen = CONTROL_BYTES,
		};
	}
	int got = recvmmsg(fd, batch->msgs, (unsigned)max, MSG_DONTWAIT, NULL);
	if (got < 0)
		return number(env, errno == EAGAIN ? 0 : -errno);
	for (int i = 0; i < got && count < batch->descriptors; i++) {
		struct msghdr *msg = &batch->msgs[i].msg_hdr;
		size_t length = msg->msg_flags & MSG_TRUNC ? 0 : batch->msgs[i].msg_len;
		int segment = 0;
		set_source(batch->words + (size_t)count * DESC_WORDS, &batch->names[i], msg, &segment);
		count += describe(batch, count, stride * i + 8, length, segment);
	}
	return number(env, count);
}

/* -------------------------------------------------------------------------------------------------- UDP: send */

/* Finish a checksum that the sender left to the device: the field already holds the pseudo-header sum. */
static int complete_checksum(uint8_t *frame, int32_t *d)
{
	size_t start = (size_t)d[CSUM_START], field = start + (size_t)d[CSUM_OFFSET];
	if (d[CSUM_START] < 14 || d[CSUM_OFFSET] < 0 || field + 2 > (size_t)d[LENGTH])
		return -EINVAL;
	uint16_t sum = (uint16_t)~fold(sum_bytes(frame + start, (size_t)d[LENGTH] - start));
	if (sum == 0)
		sum = 0xffff; /* RFC 768: zero means "no checksum"; for TCP both forms are the same value */
	memcpy(frame + field, &sum, 2);
	d[FLAGS] &= ~NEEDS_CSUM;
	return 0;
}

static void put_control(struct msghdr *msg, uint8_t *control, int level, int type, const void *value, size_t bytes)
{
	struct cmsghdr *c = (void *)(control + msg->msg_controllen);
	msg->msg_control = control;
	msg->msg_controllen += CMSG_SPACE(bytes);
	c->cmsg_level = level;
	c->cmsg_type = type;
	c->cmsg_len = CMSG_LEN(bytes);
	memcpy(CMSG_DATA(c), value, bytes);
}

/* How long a full socket buffer may hold up the worker before frames are dropped with EAGAIN. */
#define SEND_WAIT_MS 10

/* Sends messages; the error of each that fails goes through `failed`. */
static void send_all(int fd, struct mmsghdr *msgs, int count, int *errors)
{
	memset(errors, 0, (size_t)count * sizeof *errors);
	for (int sent = 0, waited = 0; sent < count;) {
		int n = sendmmsg(fd, msgs + sent, (unsigned)(count - sent), MSG_DONTWAIT);
		if (n > 0) {
			sent += n;
		} else if (errno == EAGAIN && !waited) {
			waited = 1;
			poll(&(struct pollfd){ .fd = fd, .events = POLLOUT }, 1, SEND_WAIT_MS);
		} else {
			errors[sent++] = -errno;
		}
	}
}

static void make_message(struct gather *g, const struct message *m, struct mmsghdr *out, uint8_t *control,
			 struct destination *to, struct iovec *vecs, int first, int count)
{
	struct msghdr *msg = &out->msg_hdr;
	int v4 = to->address.sa.sa_family == AF_INET, vec_count = 0;
	for (int i = first; i < first + count; i++) {
		vecs[vec_count++] = g->segments[i].vecs[0];
		if (g->segments[i].vecs[1].iov_len)
			vecs[vec_count++] = g->segments[i].vecs[1];
	}
	*msg = (struct msghdr){
		.msg_name = &to->address,
		.msg_namelen = v4 ? sizeof to->address.v4 : sizeof to->address.v6,
		.msg_iov = vecs,
		.msg_iovlen = (size_t)vec_count,
	};
	if (m->tos)
		put_control(msg, control, v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_TOS : IPV6_TCLASS, &m->tos, sizeof m->tos);
	if (count > 1) {
		uint16_t bytes = (uint16_t)m->segment_bytes;
		put_control(msg, control, IPPROTO_UDP, UDP_SEGMENT, &bytes, sizeof bytes);
	}
}

/* A message that was refused whole goes segment by segment, so that nothing is lost to the offload itself. Where that
 * helps, the destination is offered no more of them. */
static void send_apart(int fd, struct state *state, const struct message *m, int32_t *list)
{
	struct gather *g = state->gather;
	struct destination *to = &state->destinations[m->slot];
	for (int i = m->first; i < m->first + m->count; i++) {
		struct mmsghdr out;
		struct iovec vecs[2];
		uint8_t control[CONTROL_BYTES] __attribute__((aligned(8)));
		int error;
		make_message(g, m, &out, control, to, vecs, i, 1);
		send_all(fd, &out, 1, &error);
		if (error)
			lose(list + 2 * g->segments[i].entry, error);
		else if (!to->no_segmentation)
			to->no_segmentation = 1, state->refused = REFUSED;
	}
}

static void send_gathered(int fd, struct state *state, int32_t *list)
{
	struct gather *g = state->gather;
	int errors[MAX_MESSAGES], vec = 0;
	for (int i = 0; i < g->message_count; i++) {
		struct message *m = &g->messages[i];
		make_message(g, m, &g->msgs[i], g->controls[i], &state->destinations[m->slot], g->vecs + vec, m->first, m->count);
		vec += (int)g->msgs[i].msg_hdr.msg_iovlen;
	}
	send_all(fd, g->msgs, g->message_count, errors);
	for (int i = 0; i < g->message_count; i++) {
		struct message *m = &g->messages[i];
		int error = errors[i];
		/* EIO: a device or a filter on the path cannot. EINVAL, EMSGSIZE: this socket or route cannot, or a segment
		 * is too long for the path. */
		if (m->count > 1 && (error == -EIO || error == -EINVAL || error == -EMSGSIZE))
			send_apart(fd, state, m, list);
		else if (error)
			for (int s = m->first; s < m->first + m->count; s++)
				lose(list + 2 * g->segments[s].entry, error);
	}
	g->segment_count = g->message_count = 0;
	g->header_bytes = 0;
}

/* Adds a segment to the message at hand, or to a new one where it does not fit in. There is room for both. */
static void gather_segment(struct gather *g, struct segment segment, int slot, int tos, int may_join)
{
	size_t bytes = segment.vecs[0].iov_len + segment.vecs[1].iov_len;
	struct message *m = g->message_count ? &g->messages[g->message_count - 1] : NULL;
	if (!m || !may_join || m->slot != slot || m->tos != tos || m->closed || m->count == MAX_RUN ||
	    bytes > m->segment_bytes || m->bytes + bytes > MAX_DATAGRAM) {
		m = &g->messages[g->message_count++];
		*m = (struct message){ .first = g->segment_count, .slot = slot, .tos = tos, .segment_bytes = bytes };
	}
	m->closed = bytes < m->segment_bytes;
	m->bytes += bytes;
	m->count++;
	g->segments[g->segment_count++] = segment;
}

static int has_room(const struct gather *g)
{
	return g->segment_count < MAX_SEGMENTS && g->message_count < MAX_MESSAGES &&
	       g->header_bytes + HEADROOM + MAX_HEADER_BYTES <= HEADER_ARENA;
}

/* udpSend(batch, fd, list, entries, headerBytes, segmentation): entries sent whole, each the frame with the
 * headerBytes that stand before it; superframes are cut, and each segment gets those bytes. With segmentation, what
 * follows each other with one size to one destination leaves as one message (UDP_SEGMENT). The argument of an entry
 * is the slot of its destination. A destination that the kernel refuses costs only its own datagrams. Returns entries
 * delivered, and REFUSED. */
static napi_value udp_send(napi_env env, napi_callback_info info)
{
	ARGS(6);
	struct state *state = state_of(env);
	struct gather *g = state->gather;
	struct batch *batch = batch_of(env, argv[0]);
	state->refused = 0;
	int fd = arg_int(env, argv[1]), entries = arg_int(env, argv[3]), delivered = 0;
	int prefix = arg_int(env, argv[4]), segmentation = arg_int(env, argv[5]);
	size_t list_bytes;
	int32_t *list = arg_bytes(env, argv[2], &list_bytes);
	if (!batch || !list || (size_t)entries * 8 > list_bytes || prefix < 0 || prefix > HEADROOM)
		return number(env, -EINVAL);
	for (int i = 0; i < entries; i++) {
		int32_t *entry = list + 2 * i, *d;
		uint8_t *frame = frame_at(batch, entry[0], &d);
		int slot = entry[1], error = 0;
		struct cutter cut;
		if (!frame || d[OFFSET] < prefix || d[SEGMENT] || slot < 0 || slot >= state->destination_count ||
		    !state->destinations[slot].address.sa.sa_family)
			error = -EINVAL;
		else if (d[GSO_TYPE])
			error = cut_start(&cut, frame, (size_t)d[LENGTH], d[GSO_TYPE], d[GSO_SIZE], d[CSUM_START]);
		else if (d[FLAGS] & NEEDS_CSUM)
			error = complete_checksum(frame, d);
		if (error) {
			entry[1] = error;
			continue;
		}
		int may_join = segmentation && !state->destinations[slot].no_segmentation;
		size_t count = d[GSO_TYPE] ? cut_count(&cut) : 1;
		for (size_t s = 0; s < count; s++) {
			if (!has_room(g))
				send_gathered(fd, state, list);
			struct segment segment = { .entry = i };
			if (d[GSO_TYPE]) {
				uint8_t *header = g->headers + g->header_bytes;
				const uint8_t *payload;
				size_t payload_bytes;
				memcpy(header, frame - prefix, (size_t)prefix);
				size_t bytes = (size_t)prefix + cut_next(&cut, header + prefix, &payload, &payload_bytes);
				g->header_bytes += bytes;
				segment.vecs[0] = (struct iovec){ header, bytes };
				segment.vecs[1] = (struct iovec){ (void *)payload, payload_bytes };
			} else {
				segment.vecs[0] = (struct iovec){ frame - prefix, (size_t)(d[LENGTH] + prefix) };
			}
			gather_segment(g, segment, slot, d[TOS], may_join);
		}
	}
	send_gathered(fd, state, list);
	for (int i = 0; i < entries; i++)
		delivered += list[2 * i + 1] >= 0;
	return number(env, delivered | state->refused);
}

void define_framed(napi_env env, napi_value exports)
{
	static const napi_property_descriptor framed[] = {
		EXPORT("batchCreate", batch_create), EXPORT("tapRead", tap_read),       EXPORT("tapWrite", tap_write),
		EXPORT("addressSet", address_set),   EXPORT("udpReceive", udp_receive), EXPORT("udpSend", udp_send),
	};
	struct state *state = calloc(1, sizeof *state);
	struct gather *gather = calloc(1, sizeof *gather);
	if (!state || !gather) {
		free(state);
		free(gather);
		return;
	}
	state->gather = gather;
	napi_set_instance_data(env, state, free_state, NULL);
	napi_define_properties(env, exports, sizeof framed / sizeof *framed, framed);
}
