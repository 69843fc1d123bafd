/*
 * TAP devices: whole Ethernet frames with their virtio-net header, many a call. framed.h has the story.
 */
#define _GNU_SOURCE
#include "framed.h"
#include "offload.h"

#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

struct virtio_net_hdr { /* virtio 1.2, 5.1.6, legacy form without num_buffers */
	uint8_t flags, gso_type;
	uint16_t hdr_len, gso_size, csum_start, csum_offset;
};

/* ------------------------------------------------------------------------------------------------------- read */

/* From the first byte of a superframe to its TCP or UDP payload, as its own headers say; what the device says is a hint. Its
 * length where they reach beyond it. */
static int32_t header_bytes(const struct virtio_net_hdr *header, const uint8_t *frame, size_t length)
{
	size_t l4 = header->csum_start, bytes = l4 + 8;
	if ((header->gso_type & ~GSO_ECN) != GSO_UDP_L4)
		bytes = l4 + 20 <= length ? l4 + (size_t)(frame[l4 + 12] >> 4) * 4 : length;
	return (int32_t)(bytes < length ? bytes : length);
}

/* A frame of `got` bytes, virtio-net header included, was read to HEADROOM bytes behind `offset` less that header. */
static void describe(struct batch *batch, int index, size_t offset, size_t got)
{
	struct virtio_net_hdr header;
	memcpy(&header, batch->slab + offset - sizeof header, sizeof header);
	int32_t *d = batch->words + index * DESC_WORDS;
	d[OFFSET] = (int32_t)offset;
	d[LENGTH] = (int32_t)(got - sizeof header);
	d[FLAGS] = header.flags;
	d[GSO_TYPE] = header.gso_type;
	d[GSO_SIZE] = header.gso_size;
	d[HEADER_BYTES] = header.gso_type ? header_bytes(&header, batch->slab + offset, (size_t)d[LENGTH]) : header.hdr_len;
	d[CSUM_START] = header.csum_start;
	d[CSUM_OFFSET] = header.csum_offset;
	d[TOS] = d[SEGMENT] = 0;
}

/* Datagrams that a frame will be, or one more. */
static size_t segments_of(const struct batch *batch, int index)
{
	const int32_t *d = batch->words + index * DESC_WORDS;
	return d[GSO_TYPE] && d[GSO_SIZE] ? (size_t)(d[LENGTH] - d[HEADER_BYTES]) / (size_t)d[GSO_SIZE] + 1 : 1;
}

/* Where the next frame may start, behind one that ends at `end`: 16-aligned, with its headroom. */
static size_t next_offset(size_t end)
{
	return (end + 15 + HEADROOM) & ~(size_t)15;
}

/* From one frame to the next where their sizes are not known yet. Not a power of two, or the first bytes of all of
 * them would meet in a few lines of the cache. */
#define STRIDE (HEADROOM + MAX_FRAME + 320)
#define SMALL_FRAME 4096 /* a call costs as much as a copy of this many bytes: larger ones are read one by one */
#define READS 16         /* a system call: the cost of one becomes small beside that of 16 reads */
#define FEW 4            /* small frames that are read one by one first: more often than not there are no more (TCP's ACKs) */
#define ENOUGH (1 << 20) /* bytes a call: more would drive each other out of the cache */
#define MANY 1024        /* segments a call: as many as a turn sends (port-turn.ts), so that few frames wait for the next */

/* Many reads, one system call. Returns how many of `count` gave a frame, which are described from `index` on; fewer
 * than `count`: the device is empty. `*end` becomes the end of the last. */
static int read_many(struct ring *ring, struct batch *batch, int fd, int index, int count, size_t offset, size_t *end)
{
	int results[READS], taken = 0;
	for (int i = 0; i < count; i++)
		ring_read(ring, fd, batch->slab + offset + i * STRIDE - sizeof(struct virtio_net_hdr),
			  MAX_FRAME + sizeof(struct virtio_net_hdr));
	ring_submit(ring, results);
	for (int i = 0; i < count; i++) {
		size_t start = offset + i * STRIDE;
		if (results[i] < (int)sizeof(struct virtio_net_hdr))
			continue;
		describe(batch, index + taken++, start, (size_t)results[i]);
		*end = start + (size_t)results[i] - sizeof(struct virtio_net_hdr);
	}
	return taken;
}

