/* What the parts of the addon share. */
#ifndef DGRAM_EXTRA_H
#define DGRAM_EXTRA_H

#include <errno.h>
#include <netinet/in.h>
#include <node_api.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

/* Read exactly `count` arguments into argv; missing ones are undefined, which the arg_ helpers read as 0 or "". */
#define ARGS(count)           \
	size_t argc = (count);    \
	napi_value argv[(count)]; \
	napi_get_cb_info(env, info, &argc, argv, NULL, NULL)

int32_t arg_int(napi_env env, napi_value value);
void *arg_bytes(napi_env env, napi_value value, size_t *bytes); /* Uint8Array or Int32Array; NULL for anything else */
void arg_text(napi_env env, napi_value value, char *text, size_t size);
napi_value number(napi_env env, int32_t n);

union address {
	struct sockaddr sa;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

/* A socket address from 16 bytes (IPv4 as v4-mapped) and a port; its length. */
socklen_t make_address(union address *to, const uint8_t *ip, int port);

/* What a socket makes of news of its paths, and which errors of it may be such (udp-errors.c). */
int set_path_options(int fd, int is_v4, int news);
int is_news(int error);

static inline int or_errno(int result)
{
	return result < 0 ? -errno : result;
}

#define EXPORT(name, function) { name, NULL, function, NULL, NULL, NULL, napi_default, NULL }

/* With a small stack, and no signals: those are for the threads of Node. 0 or an errno. */
int start_thread(pthread_t *thread, void *(*work)(void *), void *data);

/* Of all TAPs that this process has open, unless they are kept (removal.c). */
void end_all_taps(void);

/* Ends the process, if a signal has asked for it (ending.c). */
void leave_if_asked(void);

/* Add the calls of framed.h, devices.c, tap-device.c, privileges.c, system-calls.c, removal.c, ending.c and watch.c to the exports. */
void define_framed(napi_env env, napi_value exports);
void define_devices(napi_env env, napi_value exports);
void define_tap_device(napi_env env, napi_value exports);
void define_privileges(napi_env env, napi_value exports);
void define_system_calls(napi_env env, napi_value exports);
void define_removal(napi_env env, napi_value exports);
void define_ending(napi_env env, napi_value exports);
void define_watch(napi_env env, napi_value exports);

#endif
