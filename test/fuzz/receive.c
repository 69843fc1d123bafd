/* Messages of the kernel, many datagrams each (UDP_GRO), through what makes descriptors of them
 * (src/dgram-extra/udp-receive.c). native.h says how it is built (npm run fuzz -- receive).
 *
 * The input is the choices by which messages are made; most datagrams are near copies of the one before. No byte behind a
 * message may be read. Whatever the datagrams say: each is handed on once, in order, with its source and traffic class, and those
 * of a run have one header up to the traffic class. */
#include "native.h"

#include <sanitizer/asan_interface.h>
#include <sys/socket.h>

static int receive_messages(int fd, struct mmsghdr *msgs, unsigned count, int flags, struct timespec *timeout);

#define recvmmsg receive_messages
#include "../../src/dgram-extra/udp-receive.c"
#undef recvmmsg

enum { MESSAGES = 4 };

static struct batch batch;
/* VXLAN, and Geneve with options. */
static struct state state = {
	.rules = { { 8, 0, 0, 0xffffffff, 0x08000000 }, { 8, 63, 4, 0xc0ffffff, 0x6558 } },
	.rule_count = 2,
};
static int rule;
/* Bytes of the tunnel's header, in all datagrams as they are made; a flipped bit may say otherwise. */
static size_t header;
static size_t lengths[MESSAGES];
static int32_t classes[MESSAGES];
static struct sockaddr_in6 sources[MESSAGES];
static int got, refusals, refusal;

struct batch *batch_of(napi_env env, napi_value value)
{
	return (void)env, arguments[(uintptr_t)value - 1].number ? NULL : &batch;
}

struct state *state_of(napi_env env)
{
	return (void)env, &state;
}

int is_news(int error)
{
	return error == EMSGSIZE;
}

/* Datagrams of one size, the last of any, as many as fit. Returns the bytes. */
static size_t make(uint8_t *to, size_t size)
{
	static const uint8_t vxlan[8] = { 8, 0, 0, 0, 0, 0, 42, 0 };
	uint8_t geneve[8] = { 0, 0, 0x65, 0x58, 0, 0, 42, 0 };
	uint8_t one[400];
	if (rule)
		geneve[0] = (uint8_t)(roll(3) ? 0 : roll(8));
	header = 8 + 4 * (size_t)(rule ? geneve[0] : 0);
	size_t tags = roll(8) ? 0 : roll(6), l3 = header + 14 + 4 * tags, is_v4 = roll(2), count = 1 + roll(roll(4) ? 6 : 70);
	memset(one, (int)roll(256), sizeof one);
	memcpy(one, rule ? geneve : vxlan, 8);
	for (size_t i = 0; i < tags; i++)
		memcpy(one + header + 12 + 4 * i, "\x81\0", 2);
	memcpy(one + l3 - 2, is_v4 ? "\x08\0\x45" : "\x86\xdd\x60", 3);
	size_t last = roll(2) ? size : 1 + roll((uint32_t)size), bytes = size * (count - 1) + last;
	for (size_t i = 0; i < count; i++) {
		uint8_t *at = to + i * size;
		memcpy(at, one, i + 1 < count ? size : last);
		if (roll(6) == 0 && size > 8)
			at[roll((uint32_t)(i + 1 < count || last > 8 ? (last < size ? last : size) : 1))] ^= (uint8_t)(1 << roll(8));
		size_t says = roll(3) ? size : roll(2) ? bytes : roll(65536), field = l3 + (is_v4 ? 2 : 4);
		says -= is_v4 ? l3 : l3 + 40;
		if (field + 2 <= (i + 1 < count ? size : last))
			at[field] = (uint8_t)(says >> 8), at[field + 1] = (uint8_t)says;
	}
	if (roll(10) == 0) { /* one superframe that nobody has cut, or what says so */
		size_t field = l3 + (is_v4 ? 2 : 4), says = bytes - (is_v4 ? l3 : l3 + 40);
		for (size_t i = l3 + 8; i < bytes; i++)
			to[i] = (uint8_t)roll(roll(2) ? 256 : 9);
		if (field + 2 <= bytes)
			to[field] = (uint8_t)(says >> 8), to[field + 1] = (uint8_t)says;
	}
	return bytes;
}