/* tapRead(batch, fd, maxFrames): frames read, each starting 16-aligned behind HEADROOM bytes. Reading stops when the
 * device is empty, maxFrames, ENOUGH or MANY are there, or less than a largest frame is left. */
static napi_value tap_read(napi_env env, napi_callback_info info)
{
	ARGS(3);
	struct batch *batch = batch_of(env, argv[0]);
	int fd = arg_int(env, argv[1]), max = arg_int(env, argv[2]), count = 0;
	if (!batch)
		return number(env, -EINVAL);
	struct ring *ring = &state_of(env)->ring;
	if (max > batch->descriptors)
		max = batch->descriptors;
	size_t bytes = 0, segments = 0;
	int small = 0;
	for (size_t offset = HEADROOM, end;
	     count < max && bytes < ENOUGH && segments < MANY && offset + MAX_FRAME <= batch->slab_bytes;
	     offset = next_offset(end)) {
		ssize_t got = read(fd, batch->slab + offset - sizeof(struct virtio_net_hdr), MAX_FRAME + sizeof(struct virtio_net_hdr));
		if (got < 0 && count == 0 && errno != EAGAIN)
			return number(env, -errno);
		if (got < 0)
			break;
		end = offset;
		if ((size_t)got < sizeof(struct virtio_net_hdr))
			continue;
		describe(batch, count++, offset, (size_t)got);
		bytes += (size_t)got;
		segments += segments_of(batch, count - 1);
		end = offset + (size_t)got - sizeof(struct virtio_net_hdr);
		small = end - offset <= SMALL_FRAME ? small + 1 : 0;
		while (small >= FEW && ring->state > 0 && count < max && bytes < ENOUGH && segments < MANY) {
			size_t first = next_offset(end);
			int room = (int)((batch->slab_bytes - first) / STRIDE), wanted = max - count < READS ? max - count : READS;
			if (wanted > room)
				wanted = room;
			if (wanted < 2)
				break;
			int taken = read_many(ring, batch, fd, count, wanted, first, &end);
			for (int i = count; i < count + taken; i++)
				bytes += (size_t)batch->words[i * DESC_WORDS + LENGTH], segments += segments_of(batch, i);
			count += taken;
			if (taken < wanted)
				return number(env, count);
			if (end - (size_t)batch->words[(count - 1) * DESC_WORDS + OFFSET] > SMALL_FRAME)
				small = 0;
		}
	}
	return number(env, count);
}

/* ------------------------------------------------------------------------------------------------------ write */

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

/* What one call writes. Segments that continue each other are held back, across the entries of the list, until a frame
 * comes that does not: then they are one superframe. */
struct writer {
	int fd, apart;
	size_t strip;
	struct train train;
	const uint8_t *frames[MAX_TRAIN];
	size_t bytes[MAX_TRAIN];
	int32_t *entries[MAX_TRAIN]; /* which answer for them */
};

/* A frame as it is. A checksum left to the device (a kernel peer's) is for the stack to complete. */
static void write_single(const struct writer *w, const uint8_t *frame, size_t bytes, const struct layout *at, int32_t *entry)
{
	struct virtio_net_hdr header = { 0 };
	struct iovec vecs[3];
	if (at && is_partial(frame, at)) {
		header.flags = NEEDS_CSUM;
		header.csum_start = at->l4, header.csum_offset = at->checksum;
	}
	int error = write_vectors(w->fd, w->strip, &header, frame, bytes, vecs, 3);
	if (error)
		lose(entry, error);
}

static int write_superframe(const struct writer *w)
{
	uint8_t head[MAX_HEADER_BYTES];
	struct iovec vecs[3 + MAX_TRAIN];
	const struct layout *at = &w->train.at;
	struct virtio_net_hdr header = {
		.flags = NEEDS_CSUM, .gso_type = train_header(&w->train, head), .hdr_len = at->payload,
		.gso_size = at->payload_bytes, .csum_start = at->l4, .csum_offset = at->checksum,
	};
	for (size_t i = 0; i < w->train.segments; i++)
		vecs[3 + i] = (struct iovec){ (void *)(w->frames[i] + at->payload), w->bytes[i] - at->payload };
	return write_vectors(w->fd, w->strip, &header, head, at->payload, vecs, 3 + (int)w->train.segments);
}

