/*
 * dgram-extra: what Node's dgram cannot do. TAP devices, UDP sockets with the options RFC 7348 needs,
 * batched framed I/O between descriptors and one slab of memory, epoll, netlink, peer credentials, sd_notify.
 *
 * Conventions
 *   - Every function returns a number: >= 0 a result, < 0 a negated errno. The typed face (index.ts) turns the
 *     latter into errors with name, call and device; the hot path reads it as it is. Nothing here throws.
 *   - A batch is a slab of bytes plus one descriptor of DESC_WORDS 32-bit words a frame (../wire/descriptor.ts
 *     has the same layout); both are seen from JavaScript as external ArrayBuffers, so no call copies payload.
 *   - An output list names frames of a batch, two words an entry: frame index, argument. On return the argument
 *     of an entry that could not be delivered holds the negated errno.
 *   - The native part knows descriptors and bytes. What goes where is decided in TypeScript.
 */
#define _GNU_SOURCE
#include "dgram_extra.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

/* ------------------------------------------------------------------------------------------------ arguments */

int32_t arg_int(napi_env env, napi_value value)
{
	int32_t n = 0;
	napi_get_value_int32(env, value, &n);
	return n;
}

void *arg_bytes(napi_env env, napi_value value, size_t *bytes)
{
	void *data = NULL;
	napi_typedarray_type type;
	size_t length = 0;
	*bytes = 0;
	if (napi_get_typedarray_info(env, value, &type, &length, &data, NULL, NULL) != napi_ok)
		return NULL;
	*bytes = type == napi_uint8_array ? length : length * 4;
	return data;
}

void arg_text(napi_env env, napi_value value, char *text, size_t size)
{
	size_t length = 0;
	text[0] = 0;
	napi_get_value_string_utf8(env, value, text, size, &length);
}

napi_value number(napi_env env, int32_t n)
{
	napi_value value;
	napi_create_int32(env, n, &value);
	return value;
}

/* -------------------------------------------------------------------------------------------------- batches */

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
	DESC_WORDS = 16,
};
enum { NEEDS_CSUM = 1 };

#define HEADROOM 16      /* before each frame: the 10-byte virtio-net header, then reused for VXLAN and a VLAN tag */
#define MAX_FRAME 65536  /* a TAP hands over at most 64 KiB, so that much must be free before a read */
#define MAX_FRAMES 1024  /* the kernel's own bound for one recvmmsg or sendmmsg (UIO_MAXIOV) */
#define MAX_BATCHES 16   /* two directions a worker, and room for tests */
#define CONTROL_BYTES 64 /* CMSG_SPACE of what is asked for: traffic class and UDP_GRO */

struct virtio_net_hdr { /* virtio 1.2, 5.1.6, legacy form without num_buffers */
	uint8_t flags, gso_type;
	uint16_t hdr_len, gso_size, csum_start, csum_offset;
};

struct batch {
	uint8_t *slab;
	size_t slab_bytes;
	int32_t *words;
	int frames;
	struct mmsghdr *msgs;
	struct iovec *vecs;
	struct sockaddr_in6 *names;
	uint8_t (*controls)[CONTROL_BYTES];
};

/* One a thread that loads the addon: batches and the destination addresses that output lists name by slot. */
struct state {
	struct batch batches[MAX_BATCHES];
	union address *addresses;
	int address_count;
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
	free(state->addresses);
	free(state);
}

/* batchCreate(frames, slabBytes, views): index; views.slab and views.words become external ArrayBuffers.
 * The memory lives until the thread's environment ends, so the views never dangle. */
