/* udp-load - many small UDP packets, and a count of those that arrive.
 *
 *   udp-load sink PORT MAX-SECONDS [QUIET-MS]      counts from the first packet on; ends so long (300) after the last one
 *   udp-load send ADDRESS[,ADDRESS]... PORT SECONDS BYTES RATE FLOWS
 *                                                  RATE packets a second, evenly in small bursts; 0: as many as can be sent;
 *                                                  the flows (source ports) take turns, and each has the next address
 *
 * Both print one line of JSON. Every packet carries its flow and its number there, so that the sink can tell loss from disorder.
 * The sink sleeps between its looks into a large socket buffer: being woken for every packet would take the processor from what
 * is measured.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	BATCH = 32,                     /* packets a system call; also the burst in which a paced sender sends */
	PACKET_CAP_BYTES = 1500,
	SINK_BUFFER_BYTES = 32 << 20,   /* the kernel doubles it, and charges about 800 bytes a packet: 80,000 packets */
	SEND_BUFFER_BYTES = 4 << 20,
	LOOK_US = 500,
	QUIET_MS = 300,                 /* unless another is given: where the stream may stop and go on */
	FLOWS_CAP = BATCH,
	ADDRESSES_CAP = FLOWS_CAP,
};

struct mark {
	uint64_t flow, number;
};

static uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void sleep_ns(uint64_t ns)
{
	struct timespec t = { .tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u) };
	nanosleep(&t, NULL);
}

static void die(const char *what)
{
	fprintf(stderr, "udp-load: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int open_socket(int option, int buffer_bytes)
{
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	if (fd < 0)
		die("socket");
	if (setsockopt(fd, SOL_SOCKET, option, &buffer_bytes, sizeof buffer_bytes) < 0)
		die("buffer size");
	return fd;
}

static uint8_t packets[BATCH][PACKET_CAP_BYTES];
static struct iovec vectors[BATCH];
static struct mmsghdr messages[BATCH];

static void prepare(size_t bytes)
{
	for (int i = 0; i < BATCH; i++) {
		vectors[i] = (struct iovec){ .iov_base = packets[i], .iov_len = bytes };
		messages[i].msg_hdr.msg_iov = &vectors[i];
		messages[i].msg_hdr.msg_iovlen = 1;
	}
}

static int sink(int port, double max_seconds, uint64_t quiet_ms)
{
	int fd = open_socket(SO_RCVBUFFORCE, SINK_BUFFER_BYTES);
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0)
		die("bind");
	prepare(PACKET_CAP_BYTES);
	fprintf(stderr, "ready\n");

	uint64_t count = 0, disordered = 0, expected[FLOWS_CAP] = { 0 }, first_ns = 0, last_ns = 0;
	uint64_t end_ns = now_ns() + (uint64_t)(max_seconds * 1e9);
	for (uint64_t now = now_ns(); now < end_ns; now = now_ns()) {
		int got = recvmmsg(fd, messages, BATCH, MSG_DONTWAIT, NULL);
		if (got <= 0) {
			if (count > 0 && now - last_ns > quiet_ms * 1000000u)
				break;
			sleep_ns(LOOK_US * 1000u);
			continue;
		}
		if (count == 0)
			first_ns = now;
		last_ns = now;
		count += (uint64_t)got;
		for (int i = 0; i < got; i++) {
			struct mark mark;
			memcpy(&mark, packets[i], sizeof mark);
			if (mark.flow >= FLOWS_CAP)
				continue;
			if (mark.number < expected[mark.flow])
				disordered++;
			else
				expected[mark.flow] = mark.number + 1;
		}
	}
	double seconds = (double)(last_ns - first_ns) / 1e9;
	printf("{\"received\":%" PRIu64 ",\"disordered\":%" PRIu64 ",\"seconds\":%.4f}\n", count, disordered, seconds);
	return 0;
}

static int open_flow(const char *ip, int port)
{
	int fd = open_socket(SO_SNDBUFFORCE, SEND_BUFFER_BYTES);
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	if (inet_pton(AF_INET, ip, &address.sin_addr) != 1) {
		fprintf(stderr, "udp-load: not an IPv4 address: %s\n", ip);
		exit(2);
	}
	if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
		die("connect");
	return fd;
}

/* One turn of a flow; how many packets the kernel took. */
static uint64_t send_burst(int fd, uint64_t flow, uint64_t first_number, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		struct mark mark = { .flow = flow, .number = first_number + i };
		memcpy(packets[i], &mark, sizeof mark);
	}
	int taken = sendmmsg(fd, messages, count, 0);
	return taken > 0 ? (uint64_t)taken : 0;
}

static int send_load(char *ips, int port, double seconds, size_t bytes, double rate, unsigned flows)
{
	int fds[FLOWS_CAP];
	uint64_t numbers[FLOWS_CAP] = { 0 };
	if (bytes < sizeof(struct mark) || bytes > PACKET_CAP_BYTES || flows < 1 || flows > FLOWS_CAP)
		return 2;
	const char *addresses[ADDRESSES_CAP];
	unsigned count = 0;
	for (char *ip = strtok(ips, ","); ip != NULL && count < ADDRESSES_CAP; ip = strtok(NULL, ","))
		addresses[count++] = ip;
	if (count == 0)
		return 2;
	for (unsigned flow = 0; flow < flows; flow++)
		fds[flow] = open_flow(addresses[flow % count], port);
	prepare(bytes);

	unsigned burst = BATCH / flows;
	uint64_t sent = 0, start_ns = now_ns(), end_ns = start_ns + (uint64_t)(seconds * 1e9), now;
	while ((now = now_ns()) < end_ns) {
		if (rate > 0) {
			uint64_t due_ns = start_ns + (uint64_t)((double)sent / rate * 1e9);
			if (due_ns > now) {
				sleep_ns(due_ns - now);
				continue;
			}
		}
		for (unsigned flow = 0; flow < flows; flow++) {
			uint64_t taken = send_burst(fds[flow], flow, numbers[flow], burst);
			numbers[flow] += taken;
			sent += taken;
		}
	}
	double took = (double)(now_ns() - start_ns) / 1e9;
	printf("{\"sent\":%" PRIu64 ",\"seconds\":%.4f}\n", sent, took);
	return 0;
}

int main(int argc, char **argv)
{
	if ((argc == 4 || argc == 5) && strcmp(argv[1], "sink") == 0)
		return sink(atoi(argv[2]), atof(argv[3]), argc == 5 ? strtoul(argv[4], NULL, 10) : QUIET_MS);
	if (argc == 8 && strcmp(argv[1], "send") == 0)
		return send_load(argv[2], atoi(argv[3]), atof(argv[4]), strtoul(argv[5], NULL, 10), atof(argv[6]),
				 (unsigned)strtoul(argv[7], NULL, 10));
	fprintf(stderr, "usage: udp-load sink PORT MAX-SECONDS [QUIET-MS] | udp-load send ADDRESS[,...] PORT SECONDS BYTES RATE FLOWS\n");
	return 2;
}