/* Writes what is held back. */
static void write_held(struct writer *w)
{
	size_t count = w->train.segments;
	int error = count > 1 ? write_superframe(w) : -EINVAL;
	for (size_t i = 0; error && i < count; i++) {
		struct layout at;
		if (error != -EINVAL) {
			lose(w->entries[i], error);
		} else { /* one alone, or a kernel without GSO_UDP_L4 (before 6.2) */
			int known = find_layout(w->frames[i], w->bytes[i], &at);
			write_single(w, w->frames[i], w->bytes[i], known ? &at : NULL, w->entries[i]);
		}
	}
	w->train.segments = 0;
}

/* Whether the frame continues what is held back, and is held back too. Checksums are looked at only where all else
 * fits, so that frames which stand alone cost no pass over their payload. */
static int joins(struct writer *w, const uint8_t *frame, const struct layout *at)
{
	struct train before = w->train;
	if (!before.segments || !train_add(&w->train, frame, at))
		return 0;
	if ((before.segments > 1 || is_good(before.head, &before.at)) && is_good(frame, at))
		return 1;
	w->train = before;
	return 0;
}

static void write_frame(struct writer *w, const uint8_t *frame, size_t bytes, int32_t *entry)
{
	struct layout at;
	int known = find_layout(frame, bytes, &at);
	int joined = known && joins(w, frame, &at);
	if (!joined) {
		write_held(w);
		if (known && !w->apart)
			train_start(&w->train, frame, &at);
		if (!w->train.segments || w->train.closed) {
			w->train.segments = 0;
			write_single(w, frame, bytes, known ? &at : NULL, entry);
			return;
		}
	}
	size_t index = w->train.segments - 1;
	w->frames[index] = frame;
	w->bytes[index] = bytes;
	w->entries[index] = entry;
}

/* tapWrite(batch, fd, list, entries): entries delivered. The argument says whether the 802.1Q tag is taken out on the
 * way, and whether frames are to stay apart that would go together. */
static napi_value tap_write(napi_env env, napi_callback_info info)
{
	ARGS(4);
	struct batch *batch = batch_of(env, argv[0]);
	int entries = arg_int(env, argv[3]), delivered = 0;
	struct writer w; /* its arrays, 1.5 KiB, are set as they are used */
	w.fd = arg_int(env, argv[1]), w.strip = 0, w.apart = 0, w.train.segments = 0;
	size_t list_bytes;
	int32_t *list = arg_bytes(env, argv[2], &list_bytes);
	if (!batch || !list || (size_t)entries * 8 > list_bytes)
		return number(env, -EINVAL);
	for (int i = 0; i < entries; i++) {
		int32_t *entry = list + 2 * i, *d;
		uint8_t *frame = frame_at(batch, entry[0], &d);
		size_t strip = entry[1] & STRIP_TAG ? 4 : 0;
		int apart = entry[1] & APART;
		if (strip != w.strip || apart != w.apart)
			write_held(&w);
		w.strip = strip, w.apart = apart;
		entry[1] &= INT32_MAX; /* whatever it was, it is no error yet */
		if (!frame) {
			lose(entry, -EINVAL);
		} else if (d[FLAGS] || d[GSO_TYPE]) {
			write_held(&w);
			struct virtio_net_hdr header = {
				.flags = d[FLAGS], .gso_type = d[GSO_TYPE], .hdr_len = d[HEADER_BYTES],
				.gso_size = d[GSO_SIZE], .csum_start = d[CSUM_START], .csum_offset = d[CSUM_OFFSET],
			};
			struct iovec vecs[3];
			int error = write_vectors(w.fd, strip, &header, frame, (size_t)d[LENGTH], vecs, 3);
			if (error)
				lose(entry, error);
		} else {
			size_t stride = d[SEGMENT] ? (size_t)d[SEGMENT] : (size_t)d[LENGTH];
			const uint8_t *end = d[SEGMENT] ? batch->slab + d[RUN_END] : frame + d[LENGTH];
			for (const uint8_t *at = frame; at < end; at += stride)
				write_frame(&w, at, end - at < d[LENGTH] ? (size_t)(end - at) : (size_t)d[LENGTH], entry);
		}
	}
	write_held(&w);
	for (int i = 0; i < entries; i++)
		delivered += list[2 * i + 1] >= 0;
	return number(env, delivered);
}

void define_tap(napi_env env, napi_value exports)
{
	static const napi_property_descriptor tap[] = { EXPORT("tapRead", tap_read), EXPORT("tapWrite", tap_write) };
	napi_define_properties(env, exports, sizeof tap / sizeof *tap, tap);
}