static napi_value batch_create(napi_env env, napi_callback_info info)
{
	ARGS(3);
	int frames = arg_int(env, argv[0]);
	size_t slab_bytes = (size_t)arg_int(env, argv[1]);
	struct state *state = state_of(env);
	int index = 0;
	while (index < MAX_BATCHES && state->batches[index].slab)
		index++;
	if (index == MAX_BATCHES || frames < 1 || frames > MAX_FRAMES || slab_bytes < HEADROOM + MAX_FRAME)
		return number(env, -EINVAL);
	struct batch *batch = &state->batches[index];
	void *slab = mmap(NULL, slab_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	batch->slab = slab == MAP_FAILED ? NULL : slab;
	batch->slab_bytes = slab_bytes;
	batch->frames = frames;
	batch->words = calloc(frames, DESC_WORDS * sizeof(int32_t));
	batch->msgs = calloc(frames, sizeof *batch->msgs);
	batch->vecs = calloc(frames, sizeof *batch->vecs);
	batch->names = calloc(frames, sizeof *batch->names);
	batch->controls = calloc(frames, sizeof *batch->controls);
	if (!batch->slab || !batch->words || !batch->msgs || !batch->vecs || !batch->names || !batch->controls) {
		free_batch(batch);
		return number(env, -ENOMEM);
	}
	napi_value bytes, words;
	napi_create_external_arraybuffer(env, batch->slab, slab_bytes, NULL, NULL, &bytes);
	napi_create_external_arraybuffer(env, batch->words, (size_t)frames * DESC_WORDS * 4, NULL, NULL, &words);
	napi_set_named_property(env, argv[2], "slab", bytes);
	napi_set_named_property(env, argv[2], "words", words);
	return number(env, index);
}

/* A frame of the batch, or NULL where the descriptor points outside the slab or leaves no headroom. */
static uint8_t *frame_at(const struct batch *batch, int32_t index, int32_t **desc)
{
	if (index < 0 || index >= batch->frames)
		return NULL;
	int32_t *d = *desc = batch->words + index * DESC_WORDS;
	if (d[OFFSET] < 0 || d[LENGTH] < 0 || (size_t)d[OFFSET] + (size_t)d[LENGTH] > batch->slab_bytes)
		return NULL;
	return batch->slab + d[OFFSET];
}

/* -------------------------------------------------------------------------------------------- TAP framed I/O */

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
	while (count < max && count < batch->frames && offset + MAX_FRAME <= batch->slab_bytes) {
		uint8_t *frame = batch->slab + offset;
		struct virtio_net_hdr header;
		ssize_t got = read(fd, frame - sizeof header, MAX_FRAME + sizeof header);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0) {
			if (count == 0 && errno != EAGAIN)
				return number(env, -errno);
			break;
		}
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
		d[TOS] = 0;
		offset += ((size_t)d[LENGTH] + 15 + HEADROOM) & ~(size_t)15;
	}
	return number(env, count);
}

/* tapWrite(batch, fd, list, entries): entries delivered. Argument 1 = take the 802.1Q tag out on the way. */
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
		size_t strip = entry[1] == 1 ? 4 : 0; /* 802.1Q tag: 4 bytes behind the two addresses */
		if (!frame || d[LENGTH] < 12 + (int32_t)strip) {
			entry[1] = -EINVAL;
			continue;
		}
		struct virtio_net_hdr header = {
			.flags = (uint8_t)d[FLAGS],
			.gso_type = (uint8_t)d[GSO_TYPE],
			.hdr_len = (uint16_t)d[HEADER_BYTES],
			.gso_size = (uint16_t)d[GSO_SIZE],
			.csum_start = (uint16_t)d[CSUM_START],
			.csum_offset = (uint16_t)d[CSUM_OFFSET],
		};
		if (header.flags & NEEDS_CSUM)
			header.csum_start -= strip;
		if (header.gso_type)
			header.hdr_len -= strip;
		struct iovec vec[3] = {
			{ &header, sizeof header },
			{ frame, strip ? 12 : (size_t)d[LENGTH] },
			{ frame + 12 + strip, (size_t)d[LENGTH] - 12 - strip },
		};
		ssize_t sent;
		do
			sent = writev(fd, vec, strip ? 3 : 2);
		while (sent < 0 && errno == EINTR);
		if (sent < 0)
			entry[1] = -errno;
		else
			delivered++;
	}
	return number(env, delivered);
}

