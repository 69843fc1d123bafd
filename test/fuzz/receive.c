/* Random messages of the kernel, many datagrams each (UDP_GRO), through what makes descriptors of them
 * (src/dgram-extra/udp-receive.c), for a compiler that watches memory:
 *
 *   cc -g -O1 -fsanitize=address,undefined -I src/dgram-extra -I node_modules/node-api-headers/include \
 *      test/fuzz/receive.c src/dgram-extra/offload.c -o fuzz && ./fuzz SEED MESSAGES
 *
 * (npm run fuzz -- receive). No byte behind a message may be read. Whatever the datagrams say: each is handed on once, in
 * order, and those of a run have one header up to the traffic class. Most are near copies of the one before. */
#include "../../src/dgram-extra/udp-receive.c"

#include <sanitizer/asan_interface.h>
#include <stdio.h>
#include <stdlib.h>

/* ------------------------------------------------------------------------- what the addon has from elsewhere */

struct batch *batch_of(napi_env env, napi_value value)
{
	return (void)env, (void)value, NULL;
}

int32_t arg_int(napi_env env, napi_value value)
{
	return (void)env, (void)value, 0;
}

napi_value number(napi_env env, int32_t n)
{
	return (void)env, (void)n, NULL;
}

napi_status napi_get_cb_info(napi_env env, napi_callback_info info, size_t *argc, napi_value *argv, napi_value *self, void **data)
{
	return (void)env, (void)info, (void)argc, (void)argv, (void)self, (void)data, napi_ok;
}

napi_status napi_create_uint32(napi_env env, uint32_t value, napi_value *result)
{
	return (void)env, (void)value, *result = NULL, napi_ok;
}

napi_status napi_define_properties(napi_env env, napi_value object, size_t count, const napi_property_descriptor *properties)
{
	return (void)env, (void)object, (void)count, (void)properties, napi_ok;
}

/* -------------------------------------------------------------------------------------------------- messages */

enum { MESSAGES = 4 };

static uint64_t state;

static uint32_t dice(uint32_t sides)
{
	state ^= state << 13, state ^= state >> 7, state ^= state << 17;
	return (uint32_t)(state >> 16) % sides;
}

/* Datagrams of one size, the last of any, as many as fit. Returns the bytes. */
static size_t make(uint8_t *to, size_t size)
{
	static const uint8_t vxlan[8] = { 8, 0, 0, 0, 0, 0, 42, 0 };
	uint8_t one[400];
	size_t tags = dice(8) ? 0 : dice(6), l3 = 8 + 14 + 4 * tags, is_v4 = dice(2), count = 1 + dice(dice(4) ? 6 : 70);
	memset(one, (int)dice(256), sizeof one);
	memcpy(one, vxlan, 8);
	for (size_t i = 0; i < tags; i++)
		memcpy(one + 20 + 4 * i, "\x81\0", 2);
	memcpy(one + l3 - 2, is_v4 ? "\x08\0\x45" : "\x86\xdd\x60", 3);
	size_t last = dice(2) ? size : 1 + dice((uint32_t)size), bytes = size * (count - 1) + last;
	for (size_t i = 0; i < count; i++) {
		uint8_t *at = to + i * size;
		memcpy(at, one, i + 1 < count ? size : last);
		if (dice(6) == 0 && size > 8)
			at[dice((uint32_t)(i + 1 < count || last > 8 ? (last < size ? last : size) : 1))] ^= (uint8_t)(1 << dice(8));
		size_t says = dice(3) ? size : dice(2) ? bytes : dice(65536), field = l3 + (is_v4 ? 2 : 4);
		says -= is_v4 ? l3 : l3 + 40;
		if (field + 2 <= (i + 1 < count ? size : last))
			at[field] = (uint8_t)(says >> 8), at[field + 1] = (uint8_t)says;
	}
	if (dice(10) == 0) { /* one superframe that nobody has cut, or what says so */
		size_t field = l3 + (is_v4 ? 2 : 4), says = bytes - (is_v4 ? l3 : l3 + 40);
		for (size_t i = l3 + 8; i < bytes; i++)
			to[i] = (uint8_t)dice(dice(2) ? 256 : 9);
		if (field + 2 <= bytes)
			to[field] = (uint8_t)(says >> 8), to[field + 1] = (uint8_t)says;
	}
	return bytes;
}

static void fail(const char *what)
{
	fprintf(stderr, "%s\n", what);
	abort();
}

