/* Sends superframes as tunnel frames, for udp-send.c. tunnel-send.c has the overview. */
#ifndef DGRAM_EXTRA_TUNNEL_SEND_H
#define DGRAM_EXTRA_TUNNEL_SEND_H

#include "framed.h"

/* The source of tunnel frames, in memory that JavaScript has too. `tunnelSource` fills it. */
struct tunnel_source {
	int32_t tap;           /* the tunnel port, which takes tunnel frames */
	int32_t sent, refused; /* superframes that left as one tunnel frame, and that the tunnel port did not take */
	/* Facts about the socket that sends the other frames of the same flows. */
	int32_t family, port, ttl, has_checksum;
	uint8_t address[16]; /* 4 bytes, or 16 */
};

/* The link of the route to a destination; index 0: tunnel frames may not be sent there. */
struct tunnel_link {
	int32_t index, mtu_bytes;
};

/* Whether a superframe, which `cut` describes, may leave by this link as a tunnel frame, with the `prefix` bytes before it. */
int tunnel_fits(const struct tunnel_source *from, const union address *to, const struct tunnel_link *link,
		const struct cutter *cut, const int32_t *d, int prefix);

enum { TUNNEL_SENT, TUNNEL_BUSY, TUNNEL_REFUSED };

/* Sends such a superframe. BUSY and REFUSED: it has not left, since the tunnel port takes none now, or takes none like it. */
int tunnel_send(struct tunnel_source *from, const union address *to, const struct tunnel_link *link, const struct cutter *cut,
		const int32_t *d, int prefix);

/* Returns the source in the argument; NULL for anything else. */
struct tunnel_source *arg_tunnel_source(napi_env env, napi_value value);

void define_tunnel_send(napi_env env, napi_value exports);

#endif
