/* Batches, and the state of the addon for one thread. framed.h has the overview. */
#define _GNU_SOURCE
#include "framed.h"
#include "tunnel-send.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>

struct state *state_of(napi_env env)
{
	void *state = NULL;
	napi_get_instance_data(env, &state);
	return state;
}

struct batch *batch_of(napi_env env, napi_value value)
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
	ring_leave(&state->ring);
	sending_free(state->sending);
	free(state);
}

/* batchCreate(messages, descriptors, slabBytes, views): makes a batch and returns its index. views.slab and views.words
 * become external ArrayBuffers. The memory lives until the thread's environment ends, so the views never dangle. */
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

uint8_t *frame_at(const struct batch *batch, int32_t index, int32_t **desc)
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

int start_cut(struct cutter *cut, const uint8_t *frame, const int32_t *desc)
{
	const struct gso gso = { .type = desc[GSO_TYPE], .size = desc[GSO_SIZE], .flags = desc[FLAGS],
		.csum_start = desc[CSUM_START], .outer_l4 = desc[OUTER_L4], .inner_l3 = desc[INNER_L3] };
	return cut_start(cut, frame, (size_t)desc[LENGTH], &gso);
}

void lose(int32_t *entry, int error)
{
	if (entry[1] >= 0)
		entry[1] = error;
	else if (entry[1] > INT32_MIN + 2 * 65536)
		entry[1] -= 65536;
}

void define_framed(napi_env env, napi_value exports)
{
	static const napi_property_descriptor framed[] = { EXPORT("batchCreate", batch_create) };
	struct state *state = calloc(1, sizeof *state);
	if (!state)
		return;
	state->sending = sending_create();
	if (!state->sending) {
		free(state);
		return;
	}
	napi_set_instance_data(env, state, free_state, NULL);
	napi_define_properties(env, exports, sizeof framed / sizeof *framed, framed);
	define_ring(env, exports);
	define_tap(env, exports);
	define_receive(env, exports);
	define_send(env, exports);
	define_tunnel_send(env, exports);
	define_errors(env, exports);
}
