/* Declarations that the files of the addon share. */
#ifndef DGRAM_EXTRA_H
#define DGRAM_EXTRA_H

#include <errno.h>
#include <netinet/in.h>
#include <node_api.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

/* Reads `count` arguments into argv. A missing one is undefined, which the arg_ helpers read as 0 or "". */
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

/* Makes a socket address from 16 bytes (IPv4 as v4-mapped) and a port. Returns its length. */
socklen_t make_address(union address *to, const uint8_t *ip, int port);

/* Sets how a socket handles ICMP messages about paths; tells whether an error may come from such a message
 * (udp-errors.c). */
int set_path_options(int fd, int is_v4, int news);
int is_news(int error);

static inline int or_errno(int result)
{
	return result < 0 ? -errno : result;
}

/* linux/if_tun.h, since Linux 5.2 */
#ifndef TUNGETDEVNETNS
#define TUNGETDEVNETNS _IO('T', 227)
#endif

#define EXPORT(name, function) { name, NULL, function, NULL, NULL, NULL, napi_default, NULL }

/* Starts a thread with a small stack that gets no signals, since Node's threads handle those. Returns 0 or an errno. */
int start_thread(pthread_t *thread, void *(*work)(void *), void *data);

/* Deletes and closes all TAPs of this process, unless they are kept (removal.c). */
void end_all_taps(void);

/* Ends the process if a signal to end has come (ending.c). */
void leave_if_asked(void);

/* Each adds the functions of one file to the exports. */
void define_framed(napi_env env, napi_value exports);
void define_devices(napi_env env, napi_value exports);
void define_tap_device(napi_env env, napi_value exports);
void define_privileges(napi_env env, napi_value exports);
void define_memory(napi_env env, napi_value exports);
void define_system_calls(napi_env env, napi_value exports);
void define_removal(napi_env env, napi_value exports);
void define_ending(napi_env env, napi_value exports);
void define_watch(napi_env env, napi_value exports);

#endif
