/* plain-forwarder - the naive VXLAN data plane that varpd is measured against: what anybody would write first.
 *
 *   plain-forwarder TAP LOCAL-IP REMOTE-IP VNI [PORT]
 *
 * One thread and one epoll set. Every wake-up moves one frame: read() from the TAP and sendto() the one peer, or recv() from
 * the socket and write() to the TAP. No batches, no offloads, no virtio-net header, no table of targets.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { VXLAN_BYTES = 8, FRAME_CAP_BYTES = 65536, ETHERNET_BYTES = 14, DEFAULT_PORT = 4789, VXLAN_I_FLAG = 0x08 };

static void die(const char *what)
{
	fprintf(stderr, "plain-forwarder: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int open_tap(const char *name)
{
	struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI };
	snprintf(request.ifr_name, sizeof request.ifr_name, "%s", name);
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
	if (fd < 0 || ioctl(fd, TUNSETIFF, &request) < 0)
		die(name);
	return fd;
}

static struct sockaddr_in address_of(const char *ip, int port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	if (inet_pton(AF_INET, ip, &address.sin_addr) != 1) {
		fprintf(stderr, "plain-forwarder: not an IPv4 address: %s\n", ip);
		exit(2);
	}
	return address;
}

static void watch(int epoll, int fd)
{
	struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };
	if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0)
		die("epoll_ctl");
}

int main(int argc, char **argv)
{
	if (argc < 5) {
		fprintf(stderr, "usage: plain-forwarder TAP LOCAL-IP REMOTE-IP VNI [PORT]\n");
		return 2;
	}
	int port = argc > 5 ? atoi(argv[5]) : DEFAULT_PORT;
	uint32_t vni = (uint32_t)strtoul(argv[4], NULL, 10);
	struct sockaddr_in local = address_of(argv[2], port), remote = address_of(argv[3], port);

	int tap = open_tap(argv[1]);
	int udp = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	if (udp < 0 || bind(udp, (struct sockaddr *)&local, sizeof local) < 0)
		die("bind");
	int epoll = epoll_create1(0);
	if (epoll < 0)
		die("epoll_create1");
	watch(epoll, tap);
	watch(epoll, udp);

	static uint8_t packet[VXLAN_BYTES + FRAME_CAP_BYTES];
	const uint8_t header[VXLAN_BYTES] = {
		VXLAN_I_FLAG, 0, 0, 0, (uint8_t)(vni >> 16), (uint8_t)(vni >> 8), (uint8_t)vni, 0
	};
	for (;;) {
		struct epoll_event ready[2];
		int count = epoll_wait(epoll, ready, 2, -1);
		for (int i = 0; i < count; i++) {
			if (ready[i].data.fd == tap) {
				ssize_t length = read(tap, packet + VXLAN_BYTES, FRAME_CAP_BYTES);
				if (length <= 0)
					continue;
				memcpy(packet, header, VXLAN_BYTES);
				/* A packet that the socket does not take is lost, as on any wire. */
				(void)!sendto(udp, packet, (size_t)length + VXLAN_BYTES, 0, (struct sockaddr *)&remote, sizeof remote);
			} else {
				ssize_t length = recv(udp, packet, sizeof packet, 0);
				if (length < VXLAN_BYTES + ETHERNET_BYTES || !(packet[0] & VXLAN_I_FLAG) || memcmp(packet + 4, header + 4, 3) != 0)
					continue;
				(void)!write(tap, packet + VXLAN_BYTES, (size_t)length - VXLAN_BYTES);
			}
		}
	}
}