/* -------------------------------------------------------------------------------------------- UDP framed I/O */

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
	if (slot >= state->address_count) {
		int count = slot < 512 ? 1024 : slot * 2;
		union address *grown = realloc(state->addresses, (size_t)count * sizeof *grown);
		if (!grown)
			return number(env, -ENOMEM);
		memset(grown + state->address_count, 0, (size_t)(count - state->address_count) * sizeof *grown);
		state->addresses = grown;
		state->address_count = count;
	}
	make_address(&state->addresses[slot], ip, arg_int(env, argv[2]));
	return number(env, 0);
}

/* udpReceive(batch, fd, maxFrames): datagrams received, each at an own stride of the slab, behind 8 bytes that
 * make the inner frame (8 bytes of VXLAN header in) 16-aligned. Source address, port and traffic class are set. */
static napi_value udp_receive(napi_env env, napi_callback_info info)
{
	ARGS(3);
	struct batch *batch = batch_of(env, argv[0]);
	int fd = arg_int(env, argv[1]), max = arg_int(env, argv[2]);
	if (!batch)
		return number(env, -EINVAL);
	size_t stride = HEADROOM + MAX_FRAME;
	if (max > batch->frames)
		max = batch->frames;
	if ((size_t)max > batch->slab_bytes / stride)
		max = (int)(batch->slab_bytes / stride);
	for (int i = 0; i < max; i++) {
		batch->vecs[i] = (struct iovec){ batch->slab + stride * i + 8, MAX_FRAME };
		batch->msgs[i].msg_hdr = (struct msghdr){
			.msg_name = &batch->names[i],
			.msg_namelen = sizeof batch->names[i],
			.msg_iov = &batch->vecs[i],
			.msg_iovlen = 1,
			.msg_control = batch->controls[i],
			.msg_controllen = CONTROL_BYTES,
		};
	}
	int got;
	do
		got = recvmmsg(fd, batch->msgs, (unsigned)max, MSG_DONTWAIT, NULL);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return number(env, errno == EAGAIN ? 0 : -errno);
	for (int i = 0; i < got; i++) {
		int32_t *d = batch->words + i * DESC_WORDS;
		struct msghdr *msg = &batch->msgs[i].msg_hdr;
		memset(d, 0, DESC_WORDS * sizeof *d);
		d[OFFSET] = (int32_t)(stride * i + 8);
		d[LENGTH] = msg->msg_flags & MSG_TRUNC ? 0 : (int32_t)batch->msgs[i].msg_len;
		if (batch->names[i].sin6_family == AF_INET) {
			struct sockaddr_in *from = (void *)&batch->names[i];
			d[ADDRESS + 2] = (int32_t)htonl(0xffff);
			memcpy(&d[ADDRESS + 3], &from->sin_addr, 4);
			d[PORT] = ntohs(from->sin_port);
		} else {
			memcpy(&d[ADDRESS], &batch->names[i].sin6_addr, 16);
			d[PORT] = ntohs(batch->names[i].sin6_port);
		}
		for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
			if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TOS)
				d[TOS] = *CMSG_DATA(c);
			else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_TCLASS)
				memcpy(&d[TOS], CMSG_DATA(c), sizeof(int));
		}
	}
	return number(env, got);
}