static void put_control(struct msghdr *msg, int level, int type, const void *value, size_t bytes)
{
	struct cmsghdr *control = (void *)((uint8_t *)msg->msg_control + msg->msg_controllen);
	*control = (struct cmsghdr){ .cmsg_len = CMSG_LEN(bytes), .cmsg_level = level, .cmsg_type = type };
	memcpy(CMSG_DATA(control), value, bytes);
	msg->msg_controllen += CMSG_SPACE(bytes);
}

static int receive_messages(int fd, struct mmsghdr *msgs, unsigned count, int flags, struct timespec *timeout)
{
	if (fd != 7 || msgs != batch.msgs || count > MESSAGES || count > batch.slab_bytes / STRIDE || flags != MSG_DONTWAIT || timeout)
		fail("not what was asked for");
	if (refusals > 0)
		return refusals--, errno = refusal, -1;
	got = count ? 1 + (int)roll(count) : 0;
	for (int i = 0; i < got; i++) {
		struct msghdr *msg = &msgs[i].msg_hdr;
		uint8_t *to = batch.slab + (size_t)STRIDE * i + 8, class = (uint8_t)roll(256);
		if (msg->msg_name != &batch.names[i] || msg->msg_namelen != sizeof batch.names[i] || msg->msg_iovlen != 1 ||
		    msg->msg_iov->iov_base != to || msg->msg_iov->iov_len != MAX_FRAME || msg->msg_control != batch.controls[i] ||
		    msg->msg_controllen != CONTROL_BYTES)
			fail("a message that is not ready");
		size_t size = 1 + roll(roll(4) ? 120 : 400);
		ASAN_UNPOISON_MEMORY_REGION(to, STRIDE);
		msgs[i].msg_len = roll(50) ? (unsigned)make(to, size) : 0;
		ASAN_POISON_MEMORY_REGION(to + msgs[i].msg_len, (size_t)STRIDE - 8 - msgs[i].msg_len);
		msg->msg_flags = roll(60) ? 0 : MSG_TRUNC;
		lengths[i] = msg->msg_flags ? 0 : msgs[i].msg_len;
		int says = roll(30) ? (int)size : (int)roll(70000) - 2000, is_v4 = (int)roll(2), all = class;
		sources[i] = (struct sockaddr_in6){ .sin6_family = is_v4 ? AF_INET : AF_INET6, .sin6_port = htons(4789 + i) };
		memset((uint8_t *)&sources[i] + 4, i + 1, is_v4 ? 4 : 20);
		msg->msg_namelen = is_v4 ? sizeof(struct sockaddr_in) : sizeof sources[i];
		memcpy(msg->msg_name, &sources[i], msg->msg_namelen);
		msg->msg_controllen = 0;
		classes[i] = roll(4) ? class : 0;
		if (classes[i])
			put_control(msg, is_v4 ? IPPROTO_IP : IPPROTO_IPV6, is_v4 ? IP_TOS : IPV6_TCLASS, is_v4 ? (void *)&class : (void *)&all,
				    is_v4 ? sizeof class : sizeof all);
		if (roll(20))
			put_control(msg, IPPROTO_UDP, UDP_GRO, &says, sizeof says);
	}
	return got;
}

/* A run whose datagrams differ, by another way of looking than the one that made it. */
static int differ(const uint8_t *a, const uint8_t *b, size_t bytes)
{
	size_t at = 8 + 12 + (bytes && rule ? 4 * (size_t)(a[0] & 63) : 0);
	for (int tags = 0; tags <= 4 && at + 2 <= bytes; tags++, at += 4)
		if (!((a[at] == 0x81 && a[at + 1] == 0) || (a[at] == 0x88 && a[at + 1] == 0xa8) || (a[at] == 0x91 && a[at + 1] == 0)))
			return at + 4 > bytes || memcmp(a, b, at + 4) != 0;
	return 1;
}

static void expect_source(const int32_t *d, int message)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	const uint8_t *address = (const uint8_t *)(d + ADDRESS), *name = (const uint8_t *)&sources[message];
	int is_v4 = sources[message].sin6_family == AF_INET;
	if (d[PORT] != 4789 + message || d[TOS] != classes[message])
		fail("another port, or traffic class");
	if (is_v4 ? memcmp(address, mapped, 12) || memcmp(address + 12, name + 4, 4) : memcmp(address, name + 8, 16))
		fail("another address");
}

