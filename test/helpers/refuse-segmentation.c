/* refuse-segmentation - a kernel, or a route, that takes no message of many datagrams to one destination.
 *
 * Preloaded into a program (LD_PRELOAD), it stands before sendmmsg(2) and sendmsg(2): a message to the IPv4 address
 * REFUSE_TO that asks for segmentation (UDP_SEGMENT) fails with the errno REFUSE_ERRNO, as one fails on a route over
 * IPsec (EIO), on a device that cannot (EIO, EINVAL), or when the path has become narrower (EMSGSIZE). All else passes.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

static int is_refused(struct msghdr *message)
{
	const char *to = getenv("REFUSE_TO");
	const struct sockaddr_in *address = message->msg_name;
	if (!to || !address || address->sin_family != AF_INET || address->sin_addr.s_addr != inet_addr(to))
		return 0;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c))
		if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_SEGMENT)
			return 1;
	return 0;
}

static int refusal(void)
{
	const char *number = getenv("REFUSE_ERRNO");
	errno = number ? atoi(number) : EIO;
	return -1;
}

int sendmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags)
{
	static int (*real)(int, struct mmsghdr *, unsigned int, int);
	if (!real)
		real = (int (*)(int, struct mmsghdr *, unsigned int, int))dlsym(RTLD_NEXT, "sendmmsg");
	unsigned int good = 0;
	while (good < count && !is_refused(&messages[good].msg_hdr))
		good++;
	/* Like the kernel: those before the one that fails are sent, and the error comes when it is the first. */
	return good == 0 && count > 0 ? refusal() : real(fd, messages, good, flags);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
	static ssize_t (*real)(int, const struct msghdr *, int);
	if (!real)
		real = (ssize_t(*)(int, const struct msghdr *, int))dlsym(RTLD_NEXT, "sendmsg");
	return is_refused((struct msghdr *)message) ? refusal() : real(fd, message, flags);
}
