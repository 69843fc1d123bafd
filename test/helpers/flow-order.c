/* flow-order - numbered frames of many flows, straight into a network device, and whether those of a flow arrive in order.
 *
 *   flow-order receive DEVICE MAX-SECONDS     counts from the first frame on; ends half a second after the last one
 *   flow-order send DEVICE TO-MAC FROM-MAC FLOWS FRAMES RATE
 *                                             FRAMES of each flow, which take turns; RATE frames a second in all
 *
 * Of four flows one is UDP over IPv4, one the same with an 802.1Q tag in the frame, one with an 802.1ad tag before that, one
 * UDP over IPv6. Each prints one line of JSON.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { FLOWS_CAP = 4096, FRAME_CAP_BYTES = 256, PAYLOAD_BYTES = 32, BUFFER_BYTES = 64 << 20, QUIET_MS = 500, BURST = 32, PORT = 9 };

/* The payload. */
struct mark {
	char magic[8];
	uint32_t flow, number;
	uint8_t filler[PAYLOAD_BYTES - 16];
};

static const char MAGIC[8] = "inorder";

static void die(const char *what)
{
	fprintf(stderr, "flow-order: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int open_device(const char *device, int protocol)
{
	struct sockaddr_ll address = {
		.sll_family = AF_PACKET, .sll_protocol = htons((uint16_t)protocol), .sll_ifindex = (int)if_nametoindex(device)
	};
	int fd = socket(AF_PACKET, SOCK_RAW, 0), bytes = BUFFER_BYTES;
	if (fd < 0 || address.sll_ifindex == 0)
		die(device);
	if (setsockopt(fd, SOL_SOCKET, protocol ? SO_RCVBUFFORCE : SO_SNDBUFFORCE, &bytes, sizeof bytes) < 0 ||
	    bind(fd, (struct sockaddr *)&address, sizeof address) < 0)
		die(device);
	return fd;
}

static uint8_t *put16(uint8_t *at, unsigned value)
{
	at[0] = (uint8_t)(value >> 8), at[1] = (uint8_t)value;
	return at + 2;
}

static void put_ipv4_checksum(uint8_t *header)
{
	uint32_t sum = 0;
	for (int i = 0; i < 20; i += 2)
		sum += (uint32_t)(header[i] << 8 | header[i + 1]);
	sum = (sum & 0xffff) + (sum >> 16);
	put16(header + 10, ~(sum + (sum >> 16)) & 0xffff);
}

/* The frame of a flow up to its payload; how many bytes. */
static size_t make_header(uint8_t *frame, const uint8_t *macs, unsigned flow)
{
	unsigned kind = flow % 4, udp_bytes = 8 + PAYLOAD_BYTES;
	memcpy(frame, macs, 12);
	uint8_t *at = frame + 12;
	if (kind == 2)
		at = put16(put16(at, 0x88a8), 7);
	if (kind == 1 || kind == 2)
		at = put16(put16(at, 0x8100), 5);
	at = put16(at, kind == 3 ? 0x86dd : 0x0800);
	if (kind == 3) {
		uint8_t header[40] = { 0x60, [6] = 17, 64, 0xfd, 0x55, [23] = 1, 0xfd, 0x55, [39] = 2 };
		put16(header + 4, udp_bytes);
		memcpy(at, header, sizeof header);
		at += sizeof header;
	} else {
		uint8_t header[20] = { 0x45, [6] = 0x40, [8] = 64, 17, [12] = 10, 66, 66, 1, 10, 66, 66, 2 };
		put16(header + 2, 20 + udp_bytes);
		put_ipv4_checksum(header);
		memcpy(at, header, sizeof header);
		at += sizeof header;
	}
	at = put16(put16(at, 10000 + flow), PORT);
	at = put16(put16(at, udp_bytes), 0);
	return (size_t)(at - frame);
}

static int read_mac(const char *text, uint8_t *mac)
{
	return sscanf(text, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", mac, mac + 1, mac + 2, mac + 3, mac + 4, mac + 5) == 6;
}

static int send_flows(const char *device, const uint8_t *macs, unsigned flows, unsigned frames, double rate)
{
	static uint8_t headers[FLOWS_CAP][FRAME_CAP_BYTES];
	static size_t header_bytes[FLOWS_CAP];
	uint64_t sent = 0, tried = 0;
	int fd = open_device(device, 0);
	for (unsigned flow = 0; flow < flows; flow++)
		header_bytes[flow] = make_header(headers[flow], macs, flow);
	double start = now();
	for (unsigned number = 0; number < frames; number++) {
		for (unsigned flow = 0; flow < flows; flow++) {
			struct mark mark = { .flow = flow, .number = number };
			memcpy(mark.magic, MAGIC, sizeof mark.magic);
			memcpy(headers[flow] + header_bytes[flow], &mark, sizeof mark);
			sent += send(fd, headers[flow], header_bytes[flow] + sizeof mark, 0) > 0;
			if (++tried % BURST)
				continue;
			double ahead = start + (double)tried / rate - now();
			if (ahead > 0)
				usleep((useconds_t)(ahead * 1e6));
		}
	}
	printf("{\"sent\":%" PRIu64 "}\n", sent);
	return 0;
}

static int receive_flows(const char *device, double max_seconds)
{
	static uint32_t expected[FLOWS_CAP];
	uint64_t received = 0, disordered = 0;
	int fd = open_device(device, ETH_P_ALL);
	double end = now() + max_seconds;
	fprintf(stderr, "ready\n");
	while (now() < end) {
		uint8_t frame[2048];
		struct sockaddr_ll from;
		struct mark mark;
		socklen_t from_bytes = sizeof from;
		if (poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, QUIET_MS) == 0 && received > 0)
			break;
		ssize_t bytes = recvfrom(fd, frame, sizeof frame, MSG_DONTWAIT, (struct sockaddr *)&from, &from_bytes);
		if (bytes < (ssize_t)sizeof mark || from.sll_pkttype == PACKET_OUTGOING)
			continue;
		memcpy(&mark, frame + bytes - sizeof mark, sizeof mark);
		if (memcmp(mark.magic, MAGIC, sizeof mark.magic) != 0 || mark.flow >= FLOWS_CAP)
			continue;
		received++;
		if (mark.number < expected[mark.flow])
			disordered++;
		else
			expected[mark.flow] = mark.number + 1;
	}
	printf("{\"received\":%" PRIu64 ",\"disordered\":%" PRIu64 "}\n", received, disordered);
	return 0;
}

int main(int argc, char **argv)
{
	uint8_t macs[12];
	if (argc == 4 && strcmp(argv[1], "receive") == 0)
		return receive_flows(argv[2], atof(argv[3]));
	unsigned flows = argc == 8 ? (unsigned)strtoul(argv[5], NULL, 10) : 0;
	if (flows > 0 && flows <= FLOWS_CAP && strcmp(argv[1], "send") == 0 && read_mac(argv[3], macs) && read_mac(argv[4], macs + 6))
		return send_flows(argv[2], macs, flows, (unsigned)strtoul(argv[6], NULL, 10), atof(argv[7]));
	fprintf(stderr, "usage: flow-order receive DEVICE MAX-SECONDS | flow-order send DEVICE TO-MAC FROM-MAC FLOWS FRAMES RATE\n");
	return 2;
}
