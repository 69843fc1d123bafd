/*
 * Makes TAP devices, and sets their owner and settings. These settings belong to the device and not to a descriptor, so
 * every process with a queue of the device can change them. Control path; conventions as in dgram_extra.c.
 */
#define _GNU_SOURCE
#include "dgram_extra.h"

#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef TUNSETFILTEREBPF
#define TUNSETFILTEREBPF _IOR('T', 225, int)
#endif

enum { TAP_EXCLUSIVE = 1, TAP_MULTI_QUEUE = 2 };

/* Permits only this user in this group, or CAP_NET_ADMIN, to attach to the device. Returns 0 or -1. */
static int own(int fd)
{
	return ioctl(fd, TUNSETOWNER, (unsigned long)geteuid()) < 0 ? -1 : ioctl(fd, TUNSETGROUP, (unsigned long)getegid());
}

/* tapOpen(name, options): returns a descriptor of the TAP with that name. The TAP has virtio-net headers and belongs to
 * this process's user and group; it is made when it does not exist. Exclusive = EBUSY when a device of that name
 * exists. Multi-queue = each descriptor is a queue of its own. Any user can attach a queue before the owner is set; the
 * number of queues shows it. */
static napi_value tap_open(napi_env env, napi_callback_info info)
{
	ARGS(2);
	struct ifreq request = { 0 };
	char name[IFNAMSIZ + 1];
	arg_text(env, argv[0], name, sizeof name);
	if (strlen(name) >= IFNAMSIZ)
		return number(env, -ENAMETOOLONG); /* not cut to fit */
	strcpy(request.ifr_name, name);
	int options = arg_int(env, argv[1]);
	request.ifr_flags = (short)(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | (options & TAP_EXCLUSIVE ? IFF_TUN_EXCL : 0) |
				    (options & TAP_MULTI_QUEUE ? IFF_MULTI_QUEUE : 0));
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return number(env, -errno);
	if (ioctl(fd, TUNSETIFF, &request) < 0 || own(fd) < 0) {
		int error = -errno;
		close(fd);
		return number(env, error);
	}
	return number(env, fd);
}

/* tapInfo(fd, text): describes the device of a descriptor, in whatever namespace it is now. text[0..15] becomes its
 * name, text[16..21] its MAC. The result has the bits TAP_PERSISTENT, and TAP_HERE if the device is in the network
 * namespace of this process (always, before Linux 5.2). EBADFD when the device is gone. */
enum { TAP_PERSISTENT = 1, TAP_HERE = 2 };

static int is_here(int fd)
{
	struct stat own, its;
	int net = ioctl(fd, TUNGETDEVNETNS);
	if (net < 0)
		return 1;
	int differs = fstat(net, &its) == 0 && stat("/proc/thread-self/ns/net", &own) == 0 &&
		      (its.st_ino != own.st_ino || its.st_dev != own.st_dev);
	close(net);
	return !differs;
}

static napi_value tap_info(napi_env env, napi_callback_info info)
{
	ARGS(2);
	int fd = arg_int(env, argv[0]);
	size_t bytes;
	uint8_t *text = arg_bytes(env, argv[1], &bytes);
	struct ifreq device = { 0 }, address = { 0 };
	if (!text || bytes < IFNAMSIZ + 6)
		return number(env, -EINVAL);
	if (ioctl(fd, TUNGETIFF, &device) < 0 || ioctl(fd, SIOCGIFHWADDR, &address) < 0)
		return number(env, -errno);
	memcpy(text, device.ifr_name, IFNAMSIZ);
	memcpy(text + IFNAMSIZ, address.ifr_hwaddr.sa_data, 6);
	return number(env, (device.ifr_flags & IFF_PERSIST ? TAP_PERSISTENT : 0) | (is_here(fd) ? TAP_HERE : 0));
}

/* tapNetwork(fd): returns a descriptor of the device's network namespace (Linux 5.2). Needs CAP_NET_ADMIN there. */
static napi_value tap_network(napi_env env, napi_callback_info info)
{
	ARGS(1);
	return number(env, or_errno(ioctl(arg_int(env, argv[0]), TUNGETDEVNETNS)));
}

/* enterNetwork(fd): takes this thread, and no other, into the network namespace of a descriptor (setns(2)). */
static napi_value enter_network(napi_env env, napi_callback_info info)
{
	ARGS(1);
	return number(env, or_errno(setns(arg_int(env, argv[0]), CLONE_NEWNET)));
}

/* tapControl(fd, what, words): makes one request of linux/if_tun.h; tap-device.ts has the same numbers for them. The
 * first requests take a number, words[0]. The others take a pointer to a copy of `words` (at most a struct ifreq),
 * which is copied back. EINVAL when the kernel does not know the request or the value; EBADFD when the device is gone. */
static napi_value tap_control(napi_env env, napi_callback_info info)
{
	ARGS(3);
	static const unsigned long requests[] = {
		/* these take a number */
		TUNSETOFFLOAD, TUNSETPERSIST, TUNSETOWNER, TUNSETGROUP, TUNSETLINK,
		/* these take a pointer */
		TUNSETCARRIER, TUNSETSTEERINGEBPF, TUNSETQUEUE, TUNSETVNETHDRSZ, TUNSETVNETLE, TUNSETVNETBE, TUNSETSNDBUF,
		TUNSETFILTEREBPF, TUNSETTXFILTER, TUNDETACHFILTER, TUNGETIFF, TUNGETVNETHDRSZ, TUNGETVNETLE, TUNGETVNETBE,
		TUNGETSNDBUF, SIOCGIFHWADDR,
	};
	enum { BY_NUMBER = 5 };
	struct ifreq argument = { 0 };
	int fd = arg_int(env, argv[0]);
	unsigned what = (unsigned)arg_int(env, argv[1]);
	size_t bytes;
	uint32_t *words = arg_bytes(env, argv[2], &bytes);
	if (!words || bytes < 4 || bytes > sizeof argument || what >= sizeof requests / sizeof *requests)
		return number(env, -EINVAL);
	if (what < BY_NUMBER)
		return number(env, or_errno(ioctl(fd, requests[what], (unsigned long)*words)));
	memcpy(&argument, words, bytes);
	int result = or_errno(ioctl(fd, requests[what], &argument));
	memcpy(words, &argument, bytes);
	return number(env, result);
}

/* ethtool(name, command): reads a setting of a link in this network namespace. `command` is a struct of linux/ethtool.h
 * with room for the answer. Only the main thread may call it, since it keeps one socket. */
static napi_value ask_ethtool(napi_env env, napi_callback_info info)
{
	ARGS(2);
	struct ifreq request = { 0 };
	size_t bytes;
	arg_text(env, argv[0], request.ifr_name, sizeof request.ifr_name);
	request.ifr_data = arg_bytes(env, argv[1], &bytes);
	static int fd = -1;
	if (fd < 0)
		fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	return number(env, !request.ifr_data ? -EINVAL : or_errno(fd < 0 ? -1 : ioctl(fd, SIOCETHTOOL, &request)));
}

void define_tap_device(napi_env env, napi_value exports)
{
	static const napi_property_descriptor device[] = {
		EXPORT("tapOpen", tap_open),
		EXPORT("tapInfo", tap_info),
		EXPORT("tapNetwork", tap_network),
		EXPORT("enterNetwork", enter_network),
		EXPORT("tapControl", tap_control),
		EXPORT("ethtool", ask_ethtool),
	};
	napi_define_properties(env, exports, sizeof device / sizeof *device, device);
}
