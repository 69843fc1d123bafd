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
	d[HEADER_BYTES] = header.hdr_len;
	d[CSUM_START] = header.csum_start;
	d[CSUM_OFFSET] = header.csum_offset;
	d[TOS] = d[SEGMENT] = 0;
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
#define ENOUGH (1 << 20) /* bytes a call: more of a bulk transfer would only drive each other out of the cache */

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
 * device is empty, maxFrames or ENOUGH bytes are there, or less than a largest frame is left. */
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
	size_t bytes = 0;
	for (size_t offset = HEADROOM, end; count < max && bytes < ENOUGH && offset + MAX_FRAME <= batch->slab_bytes;
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
		end = offset + (size_t)got - sizeof(struct virtio_net_hdr);
		/* Small frames come in numbers. */
		while (end - offset <= SMALL_FRAME && count < max && ring_ready(ring)) {
			size_t first = next_offset(end);
			int room = (int)((batch->slab_bytes - first) / STRIDE), wanted = max - count < READS ? max - count : READS;
			if (wanted > room)
				wanted = room;
			if (wanted < 2)
				break;
			int taken = read_many(ring, batch, fd, count, wanted, first, &end);
			count += taken;
			if (taken < wanted)
				return number(env, count);
			offset = (size_t)batch->words[(count - 1) * DESC_WORDS + OFFSET];
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

void define_tap(napi_env env, napi_value exports)
{
	static const napi_property_descriptor tap[] = { EXPORT("tapRead", tap_read), EXPORT("tapWrite", tap_write) };
	napi_define_properties(env, exports, sizeof tap / sizeof *tap, tap);
}
