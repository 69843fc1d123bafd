/* delay-relay - a wire with a delay: each frame that enters one of two TAPs leaves the other one so much later.
 *
 *   delay-relay TAP TAP MICROSECONDS
 *
 * Frames keep their virtio-net headers. So TCP superframes, UDP trains and superframes in a tunnel (Linux 6.17) cross whole, as
 * they do on a veth pair, with the checksums that their sender left to the device. Frames leave in the order in which they came.
 * While a way has SLOTS frames on it, no more are read, and the kernel's queue of that TAP fills. Says "ready" on stderr.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

/* <linux/if_tun.h> of older systems has neither. */
#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif
#ifndef TUN_F_UDP_TUNNEL_GSO
#define TUN_F_UDP_TUNNEL_GSO 0x080
#define TUN_F_UDP_TUNNEL_GSO_CSUM 0x100
#endif

enum {
	HEADER_BYTES = 24,              /* struct virtio_net_hdr_v1_hash_tunnel: the longest */
	FRAME_CAP_BYTES = HEADER_BYTES + 66 * 1024,
	SLOTS = 1024,                   /* 10 million frames a second at 100 us */
	BATCH = 64,                     /* frames read before those that are due leave */
	NS_PER_US = 1000,
	NS_PER_S = 1000000000,
};

struct slot {
	uint64_t due_ns;
	ssize_t length;
	uint8_t bytes[FRAME_CAP_BYTES];
};

/* One direction, and the frames on it: a ring. */
struct way {
	int from, to;
	unsigned first, count;
	struct slot slots[SLOTS];
};

static struct way ways[2];

static void die(const char *what)
{
	fprintf(stderr, "delay-relay: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

/* The TAP takes whole what this kernel can hand over. */
static int open_tap(const char *name)
{
	const unsigned tcp = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
	const unsigned trains = tcp | TUN_F_USO4 | TUN_F_USO6;
	const unsigned tunnels = trains | TUN_F_UDP_TUNNEL_GSO | TUN_F_UDP_TUNNEL_GSO_CSUM;
	struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	int header_bytes = HEADER_BYTES;
	snprintf(request.ifr_name, sizeof request.ifr_name, "%s", name);
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
	if (fd < 0 || ioctl(fd, TUNSETIFF, &request) < 0 || ioctl(fd, TUNSETVNETHDRSZ, &header_bytes) < 0)
		die(name);
	if (ioctl(fd, TUNSETOFFLOAD, tunnels) < 0 && ioctl(fd, TUNSETOFFLOAD, trains) < 0 && ioctl(fd, TUNSETOFFLOAD, tcp) < 0)
		die(name);
	return fd;
}

static void take(struct way *way, uint64_t delay_ns)
{
	for (int i = 0; i < BATCH && way->count < SLOTS; i++) {
		struct slot *slot = &way->slots[(way->first + way->count) % SLOTS];
		slot->length = read(way->from, slot->bytes, sizeof slot->bytes);
		if (slot->length < 0) {
			if (errno != EAGAIN && errno != EINTR)
				die("read");
			return;
		}
		slot->due_ns = now_ns() + delay_ns;
		way->count++;
	}
}

/* When the next one is due; UINT64_MAX when none is on the way. */
static uint64_t release(struct way *way)
{
	for (uint64_t now = now_ns(); way->count > 0; way->count--) {
		struct slot *slot = &way->slots[way->first];
		if (slot->due_ns > now)
			return slot->due_ns;
		/* A frame that the TAP does not take is lost, as on any wire. */
		(void)!write(way->to, slot->bytes, (size_t)slot->length);
		way->first = (way->first + 1) % SLOTS;
	}
	return UINT64_MAX;
}

static void wait_until(uint64_t due_ns, struct pollfd *fds)
{
	uint64_t now = now_ns(), ns = due_ns > now ? due_ns - now : 0;
	struct timespec timeout = { .tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S) };
	if (ppoll(fds, 2, due_ns == UINT64_MAX ? NULL : &timeout, NULL) < 0 && errno != EINTR)
		die("ppoll");
}

int main(int argc, char **argv)
{
	char *end;
	uint64_t delay_us = argc == 4 ? strtoul(argv[3], &end, 10) : 0;
	if (argc != 4 || end == argv[3] || *end != '\0') {
		fprintf(stderr, "usage: delay-relay TAP TAP MICROSECONDS\n");
		return 2;
	}
	int taps[2] = { open_tap(argv[1]), open_tap(argv[2]) };
	/* The kernel wakes a sleeper up to 50 us later than asked unless told otherwise. */
	if (prctl(PR_SET_TIMERSLACK, 1) < 0)
		die("PR_SET_TIMERSLACK");
	struct pollfd fds[2];
	for (int i = 0; i < 2; i++) {
		ways[i].from = fds[i].fd = taps[i];
		ways[i].to = taps[1 - i];
	}
	fprintf(stderr, "ready\n");
	for (;;) {
		uint64_t due_ns = UINT64_MAX;
		for (int i = 0; i < 2; i++) {
			uint64_t next_ns = release(&ways[i]);
			if (next_ns < due_ns)
				due_ns = next_ns;
			fds[i].events = ways[i].count < SLOTS ? POLLIN : 0;
		}
		wait_until(due_ns, fds);
		for (int i = 0; i < 2; i++)
			if (fds[i].revents != 0)
				take(&ways[i], delay_us * NS_PER_US);
	}
}
