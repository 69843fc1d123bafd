/*
 * Reads and writes many frames of a TAP in one call, each with its virtio-net header. framed.h has the overview.
 */
#define _GNU_SOURCE
#include "framed.h"
#include "virtio-net.h"

#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

/* Returns the bytes of the virtio-net headers of a TAP, from an argument: any value but TUNNEL_HEADER is LEGACY_HEADER. */
static size_t header_size(napi_env env, napi_value value)
{
	return arg_int(env, value) == TUNNEL_HEADER ? TUNNEL_HEADER : LEGACY_HEADER;
}

/* ------------------------------------------------------------------------------------------------------- read */

/* Returns the bytes of a superframe before its TCP or UDP payload, from its own headers: the value in the virtio-net
 * header is only a hint, and in a tunnel Linux 6.17 has a wrong one. At most the length of the frame. */
static int32_t header_bytes(const struct virtio_net_hdr *header, const uint8_t *frame, size_t length)
{
	size_t l4 = header->csum_start, bytes = l4 + 8;
	if ((header->gso_type & ~(GSO_ECN | GSO_TUNNEL)) != GSO_UDP_L4)
		bytes = l4 + 20 <= length ? l4 + (size_t)(frame[l4 + 12] >> 4) * 4 : length;
	return (int32_t)(bytes < length ? bytes : length);
}

/* Fills the descriptor of a frame that was read. The frame is at `offset`, its virtio-net header of `size` bytes directly
 * before it; `got` is the bytes of both. */
static void describe(struct batch *batch, int index, size_t offset, size_t got, size_t size)
{
	struct virtio_net_hdr header = { 0 };
	memcpy(&header, batch->slab + offset - size, size);
	int32_t *d = batch->words + index * DESC_WORDS;
	d[OFFSET] = (int32_t)offset;
	d[LENGTH] = (int32_t)(got - size);
	d[FLAGS] = header.flags;
	d[GSO_TYPE] = header.gso_type;
	d[GSO_SIZE] = header.gso_size;
	d[HEADER_BYTES] = header.gso_type ? header_bytes(&header, batch->slab + offset, (size_t)d[LENGTH]) : header.hdr_len;
	d[CSUM_START] = header.csum_start;
	d[CSUM_OFFSET] = header.csum_offset;
	d[TOS] = d[SEGMENT] = 0;
	if (header.gso_type & GSO_TUNNEL)
		d[OUTER_L4] = header.outer_l4, d[INNER_L3] = header.inner_l3;
}

/* Returns the number of datagrams that a frame becomes, or one more. */
static size_t segments_of(const struct batch *batch, int index)
{
	const int32_t *d = batch->words + index * DESC_WORDS;
	return d[GSO_TYPE] && d[GSO_SIZE] ? (size_t)(d[LENGTH] - d[HEADER_BYTES]) / (size_t)d[GSO_SIZE] + 1 : 1;
}

/* Returns the offset for the next frame, when the last one ends at `end`: 16-aligned, with headroom before it. */
static size_t next_offset(size_t end)
{
	return (end + 15 + HEADROOM) & ~(size_t)15;
}

/* Distance between frames of unknown size. With a power of two, the first bytes of all frames would share a few cache
 * lines. */
#define STRIDE (HEADROOM + MAX_FRAME + 320)
#define SMALL_FRAME 4096 /* a system call costs as much as a copy of so many bytes: larger frames are read one by one */
#define READS 16         /* reads in one system call: its own cost is small beside 16 reads */
#define FEW 4            /* small frames that are first read one by one: mostly no more follow (ACKs of TCP) */
#define ENOUGH (1 << 20) /* bytes of one call: more would not stay in the cache */
#define MANY 1024        /* segments of one call: as many as a turn sends (port-turn.ts), so that few frames wait for the next */

/* Makes `count` reads in one system call, and fills descriptors from `index` on. Returns the number of frames; fewer than
 * `count` = the device is empty. `*end` becomes the end of the last frame. */
static int read_many(struct ring *ring, struct batch *batch, int fd, int index, int count, size_t offset, size_t *end,
		     size_t header)
{
	int results[READS], taken = 0;
	for (int i = 0; i < count; i++)
		ring_read(ring, fd, batch->slab + offset + i * STRIDE - header, MAX_FRAME + header);
	ring_submit(ring, results);
	for (int i = 0; i < count; i++) {
		size_t start = offset + i * STRIDE;
		if (results[i] < (int)header)
			continue;
		describe(batch, index + taken++, start, (size_t)results[i], header);
		*end = start + (size_t)results[i] - header;
	}
	return taken;
}

