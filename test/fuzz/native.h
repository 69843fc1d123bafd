/* What the programs share that run parts of the addon without Node: the input, and stand-ins for what those parts have from
 * Node. Each includes the part itself (src/dgram-extra/udp-errors.c ...), with the system calls replaced that say what came
 * from outside; so it is all of the part that runs, and no socket is needed. For a compiler that watches memory:
 *
 *   cc -g -O1 -fsanitize=address,undefined -DNAPI_VERSION=8 -I src/dgram-extra -I node_modules/node-api-headers/include \
 *      test/fuzz/NAME.c src/dgram-extra/offload.c src/dgram-extra/offload-join.c -o fuzz && ./fuzz SEED INPUTS [CORPUS]
 *
 * or, guided by coverage, with clang and -fsanitize=fuzzer,address,undefined -DLIBFUZZER (npm run fuzz -- NAME). */
#ifndef FUZZ_NATIVE_H
#define FUZZ_NATIVE_H

#define _GNU_SOURCE
#include "framed.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void fail(const char *what)
{
	fprintf(stderr, "%s\n", what);
	abort();
}

/* ------------------------------------------------------------------------------------------------------ input */

/* What is left of it. Behind its end there are zeros. */
static const uint8_t *input;
static size_t input_bytes;

static uint32_t byte(void)
{
	return input_bytes ? input_bytes--, *input++ : 0;
}

static uint32_t word(void)
{
	uint32_t low = byte();
	return low | byte() << 8;
}

static void fill(void *to, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		((uint8_t *)to)[i] = (uint8_t)byte();
}

/* Below `sides`: out of the input, and behind its end out of what `start` made of all of it. */
static uint64_t roll_state;

static uint32_t roll(uint32_t sides)
{
	if (input_bytes)
		return (sides <= 256 ? byte() : word()) % sides;
	roll_state ^= roll_state << 13, roll_state ^= roll_state >> 7, roll_state ^= roll_state << 17;
	return (uint32_t)(roll_state >> 16) % sides;
}

static void start(const uint8_t *data, size_t size)
{
	input = data, input_bytes = size;
	roll_state = 0xcbf29ce484222325; /* FNV-1a */
	for (size_t i = 0; i < size; i++)
		roll_state = (roll_state ^ data[i]) * 0x100000001b3;
	roll_state |= 1;
}

/* ------------------------------------------------------------------------------------------------------- Node */

/* Of the call at hand, and what it answers. */
static struct {
	int32_t number;
	void *bytes;
	size_t length;
} arguments[8];
static int32_t answered;

static int32_t call(napi_callback function)
{
	answered = INT32_MIN;
	function(NULL, NULL);
	return answered;
}

napi_status napi_get_cb_info(napi_env env, napi_callback_info info, size_t *argc, napi_value *argv, napi_value *self, void **data)
{
	(void)env, (void)info, (void)self, (void)data;
	for (size_t i = 0; i < *argc; i++)
		argv[i] = (napi_value)(uintptr_t)(i + 1);
	return napi_ok;
}

int32_t arg_int(napi_env env, napi_value value)
{
	return (void)env, arguments[(uintptr_t)value - 1].number;
}

void *arg_bytes(napi_env env, napi_value value, size_t *bytes)
{
	(void)env;
	*bytes = arguments[(uintptr_t)value - 1].length;
	return arguments[(uintptr_t)value - 1].bytes;
}

/* As napi_get_value_string_utf8 does it: what does not fit is cut off. */
void arg_text(napi_env env, napi_value value, char *text, size_t size)
{
	(void)env;
	snprintf(text, size, "%s", (const char *)arguments[(uintptr_t)value - 1].bytes);
}

napi_value number(napi_env env, int32_t n)
{
	return (void)env, answered = n, NULL;
}

napi_status napi_create_uint32(napi_env env, uint32_t value, napi_value *result)
{
	return (void)env, answered = (int32_t)value, *result = NULL, napi_ok;
}

/* A part of the addon that a program is without. */
#define WITHOUT(part)                                        \
	void define_##part(napi_env env, napi_value exports) \
	{                                                    \
		(void)env, (void)exports;                    \
	}

napi_status napi_define_properties(napi_env env, napi_value object, size_t count, const napi_property_descriptor *properties)
{
	return (void)env, (void)object, (void)count, (void)properties, napi_ok;
}

/* ------------------------------------------------------------------------------------------------------- runs */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#ifndef LIBFUZZER
/* Of its own memory, so that one byte behind it is seen. */
static void run_input(const uint8_t *data, size_t size)
{
	uint8_t *exact = memcpy(malloc(size), data, size);
	LLVMFuzzerTestOneInput(exact, size);
	free(exact);
}

/* A file of them: one a line, in hexadecimal digits. Returns how many. */
static unsigned long run_corpus(const char *path, uint8_t *data, size_t max_bytes)
{
	FILE *file = fopen(path, "r");
	unsigned long inputs = 0;
	size_t size = 0;
	for (int high, low; file && (high = getc(file)) != EOF;) {
		if (high == '\n') {
			run_input(data, size);
			size = 0, inputs++;
		} else if ((low = getc(file)) != EOF && size < max_bytes) {
			char digits[3] = { (char)high, (char)low, 0 };
			data[size++] = (uint8_t)strtoul(digits, NULL, 16);
		}
	}
	if (!file || fclose(file) != 0)
		fail("no such corpus");
	return inputs;
}

static uint64_t dice_state;

static uint32_t dice(uint32_t sides)
{
	dice_state ^= dice_state << 13, dice_state ^= dice_state >> 7, dice_state ^= dice_state << 17;
	return (uint32_t)(dice_state >> 16) % sides;
}

/* SEED INPUTS [CORPUS]: that, and random inputs. Small numbers and those with all bits set are frequent: they are choices, and
 * edges. */
int main(int argc, char **argv)
{
	enum { MAX_BYTES = 600 };
	unsigned long inputs = argc > 2 ? strtoul(argv[2], NULL, 10) : 100000;
	uint8_t data[MAX_BYTES];
	if (argc > 3)
		printf("%lu inputs of a corpus\n", run_corpus(argv[3], data, sizeof data));
	dice_state = argc > 1 ? strtoull(argv[1], NULL, 10) * 2 + 1 : 1;
	for (unsigned long i = 0; i < inputs; i++) {
		size_t size = 1 + dice(dice(2) ? 60 : MAX_BYTES);
		for (size_t at = 0; at < size; at++) {
			uint32_t kind = dice(8);
			data[at] = (uint8_t)(kind == 0 ? 255 : kind < 4 ? dice(9) : dice(256));
		}
		run_input(data, size);
	}
	printf("%lu inputs\n", inputs);
	return 0;
}
#endif

#endif
