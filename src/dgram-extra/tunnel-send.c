/*
 * Sends superframes of TCP to the underlay as tunnel frames: the superframe stays whole behind its outer headers, and the
 * device of the route cuts it, or hands it on as it is. Only a TAP takes such frames (Linux 6.17): varpd has one of its own,
 * the tunnel port. A tc program at its ingress sends each frame to the link that the frame names (tunnel-program.ts).
 *
 *   | Ethernet: source 02:00 and the index of the link | IP | UDP | tunnel header | superframe |
 */
#define _GNU_SOURCE
#include "tunnel-send.h"
#include "offload-bytes.h"
#include "virtio-net.h"

#include <netinet/udp.h>
#include <poll.h>
#include <sys/uio.h>

#ifndef UDP_NO_CHECK6_TX
#define UDP_NO_CHECK6_TX 101
#endif

enum { ETHERNET = 14, IPV4 = 20, IPV6 = 40, UDP_HEADER = 8, MAX_OUTER = ETHERNET + IPV6 + UDP_HEADER, MAX_IP = 65535 };

/* Superframes of more segments leave as trains, which wait when the device is busy. A guest can make 60,000 of one. */
#define MAX_TUNNEL_SEGMENTS 128
/* Wait while frames of the tunnel port still wait for their devices. */
#define TUNNEL_WAIT_MS 10

/* Writes the outer headers of a frame with so many bytes behind them. Returns their bytes. The checksum field gets the sum
 * over the pseudo header, as the kernel wants it (TUNNEL_CSUM). */
static size_t put_outer(const struct tunnel_source *from, const union address *to, int32_t link, int tos, size_t bytes,
			uint8_t *header)
{
	int is_v4 = from->family == AF_INET;
	struct layout at = { .l3 = ETHERNET, .l4 = (uint16_t)(ETHERNET + (is_v4 ? IPV4 : IPV6)), .protocol = UDP, .is_v4 = (uint8_t)is_v4 };
	uint8_t *ip = header + at.l3, *udp = header + at.l4;
	size_t udp_bytes = UDP_HEADER + bytes;
	memset(header, 0, at.l4 + UDP_HEADER);
	/* Not the address of the tunnel port: if the program is removed from it, the host's stack takes no frame. */
	header[0] = 2, header[5] = 1;
	header[6] = 2;
	put32(header + 8, (uint32_t)link);
	put16(header + 12, is_v4 ? 0x0800 : 0x86dd);
	if (is_v4) {
		ip[0] = 0x45, ip[1] = (uint8_t)tos;
		put16(ip + 6, 0x4000); /* don't fragment */
		ip[8] = (uint8_t)from->ttl, ip[9] = UDP;
		memcpy(ip + 12, from->address, 4);
		memcpy(ip + 16, &to->v4.sin_addr, 4);
	} else {
		put32(ip, 6u << 28 | (uint32_t)(tos & 0xff) << 20);
		ip[6] = UDP, ip[7] = (uint8_t)from->ttl;
		memcpy(ip + 8, from->address, 16);
		memcpy(ip + 24, &to->v6.sin6_addr, 16);
	}
	put_ip_length(header, &at, udp_bytes);
	put16(udp, (uint16_t)from->port);
	memcpy(udp + 2, is_v4 ? &to->v4.sin_port : &to->v6.sin6_port, 2);
	put16(udp + 4, (uint16_t)udp_bytes);
	if (from->has_checksum)
		put_sum(udp + UDP_CHECKSUM, pseudo_sum(header, &at, udp_bytes));
	return at.l4 + UDP_HEADER;
}

/* The tunnel port does not check the MTU of the link, so this is the only check. In the tunnel the kernel finds the kind of IP in
 * the packet itself, and sums words from its outer headers on. */
int tunnel_fits(const struct tunnel_source *from, const union address *to, const struct tunnel_link *link,
		const struct cutter *cut, const int32_t *d, int prefix)
{
	int type = d[GSO_TYPE] & ~GSO_ECN;
	int version = cut->frame[cut->at.l3] >> 4;
	size_t outer = (from->family == AF_INET ? IPV4 : IPV6) + UDP_HEADER + (size_t)prefix;
	return (type == GSO_TCPV4 || type == GSO_TCPV6) && d[FLAGS] & NEEDS_CSUM && to->sa.sa_family == from->family &&
	       version == (cut->at.is_v4 ? 4 : 6) && cut->at.l4 % 2 == 0 &&
	       outer + cut->length <= MAX_IP && cut_count(cut) <= MAX_TUNNEL_SEGMENTS &&
	       outer + cut->at.payload + cut->segment_bytes <= (size_t)link->mtu_bytes;
}

