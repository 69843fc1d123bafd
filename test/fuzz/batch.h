/* For programs whose part of the addon takes frames out of a batch: framed.c itself, and one batch whose slab and descriptors
 * have memory of exactly their size. */
#ifndef FUZZ_BATCH_H
#define FUZZ_BATCH_H

#include "native.h"

#include "../../src/dgram-extra/framed.c"

static struct state state;
static struct batch *const batch = &state.batches[0];

napi_status napi_get_instance_data(napi_env env, void **data)
{
	return (void)env, *data = &state, napi_ok;
}

napi_status napi_set_instance_data(napi_env env, void *data, napi_finalize finalize, void *hint)
{
	return (void)env, (void)data, (void)finalize, (void)hint, napi_ok;
}

napi_status napi_create_external_arraybuffer(napi_env env, void *data, size_t bytes, napi_finalize finalize, void *hint,
					     napi_value *result)
{
	return (void)env, (void)data, (void)bytes, (void)finalize, (void)hint, *result = NULL, napi_ok;
}

napi_status napi_set_named_property(napi_env env, napi_value object, const char *name, napi_value value)
{
	return (void)env, (void)object, (void)name, (void)value, napi_ok;
}

static void open_batch(size_t slab_bytes, int descriptors)
{
	*batch = (struct batch){ .slab_bytes = slab_bytes, .descriptors = descriptors };
	batch->slab = malloc(slab_bytes);
	if (slab_bytes < MAX_FRAME) /* larger ones are filled by those who read */
		memset(batch->slab, 0, slab_bytes);
	batch->words = calloc((size_t)descriptors, DESC_WORDS * sizeof(int32_t));
}

/* Nothing of it lies behind this. */
static void cut_batch(size_t slab_bytes)
{
	batch->slab = realloc(batch->slab, slab_bytes);
	batch->slab_bytes = slab_bytes;
}

static void close_batch(void)
{
	free(batch->slab);
	free(batch->words);
	batch->slab = NULL;
}

/* A frame of TCP or UDP, or of anything, `payload` bytes behind its headers. Returns its bytes; `*l4` is where the transport
 * header is. A copy of the one before, as the next segment of its flow, where `follows`. */
static size_t make_frame(uint8_t *frame, size_t payload, int is_udp, int follows, int *l4)
{
	static uint32_t tags, is_v4, sequence, fill_byte;
	if (!follows)
		tags = roll(4) ? 0 : roll(6), is_v4 = roll(2), sequence = roll(65536), fill_byte = roll(4);
	size_t l3 = 14 + 4 * tags, header = is_v4 ? 20 : 40, transport = is_udp ? 8 : 20;
	size_t bytes = l3 + header + transport + payload, behind = bytes - l3 - (is_v4 ? 0 : 40);
	memset(frame, (int)fill_byte, bytes);
	for (size_t i = 0; i < tags; i++)
		memcpy(frame + 12 + 4 * i, "\x81\0", 2);
	memcpy(frame + l3 - 2, is_v4 ? "\x08\0" : "\x86\xdd", 2);
	uint8_t *ip = frame + l3, *at = ip + header;
	ip[0] = is_v4 ? 0x45 : 0x60;
	ip[is_v4 ? 2 : 4] = (uint8_t)(behind >> 8), ip[is_v4 ? 3 : 5] = (uint8_t)behind;
	if (is_v4)
		ip[4] = (uint8_t)(sequence >> 8), ip[5] = (uint8_t)sequence, ip[6] = 0x40;
	ip[is_v4 ? 9 : 6] = is_udp ? 17 : 6;
	if (is_udp)
		at[4] = (uint8_t)((transport + payload) >> 8), at[5] = (uint8_t)(transport + payload);
	else
		at[6] = (uint8_t)(sequence * payload >> 8), at[7] = (uint8_t)(sequence * payload), at[12] = 0x50, at[13] = 0x10;
	sequence++;
	*l4 = (int)(l3 + header);
	return bytes;
}

enum { OUTER_BYTES = 14 + 20 + 8 + 8 };

/* Puts a frame into a VXLAN tunnel over IPv4. Returns the bytes of it all, OUTER_BYTES more. */
static inline size_t wrap_frame(uint8_t *frame, size_t bytes, uint32_t id, uint32_t checksum)
{
	static const uint8_t head[OUTER_BYTES] = { [12] = 8, [14] = 0x45, [20] = 0x40, [22] = 64, 17, [36] = 0x21, 0x18, [42] = 8 };
	memmove(frame + OUTER_BYTES, frame, bytes);
	memcpy(frame, head, OUTER_BYTES);
	size_t all = bytes + OUTER_BYTES, udp = all - 34;
	frame[16] = (uint8_t)((all - 14) >> 8), frame[17] = (uint8_t)(all - 14);
	frame[38] = (uint8_t)(udp >> 8), frame[39] = (uint8_t)udp;
	frame[19] = (uint8_t)id, frame[41] = (uint8_t)checksum;
	uint16_t sum = (uint16_t)~fold(sum_bytes(frame + 14, 20));
	memcpy(frame + 24, &sum, 2);
	return all;
}

#endif