/* One descriptor, at `*next` of a message that ends at `end`. */
static void expect_descriptor(const int32_t *d, size_t *next, size_t end, int *doubtful)
{
	if ((size_t)d[OFFSET] != *next)
		fail("a datagram is left out, or there twice");
	size_t last = d[SEGMENT] ? (size_t)d[RUN_END] : *next + (size_t)d[LENGTH];
	if (last > end || d[LENGTH] < 0)
		fail("behind the end");
	if (d[FLAGS] || d[GSO_TYPE] || d[HEADER_BYTES] || d[CSUM_START] || d[CSUM_OFFSET])
		fail("an offload that nobody asked for");
	if (d[SEGMENT] && d[LENGTH] == 0 && d[GSO_SIZE]) {
		(*doubtful)++;
	} else if (d[SEGMENT]) {
		if (d[LENGTH] != d[SEGMENT])
			fail("a run with gaps");
		for (size_t at = *next; at < last; at += (size_t)d[SEGMENT])
			if (differ(batch.slab + *next, batch.slab + at, last - at < (size_t)d[SEGMENT] ? last - at : (size_t)d[SEGMENT]))
				fail("a run of different frames");
	}
	*next = last;
}

/* One call for what is there, and more for what there were no descriptors for. */
static void receive(void)
{
	int message = -1, leaves = roll(8) == 0;
	size_t end = 0, next = 0;
	batch.descriptors = 1 + (int)roll(roll(2) ? 8 : 300);
	batch.words = malloc((size_t)batch.descriptors * DESC_WORDS * 4);
	memset(batch.words, (int)roll(256), (size_t)batch.descriptors * DESC_WORDS * 4);
	arguments[0].number = roll(50) == 0, arguments[1].number = 7, arguments[2].number = (int)roll(MESSAGES + 3) - 1;
	arguments[3].number = roll(50) ? (rule = (int)roll(2)) : 2 - 3 * (int)roll(2);
	refusals = roll(10) ? 0 : (int)roll(20), refusal = roll(2) ? EMSGSIZE : EAGAIN, got = 0;
	int count = call(udp_receive);
	if (count < 0 && !(arguments[0].number || arguments[2].number < 0 || arguments[3].number < 0 || arguments[3].number > 1 ? count == -EINVAL : count == -EMSGSIZE))
		fail("another error");
	arguments[0].number = 0;
	for (; count > 0; count = call(udp_rest)) {
		int doubtful = 0;
		if ((count & ~AMBIGUOUS) > batch.descriptors)
			fail("more descriptors than there are");
		for (int i = 0; i < (count & ~AMBIGUOUS); i++) {
			if (next == end) { /* the next message */
				if (++message == got)
					fail("more than was received");
				next = (size_t)STRIDE * message + 8, end = next + lengths[message];
			}
			const int32_t *d = batch.words + (size_t)i * DESC_WORDS;
			expect_descriptor(d, &next, end, &doubtful);
			expect_source(d, message);
		}
		if (!(count & AMBIGUOUS) != !doubtful)
			fail("a doubt that is not told, or no doubt");
		if (leaves)
			break;
	}
	if (!leaves && (message + 1 != got || next != end))
		fail("not all was handed on");
	free(batch.words);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!batch.slab) {
		batch.slab = malloc(MESSAGES * STRIDE + 8);
		batch.msgs = calloc(MESSAGES, sizeof *batch.msgs);
		batch.vecs = calloc(MESSAGES, sizeof *batch.vecs);
		batch.names = calloc(MESSAGES, sizeof *batch.names);
		batch.controls = calloc(MESSAGES, sizeof *batch.controls);
	}
	start(data, size);
	batch.slab_bytes = MESSAGES * STRIDE + 8 - (roll(4) ? 0 : STRIDE), batch.messages = MESSAGES;
	batch.prepared = 0, batch.rest = (struct rest){ 0 };
	for (int calls = 1 + (int)roll(4); calls > 0; calls--)
		receive();
	return 0;
}
