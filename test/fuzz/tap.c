/* Frames from and to a TAP (src/dgram-extra/tap.c), whose stack sends what it likes and refuses what it likes. native.h says how
 * it is built (npm run fuzz -- tap).
 *
 * The input is the choices by which frames, their descriptors and the answers of the kernel are made. What is read has a
 * descriptor, in order, aligned, and no two in one place. Every byte that is written is read; each frame is written once, alone
 * or in a superframe that says so, or counted as lost to its entry. */
#include "batch.h"

#include <sys/uio.h>
#include <unistd.h>

static ssize_t read_frame(int fd, void *to, size_t bytes);
static ssize_t write_frame_vectors(int fd, const struct iovec *vecs, int count);

#define read read_frame
#define writev write_frame_vectors
#include "../../src/dgram-extra/tap.c"
#undef read
#undef writev

enum { OWN_GSO = 13, MOST_FRAMES = 256, ENTRIES = 40 };

/* Bytes of the virtio-net header of this TAP. */
static size_t tap_header;

WITHOUT(ring)
WITHOUT(receive)
WITHOUT(send)
WITHOUT(tunnel_send)
WITHOUT(errors)

struct sending *sending_create(void)
{
	return NULL;
}

void sending_free(struct sending *sending)
{
	(void)sending;
}

/* ------------------------------------------------------------------------------------------------------- read */

static struct {
	uint8_t *at;
	size_t bytes;
	uint8_t mark;
} handed[MOST_FRAMES];
static int handed_count, left_over, reads_fail;
static struct {
	void *to;
	size_t bytes;
} queued[READS];
static int queued_count;

/* What a read gives: a frame, less than its header, or an error. */
static ssize_t give(void *to, size_t bytes)
{
	uint8_t *start = to;
	if (start < batch->slab || bytes != MAX_FRAME + tap_header || start + bytes > batch->slab + batch->slab_bytes)
		fail("no room for a frame");
	if (left_over == 0 || handed_count == MOST_FRAMES)
		return -(reads_fail ? EBADFD : EAGAIN);
	left_over--;
	size_t got = roll(40) == 0 ? roll((uint32_t)tap_header) : tap_header + (roll(30) ? roll(200) : roll(8) ? roll(9000) : MAX_FRAME);
	memset(start, handed_count, got);
	if (got >= tap_header) {
		struct virtio_net_hdr header = { .gso_type = roll(4) ? 0 : (uint8_t)roll(256), .gso_size = (uint16_t)roll(3000) };
		memcpy(start, &header, tap_header);
		handed[handed_count].at = start + tap_header, handed[handed_count].bytes = got - tap_header;
		handed[handed_count].mark = (uint8_t)handed_count;
		handed_count++;
	}
	return (ssize_t)got;
}

static ssize_t read_frame(int fd, void *to, size_t bytes)
{
	ssize_t got = fd == 7 ? give(to, bytes) : -EBADF;
	return got < 0 ? errno = (int)-got, -1 : got;
}

void ring_leave(struct ring *ring)
{
	(void)ring;
}

void ring_read(struct ring *ring, int fd, void *to, size_t bytes)
{
	(void)ring;
	if (fd != 7 || queued_count == READS)
		fail("more reads than there is room for");
	queued[queued_count].to = to, queued[queued_count++].bytes = bytes;
}

/* The kernel may take fewer than are in line, and have them fail in between. */
void ring_submit(struct ring *ring, int *results)
{
	int taken = roll(10) ? queued_count : (int)roll((uint32_t)queued_count + 1);
	for (int i = 0; i < queued_count; i++)
		results[i] = i < taken && (i == 0 || results[i - 1] != -EAGAIN || roll(10) == 0) ?
				     (int)give(queued[i].to, queued[i].bytes) :
				     -EAGAIN;
	queued_count = 0;
	if (roll(30) == 0)
		ring->state = -1;
}