/* tapRead(batch, fd, maxFrames, headerBytes): reads frames and returns their number. Each starts 16-aligned behind HEADROOM
 * bytes. headerBytes: of the virtio-net header, 10 or 24. Stops when the device is empty, when maxFrames, ENOUGH or MANY are reached, or when the slab has no room for a
 * largest frame. */
static napi_value tap_read(napi_env env, napi_callback_info info)
{
	ARGS(4);
	struct batch *batch = batch_of(env, argv[0]);
	int fd = arg_int(env, argv[1]), max = arg_int(env, argv[2]), count = 0;
	size_t header = header_size(env, argv[3]);
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
		ssize_t got = read(fd, batch->slab + offset - header, MAX_FRAME + header);
		/* EFAULT: another program has made the header too small for the offloads, and the frame is lost. */
		if (got < 0 && count == 0 && errno != EAGAIN && errno != EFAULT)
			return number(env, -errno);
		if (got < 0)
			break;
		end = offset;
		if ((size_t)got < header)
			continue;
		describe(batch, count++, offset, (size_t)got, header);
		bytes += (size_t)got;
		segments += segments_of(batch, count - 1);
		end = offset + (size_t)got - header;
		small = end - offset <= SMALL_FRAME ? small + 1 : 0;
		while (small >= FEW && ring->state > 0 && count < max && bytes < ENOUGH && segments < MANY) {
			size_t first = next_offset(end);
			int room = (int)((batch->slab_bytes - first) / STRIDE), wanted = max - count < READS ? max - count : READS;
			if (wanted > room)
				wanted = room;
			if (wanted < 2)
				break;
			int taken = read_many(ring, batch, fd, count, wanted, first, &end, header);
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
enum { STRIP_TAG = 1, APART = 2, NESTED = 4 };

/* The state of one call of tapWrite. Segments that continue each other are held back, across the entries of the list.
 * When a frame does not continue them, they are written as one superframe. */
struct writer {
	int fd, apart, nested;
	int joined, refused; /* superframes that were written; REFUSED = the kernel did not take one */
	size_t strip, header; /* bytes of a tag to leave out, of a virtio-net header */
	struct train train;
	const uint8_t *frames[MAX_TRAIN];
	size_t bytes[MAX_TRAIN];
	int32_t *entries[MAX_TRAIN]; /* list entry of each segment, for its error */
};

/* Writes one frame to a TAP: the virtio-net header, the first `head_bytes` of the frame, and further vectors. This
 * function fills in vecs[0..2]. With a tag to strip, it leaves out the 4 bytes of the 802.1Q tag behind the two addresses,
 * and corrects the offsets in `header`, which count the tag. */
static int write_vectors(const struct writer *w, struct virtio_net_hdr *header, const uint8_t *head, size_t head_bytes,
			 struct iovec *vecs, int count)
{
	size_t strip = w->strip;
	if (head_bytes < 12 + strip)
		return -EINVAL;
	if (header->flags & NEEDS_CSUM)
		header->csum_start -= strip;
	if (header->gso_type)
		header->hdr_len -= strip;
	if (header->gso_type & GSO_TUNNEL)
		header->outer_l4 -= strip, header->inner_l3 -= strip;
	vecs[0] = (struct iovec){ header, w->header };
	vecs[1] = (struct iovec){ (void *)head, 12 };
	vecs[2] = (struct iovec){ (void *)(head + 12 + strip), head_bytes - 12 - strip };
	return writev(w->fd, vecs, count) < 0 ? -errno : 0;
}

/* Writes a frame unchanged. If its checksum was left to the device (by a kernel peer), the stack completes it. */
static void write_single(const struct writer *w, const uint8_t *frame, size_t bytes, const struct layout *at, int32_t *entry)
{
	struct virtio_net_hdr header = { 0 };
	struct iovec vecs[3];
	if (at && is_partial(frame, at)) {
		header.flags = NEEDS_CSUM;
		header.csum_start = at->l4, header.csum_offset = at->checksum;
	}
	int error = write_vectors(w, &header, frame, bytes, vecs, 3);
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
		.outer_l4 = at->outer_l4, .inner_l3 = at->l3,
	};
	if (at->outer_l4 && (head[at->outer_l4 + UDP_CHECKSUM] | head[at->outer_l4 + UDP_CHECKSUM + 1]))
		header.flags |= TUNNEL_CSUM;
	for (size_t i = 0; i < w->train.segments; i++)
		vecs[3 + i] = (struct iovec){ (void *)(w->frames[i] + at->payload), w->bytes[i] - at->payload };
	return write_vectors(w, &header, head, at->payload, vecs, 3 + (int)w->train.segments);
}

/* Writes the segments that are held back. */
static void write_held(struct writer *w)
{
	size_t count = w->train.segments;
	int error = count > 1 ? write_superframe(w) : -EINVAL;
	if (count > 1 && !error)
		w->joined++;
	else if (count > 1 && error == -EINVAL)
		w->refused = REFUSED;
	for (size_t i = 0; error && i < count; i++) {
		struct layout at;
		if (error != -EINVAL) {
			lose(w->entries[i], error);
		} else { /* a single segment, or a kernel without GSO_UDP_L4 (before 6.2) */
			int known = find_layout(w->frames[i], w->bytes[i], &at);
			write_single(w, w->frames[i], w->bytes[i], known ? &at : NULL, w->entries[i]);
		}
	}
	w->train.segments = 0;
}

/* Holds the frame back too if it continues the train, and returns whether it did. Checksums are verified only if all other
 * fields fit, so a frame that stays alone costs no pass over its payload. */
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
	struct layout at, inner;
	int known = find_layout(frame, bytes, &at);
	/* An acknowledgment in a tunnel is joined as any datagram. */
	int nested = known && w->nested && find_tunnel(frame, bytes, &at, &inner) && inner.payload_bytes > 0;
	const struct layout *joint = nested ? &inner : &at;
	int joined = known && joins(w, frame, joint);
	if (!joined) {
		write_held(w);
		if (known && !w->apart)
			train_start(&w->train, frame, joint);
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

/* Writes a frame that was read from another TAP, with its virtio-net header. Into a TAP with a small header a tunnel
 * superframe goes in segments. */
static int write_described(const struct writer *w, const uint8_t *frame, const int32_t *d)
{
	struct virtio_net_hdr header = {
		.flags = d[FLAGS], .gso_type = d[GSO_TYPE], .hdr_len = d[HEADER_BYTES],
		.gso_size = d[GSO_SIZE], .csum_start = d[CSUM_START], .csum_offset = d[CSUM_OFFSET],
	};
	struct iovec vecs[4];
	int is_tunnel = d[GSO_TYPE] & GSO_TUNNEL;
	if (is_tunnel)
		header.outer_l4 = d[OUTER_L4], header.inner_l3 = d[INNER_L3];
	if (!is_tunnel || w->header == TUNNEL_HEADER)
		return write_vectors(w, &header, frame, (size_t)d[LENGTH], vecs, 3);
	struct cutter cut;
	if (start_cut(&cut, frame, d) < 0)
		return -EINVAL;
	for (size_t count = cut_count(&cut); count > 0; count--) {
		uint8_t head[MAX_HEADER_BYTES];
		const uint8_t *payload;
		size_t bytes, head_bytes = cut_next(&cut, head, &payload, &bytes);
		memset(&header, 0, sizeof header);
		vecs[3] = (struct iovec){ (void *)payload, bytes };
		int error = write_vectors(w, &header, head, head_bytes, vecs, 4);
		if (error)
			return error;
	}
	return 0;
}

/* tapWrite(batch, fd, list, entries, headerBytes): writes the frames of a list and returns the number of entries
 * delivered, with the number of superframes that were put together and the bit REFUSED (delivery). The argument of an entry has three bits: STRIP_TAG = leave out the 802.1Q tag, APART = do not join the frame
 * with others, NESTED = join it as a frame in a UDP tunnel, which the receiving stack ends. headerBytes as for tapRead. */
static napi_value tap_write(napi_env env, napi_callback_info info)
{
	ARGS(5);
	struct batch *batch = batch_of(env, argv[0]);
	int entries = arg_int(env, argv[3]), delivered = 0;
	struct writer w; /* the arrays, 1.5 KiB, are not cleared: they are set as they are used */
	w.fd = arg_int(env, argv[1]), w.header = header_size(env, argv[4]);
	w.strip = 0, w.apart = 0, w.joined = 0, w.refused = 0, w.train.segments = 0;
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
		w.strip = strip, w.apart = apart, w.nested = w.header == TUNNEL_HEADER && entry[1] & NESTED;
		entry[1] &= INT32_MAX; /* an argument without an error is not negative */
		if (!frame) {
			lose(entry, -EINVAL);
		} else if (d[FLAGS] || d[GSO_TYPE]) {
			write_held(&w);
			int error = write_described(&w, frame, d);
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
	return number(env, delivery(delivered, w.joined, w.refused));
}

void define_tap(napi_env env, napi_value exports)
{
	static const napi_property_descriptor tap[] = { EXPORT("tapRead", tap_read), EXPORT("tapWrite", tap_write) };
	napi_define_properties(env, exports, sizeof tap / sizeof *tap, tap);
}
