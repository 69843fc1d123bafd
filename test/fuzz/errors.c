/* What the kernel tells of the error queue of a socket, through what makes news of it (src/dgram-extra/udp-errors.c). native.h
 * says how it is built (npm run fuzz -- errors).
 *
 * The input is a call and its answer: messages with any address, any control messages, whole or cut off where there was no more
 * room (MSG_CTRUNC), and any quotation (MSG_TRUNC). Some are made as Linux makes them, others are bytes alone. Each input runs
 * twice, with other garbage where nothing was written: no news may come of that. What the messages say is read a second time
 * here, another way. */
#include "native.h"

#include <sys/socket.h>

static int receive_errors(int fd, struct mmsghdr *msgs, unsigned count, int flags, struct timespec *timeout);
static int clear_error(int fd, int level, int option, void *value, socklen_t *length);

#define recvmmsg receive_errors
#define getsockopt clear_error
#include "../../src/dgram-extra/udp-errors.c"
#undef recvmmsg
#undef getsockopt

enum { CONTROL_ROOM = 256, NAME_BYTES = sizeof(struct sockaddr_in6), UNTOUCHED = 0x5aa55aa5 };

/* What was written of one message. */
struct told {
	uint8_t control[CONTROL_ROOM], name[NAME_BYTES], quote[QUOTE_BYTES];
	size_t control_bytes, name_bytes, quote_bytes;
};

static struct told messages[MAX_ERRORS];
static uint8_t *quotes;
static int32_t asked;
static int garbage, refusals, refusal, got, cleared;

/* As put_cmsg of the kernel does it (net/core/scm.c): cut off where there is no more room, and the rest is left out. */
static void put_message(struct told *told, size_t room, int level, int type, const void *value, size_t bytes)
{
	struct cmsghdr header = { .cmsg_len = CMSG_LEN(bytes), .cmsg_level = level, .cmsg_type = type };
	size_t left = room - told->control_bytes, space = CMSG_SPACE(bytes);
	if (left < sizeof header)
		return;
	if (header.cmsg_len > left)
		header.cmsg_len = left;
	memcpy(told->control + told->control_bytes, &header, sizeof header);
	memcpy(told->control + told->control_bytes + sizeof header, value, header.cmsg_len - sizeof header);
	told->control_bytes += space < left ? space : left;
}

/* An error as Linux tells it, behind what else a socket may have asked for. */
static void put_error(struct told *told, uint32_t how)
{
	struct {
		struct sock_extended_err error;
		uint8_t offender[NAME_BYTES];
	} told_error;
	int is_v4 = how & 1, other = (int)byte();
	size_t room = how & 8 ? byte() : CONTROL_ROOM;
	memset(&told_error, 0, sizeof told_error);
	if (how & 16)
		put_message(told, room, is_v4 ? IPPROTO_IP : IPPROTO_IPV6, is_v4 ? IP_TOS : IPV6_TCLASS, &other, is_v4 ? 1 : 4);
	fill(&told_error.error, sizeof told_error.error);
	if (how & 32) { /* too big */
		told_error.error.ee_origin = is_v4 ? SO_EE_ORIGIN_ICMP : SO_EE_ORIGIN_ICMP6;
		told_error.error.ee_type = is_v4 ? ICMP_DEST_UNREACH : ICMPV6_PACKET_TOO_BIG;
		told_error.error.ee_code = is_v4 ? ICMP_FRAG_NEEDED : 0;
	}
	size_t offender = is_v4 ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
	put_message(told, room, is_v4 ? IPPROTO_IP : IPPROTO_IPV6, is_v4 ? IP_RECVERR : IPV6_RECVERR, &told_error,
		    sizeof told_error.error + offender);
	if (how & 128) { /* of a length that is not so */
		size_t says = word(), first = how & 16 ? CMSG_SPACE(is_v4 ? 1 : 4) : 0;
		if (told->control_bytes >= first + sizeof says)
			memcpy(told->control + first, &says, sizeof says);
	}
}