static void read_some(void)
{
	int descriptors = 1 + (int)roll(40), max = (int)roll(60) - 1;
	open_batch((size_t)(1 + roll(roll(8) ? 6 : 20)) * (STRIDE + roll(2)), descriptors);
	handed_count = 0, left_over = (int)roll(roll(2) ? 6 : 80), reads_fail = roll(10) == 0;
	state_of(NULL)->ring.state = roll(4) != 0;
	arguments[0].number = roll(50) == 0, arguments[1].number = 7, arguments[2].number = max;
	arguments[3].number = (int32_t)tap_header;
	int32_t count = call(tap_read);
	if (arguments[0].number || (count < 0 && reads_fail && handed_count == 0)) {
		if (count != (arguments[0].number ? -EINVAL : -EBADFD))
			fail("another error");
	} else if (count != handed_count || count > descriptors || (max >= 0 && count > max)) {
		fail("more or fewer than were read");
	}
	const uint8_t *end = batch->slab;
	for (int i = 0; i < count; i++) {
		const int32_t *d = batch->words + i * DESC_WORDS;
		const uint8_t *frame = batch->slab + d[OFFSET];
		if (frame != handed[i].at || (size_t)d[LENGTH] != handed[i].bytes || d[OFFSET] % 16 || frame < end + HEADROOM)
			fail("another frame, or over one");
		for (size_t at = 0; at < handed[i].bytes; at += 1 + handed[i].bytes / 8)
			if (frame[at] != handed[i].mark)
				fail("a frame was written over");
		end = frame + d[LENGTH];
	}
	close_batch();
}

/* ------------------------------------------------------------------------------------------------------ write */

static size_t accepted;
static int refuses;
static uint8_t copy[65536 + TUNNEL_HEADER];

static ssize_t write_frame_vectors(int fd, const struct iovec *vecs, int count)
{
	static const int errors[] = { EINVAL, EIO, EAGAIN, ENOBUFS };
	struct virtio_net_hdr header = { 0 };
	size_t bytes = 0;
	if (fd != 7 || count < 2 || count > 3 + MAX_TRAIN)
		fail("not what was to be written");
	for (int i = 0; i < count; i++) {
		if (vecs[i].iov_len > sizeof copy - bytes)
			fail("larger than a frame");
		memcpy(copy + bytes, vecs[i].iov_base, vecs[i].iov_len);
		bytes += vecs[i].iov_len;
	}
	if (vecs[0].iov_len != tap_header || bytes < tap_header + 12)
		fail("no header, or no addresses");
	memcpy(&header, copy, tap_header);
	if (refuses && roll(2))
		return errno = errors[roll(4)], -1;
	size_t frames = 1;
	if (header.gso_type && header.gso_type != OWN_GSO) {
		size_t payload = bytes - tap_header - header.hdr_len;
		if (header.hdr_len >= bytes - tap_header || !header.gso_size || !(header.flags & NEEDS_CSUM) ||
		    header.csum_start + header.csum_offset + 2u > header.hdr_len)
			fail("a superframe that nobody can cut");
		frames = (payload + header.gso_size - 1) / header.gso_size;
		if (frames < 2 || frames > MAX_TRAIN || bytes - tap_header > 65535 + 40)
			fail("a superframe of too few or too many");
	}
	accepted += frames;
	return (ssize_t)bytes;
}

/* Frames that an entry is. */
static size_t frames_due(int32_t index)
{
	int32_t *d;
	if (!frame_at(batch, index, &d) || d[FLAGS] || d[GSO_TYPE] || !d[SEGMENT])
		return 1;
	return (size_t)(d[RUN_END] - d[OFFSET] + d[SEGMENT] - 1) / (size_t)d[SEGMENT];
}