/* One's-complement sum over native 16-bit words, folded (RFC 1071: the byte order does not matter). */
static uint16_t sum_folded(const uint8_t *bytes, size_t length)
{
	uint64_t sum = 0;
	for (; length >= 4; bytes += 4, length -= 4) {
		uint32_t word;
		memcpy(&word, bytes, 4);
		sum += word;
	}
	if (length) {
		uint32_t word = 0;
		memcpy(&word, bytes, length);
		sum += word;
	}
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

/* Finish a checksum that the sender left to the device: the field already holds the pseudo-header sum. */
static int complete_checksum(uint8_t *frame, int32_t *d)
{
	size_t start = (size_t)d[CSUM_START], field = start + (size_t)d[CSUM_OFFSET];
	if (d[CSUM_START] < 14 || d[CSUM_OFFSET] < 0 || field + 2 > (size_t)d[LENGTH])
		return -EINVAL;
	uint16_t sum = (uint16_t)~sum_folded(frame + start, (size_t)d[LENGTH] - start);
	if (sum == 0)
		sum = 0xffff; /* RFC 768: zero means "no checksum"; for TCP both forms are the same value */
	memcpy(frame + field, &sum, 2);
	d[FLAGS] &= ~NEEDS_CSUM;
	return 0;
}

static void put_traffic_class(struct msghdr *msg, uint8_t *control, int family, int tos)
{
	msg->msg_control = control;
	msg->msg_controllen = CMSG_SPACE(sizeof tos);
	struct cmsghdr *c = CMSG_FIRSTHDR(msg);
	c->cmsg_level = family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6;
	c->cmsg_type = family == AF_INET ? IP_TOS : IPV6_TCLASS;
	c->cmsg_len = CMSG_LEN(sizeof tos);
	memcpy(CMSG_DATA(c), &tos, sizeof tos);
}

/* How long a full socket buffer may hold up the worker before frames are dropped with EAGAIN. */
#define SEND_WAIT_MS 10

/* udpSend(batch, fd, list, entries, headerBytes): datagrams sent, each the frame with the headerBytes that stand
 * before it. The argument of an entry is the slot of its destination. A destination that the kernel refuses costs
 * only its own datagram. */
static napi_value udp_send(napi_env env, napi_callback_info info)
{
	ARGS(5);
	struct state *state = state_of(env);
	struct batch *batch = batch_of(env, argv[0]);
	int fd = arg_int(env, argv[1]), entries = arg_int(env, argv[3]), delivered = 0;
	int header = arg_int(env, argv[4]);
	size_t list_bytes;
	int32_t *list = arg_bytes(env, argv[2], &list_bytes);
	if (!batch || !list || (size_t)entries * 8 > list_bytes)
		return number(env, -EINVAL);
	for (int next = 0; next < entries;) {
		/* Gather as many messages as the batch has room for; `next` then points behind them. */
		int count = 0;
		int32_t *of_message[MAX_FRAMES];
		for (; next < entries && count < batch->frames; next++) {
			int32_t *entry = list + 2 * next, *d;
			uint8_t *frame = frame_at(batch, entry[0], &d);
			int slot = entry[1], error = 0;
			if (!frame || d[OFFSET] < header || slot < 0 || slot >= state->address_count || !state->addresses[slot].sa.sa_family)
				error = -EINVAL;
			else if (d[FLAGS] & NEEDS_CSUM)
				error = complete_checksum(frame, d);
			if (error) {
				entry[1] = error;
				continue;
			}
			union address *to = &state->addresses[slot];
			struct msghdr *msg = &batch->msgs[count].msg_hdr;
			batch->vecs[count] = (struct iovec){ frame - header, (size_t)(d[LENGTH] + header) };
			*msg = (struct msghdr){
				.msg_name = to,
				.msg_namelen = to->sa.sa_family == AF_INET ? sizeof to->v4 : sizeof to->v6,
				.msg_iov = &batch->vecs[count],
				.msg_iovlen = 1,
			};
			if (d[TOS])
				put_traffic_class(msg, batch->controls[count], to->sa.sa_family, d[TOS]);
			of_message[count++] = entry;
		}
		for (int sent = 0, waited = 0; sent < count;) {
			int n = sendmmsg(fd, batch->msgs + sent, (unsigned)(count - sent), MSG_DONTWAIT);
			if (n > 0) {
				sent += n;
				delivered += n;
			} else if (errno == EAGAIN && !waited) {
				waited = 1;
				poll(&(struct pollfd){ .fd = fd, .events = POLLOUT }, 1, SEND_WAIT_MS);
			} else if (errno != EINTR) {
				of_message[sent++][1] = -errno;
			}
		}
	}
	return number(env, delivered);
}

/* ----------------------------------------------------------------------------------- epoll, eventfd and others */

/* pollCreate(): an epoll descriptor. */
static napi_value poll_create(napi_env env, napi_callback_info info)
{
	(void)info;
	return number(env, or_errno(epoll_create1(EPOLL_CLOEXEC)));
}

/* pollAdd(epoll, fd, token) */
static napi_value poll_add(napi_env env, napi_callback_info info)
{
	ARGS(3);
	struct epoll_event event = { .events = EPOLLIN, .data.u32 = (uint32_t)arg_int(env, argv[2]) };
	return number(env, or_errno(epoll_ctl(arg_int(env, argv[0]), EPOLL_CTL_ADD, arg_int(env, argv[1]), &event)));
}

/* pollRemove(epoll, fd) */
static napi_value poll_remove(napi_env env, napi_callback_info info)
{
	ARGS(2);
	return number(env, or_errno(epoll_ctl(arg_int(env, argv[0]), EPOLL_CTL_DEL, arg_int(env, argv[1]), NULL)));
}

/* pollWait(epoll, ready, timeoutMs): descriptors ready; their tokens are in `ready`. Interrupted = none ready. */
static napi_value poll_wait(napi_env env, napi_callback_info info)
{
	ARGS(3);
	struct epoll_event events[64];
	size_t bytes;
	int32_t *ready = arg_bytes(env, argv[1], &bytes);
	int max = (int)(bytes / 4) < 64 ? (int)(bytes / 4) : 64;
	if (!ready || max < 1)
		return number(env, -EINVAL);
	int count = epoll_wait(arg_int(env, argv[0]), events, max, arg_int(env, argv[2]));
	if (count < 0)
		return number(env, errno == EINTR ? 0 : -errno);
	for (int i = 0; i < count; i++)
		ready[i] = (int32_t)events[i].data.u32;
	return number(env, count);
}

/* eventCreate(): an eventfd, the wake-up that another thread may signal. */
static napi_value event_create(napi_env env, napi_callback_info info)
{
	(void)info;
	return number(env, or_errno(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)));
}

