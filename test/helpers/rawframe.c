/* rawframe - whole Ethernet frames in and out of a network device, as lines of hex digits.
 *
 *   rawframe send DEVICE [vnet]   each line of stdin is one frame; with "vnet" it starts with a virtio-net header
 *                                 (10 bytes, little-endian), so that segmentation and checksums can be asked for
 *   rawframe flood DEVICE SECONDS sends the frames of stdin, each with a virtio-net header, over and over, as fast as it can
 *   rawframe receive DEVICE       one line per frame that enters the device, until killed. A frame whose checksum
 *                                 the sender has left to the hardware is marked: " partial" behind the digits
 *
 * Says "ready" on stderr when frames will no longer be missed. The kernel takes the VLAN tag out of a received frame and
 * keeps it beside; here it is put back where it was.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { FRAME_CAP_BYTES = 66 * 1024, TAG_BYTES = 4, MACS_BYTES = 12, RECEIVE_BUFFER_BYTES = 16 << 20 };

static void die(const char *what)
{
	fprintf(stderr, "rawframe: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int open_device(const char *device, int protocol)
{
	struct sockaddr_ll address = {
		.sll_family = AF_PACKET, .sll_protocol = htons(protocol), .sll_ifindex = (int)if_nametoindex(device)
	};
	if (address.sll_ifindex == 0)
		die(device);
	/* Protocol 0 until bind: otherwise frames of every device arrive in between. */
	int fd = socket(AF_PACKET, SOCK_RAW, 0);
	if (fd < 0)
		die("socket");
	if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0)
		die("bind");
	return fd;
}

static int hex_digit(int c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Bytes written, or -1 when the line is not hex digits in pairs. */
static ssize_t decode(const char *line, uint8_t *out)
{
	ssize_t length = 0;
	for (; *line && *line != '\n'; line += 2) {
		int high = hex_digit(line[0]), low = high < 0 ? -1 : hex_digit(line[1]);
		if (low < 0 || length == FRAME_CAP_BYTES)
			return -1;
		out[length++] = (uint8_t)(high << 4 | low);
	}
	return length;
}

static int send_lines(const char *device, int with_vnet)
{
	static uint8_t frame[FRAME_CAP_BYTES];
	int fd = open_device(device, 0), failures = 0;
	if (with_vnet && setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &with_vnet, sizeof with_vnet) < 0)
		die("PACKET_VNET_HDR");
	char *line = NULL;
	size_t capacity = 0;
	fprintf(stderr, "ready\n");
	for (long number = 1; getline(&line, &capacity, stdin) > 0; number++) {
		ssize_t length = decode(line, frame);
		if (length < 0) {
			fprintf(stderr, "rawframe: line %ld is not a frame in hex\n", number);
			return 2;
		}
		if (send(fd, frame, (size_t)length, 0) < 0) {
			fprintf(stderr, "rawframe: line %ld, %zd bytes: %s\n", number, length, strerror(errno));
			failures++;
		}
	}
	free(line);
	return failures > 0;
}

static double seconds(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static int flood(const char *device, double for_seconds)
{
	struct {
		uint8_t *bytes;
		size_t length;
	} *frames = NULL;
	size_t count = 0, capacity = 0;
	char *line = NULL;
	int fd = open_device(device, 0), one = 1;
	if (setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof one) < 0)
		die("PACKET_VNET_HDR");
	for (; getline(&line, &capacity, stdin) > 0; count++) {
		static uint8_t frame[FRAME_CAP_BYTES];
		ssize_t length = decode(line, frame);
		frames = length < 0 ? NULL : realloc(frames, (count + 1) * sizeof *frames);
		if (!frames || !(frames[count].bytes = malloc((size_t)length)))
			die("a frame");
		memcpy(frames[count].bytes, frame, (size_t)length);
		frames[count].length = (size_t)length;
	}
	fprintf(stderr, "ready\n");
	for (double end = seconds() + for_seconds; count > 0 && seconds() < end;)
		for (size_t i = 0; i < count; i++)
			(void)send(fd, frames[i].bytes, frames[i].length, 0);
	return 0;
}

static void print_hex(const uint8_t *bytes, size_t length)
{
	static const char digits[] = "0123456789abcdef";
	for (size_t i = 0; i < length; i++) {
		putchar_unlocked(digits[bytes[i] >> 4]);
		putchar_unlocked(digits[bytes[i] & 15]);
	}
}

static const struct tpacket_auxdata *auxdata_of(struct msghdr *message)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c))
		if (c->cmsg_level == SOL_PACKET && c->cmsg_type == PACKET_AUXDATA)
			return (const struct tpacket_auxdata *)CMSG_DATA(c);
	return NULL;
}

static void print_frame(const uint8_t *frame, size_t length, const struct tpacket_auxdata *aux)
{
	if (aux && aux->tp_status & TP_STATUS_VLAN_VALID && length >= MACS_BYTES) {
		uint16_t tpid = aux->tp_status & TP_STATUS_VLAN_TPID_VALID ? aux->tp_vlan_tpid : ETH_P_8021Q;
		uint16_t tag[2] = { htons(tpid), htons(aux->tp_vlan_tci) };
		print_hex(frame, MACS_BYTES);
		print_hex((const uint8_t *)tag, TAG_BYTES);
		frame += MACS_BYTES;
		length -= MACS_BYTES;
	}
	print_hex(frame, length);
	puts(aux && aux->tp_status & TP_STATUS_CSUMNOTREADY ? " partial" : "");
}

static int receive_lines(const char *device)
{
	static uint8_t frame[FRAME_CAP_BYTES];
	int one = 1, capacity = RECEIVE_BUFFER_BYTES, fd = open_device(device, ETH_P_ALL);
	if (setsockopt(fd, SOL_PACKET, PACKET_AUXDATA, &one, sizeof one) < 0)
		die("PACKET_AUXDATA");
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &capacity, sizeof capacity) < 0)
		die("SO_RCVBUFFORCE");
	fprintf(stderr, "ready\n");
	for (;;) {
		char control[256];
		struct sockaddr_ll from;
		struct iovec vector = { .iov_base = frame, .iov_len = sizeof frame };
		struct msghdr message = {
			.msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &vector, .msg_iovlen = 1,
			.msg_control = control, .msg_controllen = sizeof control
		};
		ssize_t length = recvmsg(fd, &message, 0);
		if (length < 0) {
			if (errno == EINTR || errno == ENETDOWN)
				continue;
			die("recvmsg");
		}
		if (from.sll_pkttype == PACKET_OUTGOING)
			continue;
		print_frame(frame, (size_t)length, auxdata_of(&message));
		if (fflush(stdout) != 0)
			return 0;
	}
}

int main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "receive") == 0)
		return receive_lines(argv[2]);
	if (argc == 4 && strcmp(argv[1], "flood") == 0)
		return flood(argv[2], atof(argv[3]));
	if ((argc == 3 || (argc == 4 && strcmp(argv[3], "vnet") == 0)) && strcmp(argv[1], "send") == 0)
		return send_lines(argv[2], argc == 4);
	fprintf(stderr, "usage: rawframe send DEVICE [vnet] | rawframe flood DEVICE SECONDS | rawframe receive DEVICE\n");
	return 2;
}