/* Frames, runs of frames that follow each other, and what has an offload of its own. */
static void make_batch(void)
{
	int count = 1 + (int)roll(8);
	size_t at = HEADROOM, end = 0, room = roll(6) ? 1200 : 7000;
	open_batch(HEADROOM + (size_t)count * room, count);
	for (int i = 0; i < count; i++) {
		int32_t *d = batch->words + i * DESC_WORDS;
		int l4, is_udp = (int)roll(4) == 0, runs = (int)roll(2), is_nested = roll(4) == 0, has_checksum = roll(8) == 0;
		size_t payload = roll(100), next = at;
		uint32_t frames = runs ? 2 + roll(roll(4) ? 6 : 70) : 1;
		for (uint32_t f = 0; f < frames && next + 300 < at + room; f++) {
			size_t bytes = make_frame(batch->slab + next, payload, is_udp, f > 0 || roll(2), &l4);
			struct layout layout;
			uint8_t *frame = batch->slab + next, *field = frame + l4 + (is_udp ? 6 : 16);
			if (find_layout(frame, bytes, &layout)) { /* left to the device, so it may be believed */
				uint8_t *ip = frame + layout.l3;
				if (layout.is_v4) {
					uint16_t sum = (uint16_t)~fold(sum_bytes(ip, 20));
					memcpy(ip + 10, &sum, 2);
				}
				size_t behind = bytes - (size_t)l4;
				uint64_t sum = layout.is_v4 ? sum_bytes(ip + 12, 8) : sum_bytes(ip + 8, 32);
				uint16_t pseudo = fold(sum + htons(layout.protocol) + htons((uint16_t)behind));
				memcpy(field, &pseudo, 2);
			}
			if (is_nested)
				bytes = wrap_frame(frame, bytes, f, has_checksum);
			if (roll(12) == 0)
				frame[roll((uint32_t)bytes)] ^= (uint8_t)roll(256);
			if (!d[LENGTH])
				d[OFFSET] = (int32_t)at, d[LENGTH] = (int32_t)bytes;
			end = next += bytes;
			if (bytes != (size_t)d[LENGTH])
				break;
		}
		if (runs)
			d[SEGMENT] = d[LENGTH], d[RUN_END] = (int32_t)(next - roll(roll(4) ? 1 : (uint32_t)d[LENGTH]));
		else if (roll(6) == 0)
			d[FLAGS] = (int32_t)roll(4), d[GSO_TYPE] = roll(2) ? OWN_GSO : 0, d[CSUM_START] = l4;
		if (d[RUN_END] && d[RUN_END] < d[OFFSET] + d[LENGTH])
			d[RUN_END] = d[OFFSET] + d[LENGTH];
		if (roll(16) == 0) {
			static const uint8_t which[] = { OFFSET, LENGTH, SEGMENT, RUN_END, GSO_SIZE, HEADER_BYTES, CSUM_START, CSUM_OFFSET };
			d[which[roll(8)]] = (int32_t)(roll(2) ? word() : word() << 16 | word());
		}
		at += room;
	}
	cut_batch(end);
}

static void write_some(void)
{
	int entries, delivered = 0;
	size_t due = 0, lost = 0;
	make_batch();
	entries = 1 + (int)roll(ENTRIES);
	int32_t *list = malloc((size_t)entries * 8);
	for (int i = 0; i < entries; i++) {
		list[2 * i] = (int32_t)roll((uint32_t)batch->descriptors + 1) - (roll(20) == 0);
		list[2 * i + 1] = (int32_t)(roll(3) ? NESTED : roll(40) ? roll(8) : word() << 16);
		due += frames_due(list[2 * i]);
	}
	arguments[0].number = 0, arguments[1].number = 7, arguments[3].number = entries;
	arguments[2].bytes = list, arguments[2].length = (size_t)entries * 8, arguments[4].number = (int32_t)tap_header;
	accepted = 0, refuses = roll(3) == 0;
	int32_t result = call(tap_write);
	for (int i = 0; i < entries; i++) {
		int32_t value = list[2 * i + 1];
		lost += value < 0 ? 1 + (size_t)((-(int64_t)value - 1) / 65536) : 0;
		delivered += value >= 0;
	}
	if ((result & ((1 << JOINED_SHIFT) - 1)) != delivered)
		fail("not as many as were delivered");
	if (accepted + lost != due)
		fail("neither written nor lost, or both");
	free(list);
	close_batch();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	start(data, size);
	tap_header = roll(2) ? TUNNEL_HEADER : LEGACY_HEADER;
	if (roll(4) == 0)
		read_some();
	else
		write_some();
	return 0;
}