/* eventSignal(fd): callable from any thread. */
static napi_value event_signal(napi_env env, napi_callback_info info)
{
	ARGS(1);
	return number(env, or_errno(eventfd_write(arg_int(env, argv[0]), 1)));
}

/* eventClear(fd) */
static napi_value event_clear(napi_env env, napi_callback_info info)
{
	ARGS(1);
	eventfd_t value;
	return number(env, or_errno(eventfd_read(arg_int(env, argv[0]), &value)));
}

/* closeDescriptor(fd) */
static napi_value close_descriptor(napi_env env, napi_callback_info info)
{
	ARGS(1);
	return number(env, or_errno(close(arg_int(env, argv[0]))));
}

/* lockFile(fd): an exclusive lock that dies with the process; EAGAIN when another holds it. */
static napi_value lock_file(napi_env env, napi_callback_info info)
{
	ARGS(1);
	return number(env, or_errno(flock(arg_int(env, argv[0]), LOCK_EX | LOCK_NB)));
}

#define EXPORT(name, function) { name, NULL, function, NULL, NULL, NULL, napi_default, NULL }

static napi_value init(napi_env env, napi_value exports)
{
	static const napi_property_descriptor hot_path[] = {
		EXPORT("batchCreate", batch_create),   EXPORT("tapRead", tap_read),
		EXPORT("tapWrite", tap_write),         EXPORT("addressSet", address_set),
		EXPORT("udpReceive", udp_receive),     EXPORT("udpSend", udp_send),
		EXPORT("pollCreate", poll_create),     EXPORT("pollAdd", poll_add),
		EXPORT("pollRemove", poll_remove),     EXPORT("pollWait", poll_wait),
		EXPORT("eventCreate", event_create),   EXPORT("eventSignal", event_signal),
		EXPORT("eventClear", event_clear),     EXPORT("closeDescriptor", close_descriptor),
		EXPORT("lockFile", lock_file),
	};
	struct state *state = calloc(1, sizeof *state);
	if (!state)
		return exports;
	napi_set_instance_data(env, state, free_state, NULL);
	napi_define_properties(env, exports, sizeof hot_path / sizeof *hot_path, hot_path);
	define_devices(env, exports);
	return exports;
}

NAPI_MODULE(dgram_extra, init)
