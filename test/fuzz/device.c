/* Calls about TAPs as devices (src/dgram-extra/tap-device.c), with a kernel that answers what it likes. native.h says how it is
 * built (npm run fuzz -- device).
 *
 * The input is a call, its arguments and the answers. Nothing is written but what the caller has room for, the kernel is asked
 * for nothing but what stands in the table, and each descriptor that is opened on the way is closed, or handed on. */
#include "native.h"

#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static int open_device(const char *path, int flags);
static int open_socket(int family, int type, int protocol);
static int close_descriptor(int fd);
static int ask_kernel(int fd, unsigned long request, ...);
static int look_at(struct stat *to);

#define open open_device
#define socket open_socket
#define close close_descriptor
#define ioctl ask_kernel
#define fstat(fd, to) look_at(to)
#define stat(path, to) look_at(to)
#include "../../src/dgram-extra/tap-device.c"
#undef open
#undef socket
#undef close
#undef ioctl
#undef fstat
#undef stat

enum { TAP = 7, OPENED = 20, NAMESPACE, SOCKET, MOST_BYTES = 64 };

static int opened;                   /* TAPs and namespaces */
static size_t answer_bytes;          /* of ethtool */
static const uint32_t *number_given; /* for tapControl; whom a device belongs to is not asked */

static int fails(void)
{
	static const int errors[] = { EPERM, EBUSY, EINVAL, ENODEV, EBADFD };
	return roll(8) == 0 ? (errno = errors[roll(5)], 1) : 0;
}

static int open_device(const char *path, int flags)
{
	if (strcmp(path, "/dev/net/tun") || flags != (O_RDWR | O_NONBLOCK | O_CLOEXEC))
		fail("another file");
	return fails() ? -1 : (opened++, OPENED);
}

static int open_socket(int family, int type, int protocol)
{
	return (void)family, (void)type, (void)protocol, fails() ? -1 : SOCKET;
}

static int close_descriptor(int fd)
{
	if (fd != OPENED && fd != NAMESPACE)
		fail("a descriptor of others is closed");
	return opened--, 0;
}

static int look_at(struct stat *to)
{
	memset(to, 0, sizeof *to);
	to->st_ino = roll(2);
	return fails() ? -1 : 0;
}

static int ask_kernel(int fd, unsigned long request, ...)
{
	va_list list;
	va_start(list, request);
	struct ifreq *argument = va_arg(list, void *);
	va_end(list);
	if (fd != (request == SIOCETHTOOL ? SOCKET : opened && request != TUNGETDEVNETNS ? OPENED : TAP))
		fail("another descriptor");
	if (request == TUNGETDEVNETNS)
		return fails() ? -1 : (opened++, NAMESPACE);
	if (request == TUNSETOFFLOAD || request == TUNSETPERSIST || request == TUNSETOWNER || request == TUNSETGROUP ||
	    request == TUNSETLINK) {
		unsigned long own = request == TUNSETOWNER ? geteuid() : getegid();
		if ((unsigned long)(uintptr_t)argument != (number_given ? *number_given : own))
			fail("another number");
		return fails() ? -1 : 0;
	}
	if (request == TUNSETIFF && (!memchr(argument->ifr_name, 0, IFNAMSIZ) || !(argument->ifr_flags & IFF_TAP)))
		fail("no TAP, or a name without an end");
	if (request == SIOCETHTOOL) {
		if (!memchr(argument->ifr_name, 0, IFNAMSIZ))
			fail("a name without an end");
		fill(argument->ifr_data, answer_bytes);
	} else {
		fill(argument, sizeof *argument); /* at most that much is its size, whatever the request */
	}
	return fails() ? -1 : 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const napi_callback calls[] = { tap_open, tap_info, tap_control, ask_ethtool };
	char name[40];
	start(data, size);
	uint32_t which = roll(4), length = roll(30);
	size_t bytes = roll(MOST_BYTES);
	uint8_t *room = malloc(bytes + (bytes == 0));
	memset(room, 0xa5, bytes);
	for (uint32_t i = 0; i < length; i++)
		name[i] = (char)('a' + roll(20));
	name[length] = 0;
	for (int i = 0; i < 3; i++)
		arguments[i].number = 0, arguments[i].bytes = NULL, arguments[i].length = 0;
	if (which == 0 || which == 3)
		arguments[0].bytes = name, arguments[1].number = (int32_t)roll(4);
	else
		arguments[0].number = TAP;
	if (which == 2)
		arguments[1].number = (int32_t)roll(30) - 3;
	arguments[which == 2 ? 2 : 1].bytes = roll(10) ? room : NULL;
	arguments[which == 2 ? 2 : 1].length = bytes;
	answer_bytes = bytes, opened = 0, number_given = which == 2 ? (const uint32_t *)(const void *)room : NULL;
	int32_t result = call(calls[which]);
	if (opened != (which == 0 && result >= 0))
		fail("a descriptor is left open, or none handed on");
	if (which == 0 && (length >= IFNAMSIZ ? result != -ENAMETOOLONG : result >= 0 && result != OPENED))
		fail("a name that was cut to fit");
	if (which == 1 && result >= 0)
		for (size_t at = IFNAMSIZ + 6; at < bytes; at++)
			if (room[at] != 0xa5)
				fail("more than name and address");
	if (which == 2 && result >= 0 && (arguments[1].number < 0 || bytes < 4 || bytes > sizeof(struct ifreq)))
		fail("a request that is none");
	free(room);
	return 0;
}