static void make(struct told *told)
{
	uint32_t how = byte();
	memset(told, 0, sizeof *told);
	if (how & 2) {
		told->name_bytes = byte() % (NAME_BYTES + 1);
		fill(told->name, told->name_bytes);
	} else {
		sa_family_t family = how & 1 ? AF_INET : AF_INET6;
		told->name_bytes = how & 64 ? 0 : how & 1 ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
		fill(told->name, told->name_bytes);
		memcpy(told->name, &family, told->name_bytes ? sizeof family : 0);
	}
	if (how & 4) {
		told->control_bytes = byte() + (how & 8 ? 1 : 0);
		fill(told->control, told->control_bytes);
	} else {
		put_error(told, how);
	}
	told->quote_bytes = byte() % (QUOTE_BYTES + 1);
	fill(told->quote, told->quote_bytes);
}

static int receive_errors(int fd, struct mmsghdr *msgs, unsigned count, int flags, struct timespec *timeout)
{
	if (fd != 7 || timeout || flags != (MSG_ERRQUEUE | MSG_DONTWAIT) || count < 1 || (int)count > asked)
		fail("not what was asked for");
	for (unsigned i = 0; i < count; i++) {
		struct msghdr *msg = &msgs[i].msg_hdr;
		if (msg->msg_namelen != NAME_BYTES || msg->msg_controllen != CONTROL_ROOM || msg->msg_iovlen != 1 ||
		    msg->msg_iov->iov_base != quotes + (size_t)i * QUOTE_BYTES || msg->msg_iov->iov_len != QUOTE_BYTES)
			fail("no room, or that of another");
		memset(msg->msg_name, garbage, NAME_BYTES);
		memset(msg->msg_control, garbage, CONTROL_ROOM);
	}
	if (refusals > 0)
		return refusals--, errno = refusal, -1;
	int most = 1 + (int)(byte() % count);
	for (got = 0; got < most && (got == 0 || input_bytes > 0); got++) {
		struct msghdr *msg = &msgs[got].msg_hdr;
		struct told *told = &messages[got];
		make(told);
		memcpy(msg->msg_name, told->name, told->name_bytes);
		memcpy(msg->msg_control, told->control, told->control_bytes);
		memcpy(msg->msg_iov->iov_base, told->quote, told->quote_bytes);
		msg->msg_namelen = (socklen_t)told->name_bytes;
		msg->msg_controllen = told->control_bytes;
		msg->msg_flags = MSG_ERRQUEUE | (int)(byte() & (MSG_TRUNC | MSG_CTRUNC));
		msgs[got].msg_len = (unsigned)told->quote_bytes;
	}
	return got;
}

static int clear_error(int fd, int level, int option, void *value, socklen_t *length)
{
	if (fd != 7 || level != SOL_SOCKET || option != SO_ERROR || *length != sizeof(int))
		fail("another option");
	*(int *)value = EMSGSIZE;
	cleared++;
	return 0;
}

/* The size that a message tells of, -1 for none, by its bytes alone. Where the last control message ends with no room for its
 * padding, what the C library makes of it is its own matter: `*either`. */
static int64_t size_of(const struct told *told, int *either)
{
	sa_family_t family = 0;
	*either = 0;
	if (told->name_bytes >= sizeof family)
		memcpy(&family, told->name, sizeof family);
	if (!(family == AF_INET && told->name_bytes >= sizeof(struct sockaddr_in)) &&
	    !(family == AF_INET6 && told->name_bytes >= sizeof(struct sockaddr_in6)))
		return -1;
	for (size_t at = 0; told->control_bytes - at >= sizeof(struct cmsghdr);) {
		struct cmsghdr header;
		struct sock_extended_err error;
		memcpy(&header, told->control + at, sizeof header);
		size_t room = told->control_bytes - at;
		if (header.cmsg_len < sizeof header || header.cmsg_len > room)
			return -1;
		size_t whole = (header.cmsg_len + 7) & ~(size_t)7;
		if (((header.cmsg_level == 0 && header.cmsg_type == 11) || (header.cmsg_level == 41 && header.cmsg_type == 25)) &&
		    header.cmsg_len >= sizeof header + sizeof error) {
			memcpy(&error, told->control + at + sizeof header, sizeof error);
			*either = whole > room;
			if ((error.ee_origin == 2 && error.ee_type == 3 && error.ee_code == 4) ||
			    (error.ee_origin == 3 && error.ee_type == 2))
				return error.ee_info > INT32_MAX ? INT32_MAX : error.ee_info;
		}
		if (whole > room)
			return -1;
		at += whole;
	}
	return -1;
}