int tunnel_send(struct tunnel_source *from, const union address *to, const struct tunnel_link *link, const struct cutter *cut,
		const int32_t *d, int prefix)
{
	uint8_t outer[MAX_OUTER];
	size_t outer_bytes = put_outer(from, to, link->index, d[TOS], (size_t)prefix + cut->length, outer);
	size_t base = outer_bytes + (size_t)prefix;
	struct virtio_net_hdr header = {
		.flags = NEEDS_CSUM | (from->has_checksum ? TUNNEL_CSUM : 0),
		.gso_type = (uint8_t)(d[GSO_TYPE] | (from->family == AF_INET ? GSO_TUNNEL_V4 : GSO_TUNNEL_V6)),
		.hdr_len = (uint16_t)(base + cut->at.payload),
		.gso_size = (uint16_t)d[GSO_SIZE],
		.csum_start = (uint16_t)(base + cut->at.l4),
		.csum_offset = cut->at.checksum,
		.outer_l4 = (uint16_t)(outer_bytes - UDP_HEADER),
		.inner_l3 = (uint16_t)(base + cut->at.l3),
	};
	struct iovec vecs[] = {
		{ &header, sizeof header },
		{ outer, outer_bytes },
		{ (void *)(cut->frame - prefix), (size_t)prefix + cut->length },
	};
	ssize_t written = writev(from->tap, vecs, 3);
	if (written < 0 && errno == EAGAIN) {
		poll(&(struct pollfd){ .fd = from->tap, .events = POLLOUT }, 1, TUNNEL_WAIT_MS);
		written = writev(from->tap, vecs, 3);
	}
	if (written >= 0) {
		from->sent++;
		return TUNNEL_SENT;
	}
	/* EIO: the tunnel port is down, since tunnel frames may not be sent now (tunnel-port.ts). */
	if (errno == EAGAIN || errno == EIO || errno == ENOMEM || errno == ENOBUFS)
		return TUNNEL_BUSY;
	from->refused++;
	return TUNNEL_REFUSED;
}

struct tunnel_source *arg_tunnel_source(napi_env env, napi_value value)
{
	size_t bytes;
	void *source = arg_bytes(env, value, &bytes);
	return source && bytes >= sizeof(struct tunnel_source) ? source : NULL;
}

static int get_int(int fd, int level, int name)
{
	int value = -1;
	socklen_t length = sizeof value;
	return getsockopt(fd, level, name, &value, &length) < 0 ? -1 : value;
}

/* tunnelSource(source, tap, fd): fills `source`, 11 words, for the tunnel port and a socket: tunnel frames get the address,
 * port, TTL and kind of checksum that datagrams of this socket have. EINVAL if the socket has no address of its own. */
static napi_value tunnel_source(napi_env env, napi_callback_info info)
{
	ARGS(3);
	static const uint8_t any[16];
	struct tunnel_source *source = arg_tunnel_source(env, argv[0]);
	int fd = arg_int(env, argv[2]);
	union address own;
	socklen_t length = sizeof own;
	if (!source)
		return number(env, -EINVAL);
	if (getsockname(fd, &own.sa, &length) < 0)
		return number(env, -errno);
	int is_v4 = own.sa.sa_family == AF_INET;
	*source = (struct tunnel_source){
		.tap = arg_int(env, argv[1]), .family = own.sa.sa_family,
		.port = ntohs(is_v4 ? own.v4.sin_port : own.v6.sin6_port),
		.ttl = is_v4 ? get_int(fd, IPPROTO_IP, IP_TTL) : get_int(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS),
		.has_checksum = !(is_v4 ? get_int(fd, SOL_SOCKET, SO_NO_CHECK) : get_int(fd, IPPROTO_UDP, UDP_NO_CHECK6_TX)),
	};
	if (is_v4)
		memcpy(source->address, &own.v4.sin_addr, 4);
	else
		memcpy(source->address, &own.v6.sin6_addr, 16);
	int is_known = source->ttl > 0 && memcmp(source->address, any, sizeof any) != 0;
	return number(env, is_known ? 0 : -EINVAL);
}

void define_tunnel_send(napi_env env, napi_value exports)
{
	static const napi_property_descriptor tunnel[] = { EXPORT("tunnelSource", tunnel_source) };
	napi_define_properties(env, exports, sizeof tunnel / sizeof *tunnel, tunnel);
}