/* A run whose datagrams differ, by another way of looking than the one that made it. */
static int differ(const uint8_t *a, const uint8_t *b, size_t bytes)
{
	size_t at = 8 + 12;
	for (int tags = 0; tags <= 4 && at + 2 <= bytes; tags++, at += 4)
		if (!((a[at] == 0x81 && a[at + 1] == 0) || (a[at] == 0x88 && a[at + 1] == 0xa8) || (a[at] == 0x91 && a[at + 1] == 0)))
			return at + 4 > bytes || memcmp(a, b, at + 4) != 0;
	return 1;
}

int main(int argc, char **argv)
{
	unsigned long messages = argc > 2 ? strtoul(argv[2], NULL, 10) : 100000, runs = 0, doubtful = 0, uncut = 0, calls = 0;
	state = argc > 1 ? strtoull(argv[1], NULL, 10) | 1 : 1;
	struct batch batch = { .slab_bytes = MESSAGES * STRIDE + 8, .messages = MESSAGES };
	batch.slab = malloc(batch.slab_bytes);
	batch.msgs = calloc(MESSAGES, sizeof *batch.msgs);
	batch.vecs = calloc(MESSAGES, sizeof *batch.vecs);
	batch.names = calloc(MESSAGES, sizeof *batch.names);
	batch.controls = calloc(MESSAGES, sizeof *batch.controls);
	for (unsigned long done = 0; done < messages;) {
		size_t lengths[MESSAGES], end = 0, next = 0;
		batch.descriptors = 1 + (int)dice(dice(2) ? 8 : 300);
		batch.words = malloc((size_t)batch.descriptors * DESC_WORDS * 4);
		batch.rest = (struct rest){ .got = 1 + (int)dice(MESSAGES) };
		for (int i = 0; i < batch.rest.got; i++, done++) {
			uint8_t *start = batch.slab + (size_t)STRIDE * i + 8;
			size_t size = 1 + dice(dice(4) ? 120 : 400);
			prepare(&batch, i);
			ASAN_UNPOISON_MEMORY_REGION(start, STRIDE);
			lengths[i] = dice(50) ? make(start, size) : 0;
			ASAN_POISON_MEMORY_REGION(start + lengths[i], (size_t)STRIDE - 8 - lengths[i]);
			struct msghdr *msg = &batch.msgs[i].msg_hdr;
			int says = dice(30) ? (int)size : (int)dice(70000) - 2000;
			msg->msg_controllen = CMSG_SPACE(sizeof says);
			struct cmsghdr *control = CMSG_FIRSTHDR(msg);
			*control = (struct cmsghdr){ CMSG_LEN(sizeof says), IPPROTO_UDP, UDP_GRO };
			memcpy(CMSG_DATA(control), &says, sizeof says);
			batch.msgs[i].msg_len = (unsigned)lengths[i];
			batch.names[i].sin6_family = dice(2) ? AF_INET : AF_INET6;
			msg->msg_flags = 0;
		}
		int message = -1, got = batch.rest.got;
		for (int count; (count = hand_on(&batch)) != 0; calls++) {
			if ((count & ~AMBIGUOUS) > batch.descriptors)
				fail("more descriptors than there are");
			for (int i = 0; i < (count & ~AMBIGUOUS); i++) {
				const int32_t *d = batch.words + (size_t)i * DESC_WORDS;
				if (next == end) { /* the next message */
					if (++message == got)
						fail("more than was received");
					next = (size_t)STRIDE * message + 8, end = next + lengths[message];
				}
				if ((size_t)d[OFFSET] != next)
					fail("a datagram is left out, or there twice");
				size_t last = d[SEGMENT] ? (size_t)d[RUN_END] : next + (size_t)d[LENGTH];
				if (last > end || d[LENGTH] < 0)
					fail("behind the end");
				if (d[SEGMENT] && d[LENGTH] == 0 && d[GSO_SIZE]) {
					doubtful++;
				} else if (d[SEGMENT]) {
					runs++;
					if (d[LENGTH] != d[SEGMENT])
						fail("a run with gaps");
					for (size_t at = next; at < last; at += (size_t)d[SEGMENT])
						if (differ(batch.slab + next, batch.slab + at, last - at < (size_t)d[SEGMENT] ? last - at : (size_t)d[SEGMENT]))
							fail("a run of different frames");
				} else if (d[GSO_SIZE]) {
					uncut++;
				}
				next = last;
			}
			if (count & AMBIGUOUS && !doubtful)
				fail("no doubt");
		}
		if (message + 1 != got || next != end)
			fail("not all was handed on");
		free(batch.words);
	}
	free(batch.slab), free(batch.msgs), free(batch.vecs), free(batch.names), free(batch.controls);
	printf("%lu messages, %lu calls, %lu runs, %lu uncut, %lu ambiguous\n", messages, calls, runs, uncut, doubtful);
	return 0;
}