static void expect_peer(const int32_t *news, const struct told *told)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	const uint8_t *address = (const uint8_t *)(news + NEWS_ADDRESS), *name = told->name;
	int is_v4 = (name[0] | name[1] << 8) == AF_INET;
	if (news[NEWS_PORT] != (name[2] << 8 | name[3]))
		fail("another port");
	if (is_v4 ? memcmp(address, mapped, 12) || memcmp(address + 12, name + 4, 4) : memcmp(address, name + 8, 16))
		fail("another address");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const int errors[] = { EAGAIN, EMSGSIZE, ECONNREFUSED, EHOSTUNREACH, EPROTO, ENOMEM, EBADF };
	int32_t *kept = NULL, first = 0;
	for (int again = 0; again < 2; again++) {
		start(data, size);
		asked = (int32_t)byte() - 2;
		uint32_t how = byte(), failures = how & 8 ? byte() % (NEWS_TRIES + 2) : 0;
		size_t room = asked < 1 ? 1 : asked > MAX_ERRORS ? MAX_ERRORS : (size_t)asked;
		size_t news_bytes = room * NEWS_WORDS * 4 - (how & 1 ? 1 : 0), quote_bytes = room * QUOTE_BYTES - (how & 2 ? 1 : 0);
		int32_t *news = malloc(news_bytes + (how & 1)); /* words: what is told is one byte less, not what is there */
		quotes = memset(malloc(quote_bytes), 0xa5, quote_bytes);
		for (size_t i = 0; i < room * NEWS_WORDS; i++)
			news[i] = UNTOUCHED;
		arguments[0].number = 7, arguments[3].number = asked;
		arguments[1].bytes = how & 4 ? NULL : news, arguments[1].length = news_bytes;
		arguments[2].bytes = quotes, arguments[2].length = quote_bytes;
		garbage = again ? 0x00 : 0xff, refusals = (int)failures, refusal = errors[byte() % 7], got = cleared = 0;
		int32_t result = call(udp_errors);
		if (asked < 1 || how & 7) {
			if (result != -EINVAL || got)
				fail("no room, and no refusal");
		} else if (got == 0) {
			if (refusals == 0 && failures < NEWS_TRIES && is_news(refusal))
				fail("news of others kept it from its own");
			if (result != (refusal == EAGAIN ? 0 : -refusal))
				fail("another error");
		} else if (result != got) {
			fail("more or less than there was");
		}
		if (result >= 0 && (size_t)result < room && !cleared)
			fail("an error that epoll would tell of for ever");
		for (int i = 0; i < got; i++) {
			const int32_t *each = news + (size_t)i * NEWS_WORDS;
			int either;
			int64_t expected = size_of(&messages[i], &either);
			if (each[NEWS_MTU] != expected && !(either && each[NEWS_MTU] == -1))
				fail("another size");
			if (each[NEWS_MTU] >= 0)
				expect_peer(each, &messages[i]);
			if (each[NEWS_QUOTED] != (int32_t)messages[i].quote_bytes)
				fail("another quotation");
			if (each[NEWS_KIND] && each[NEWS_PORT] < 0)
				fail("a destination that is not known");
		}
		for (size_t i = (size_t)got * NEWS_WORDS; i < room * NEWS_WORDS; i++)
			if (news[i] != UNTOUCHED)
				fail("news of nothing");
		if (again && (result != first || memcmp(news, kept, room * NEWS_WORDS * 4) != 0))
			fail("news of what nobody wrote");
		free(quotes);
		free(kept);
		kept = news, first = result;
	}
	free(kept);
	return 0;
}
