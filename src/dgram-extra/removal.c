/*
 * Deletes many TAPs at once. The kernel waits some 20 ms whenever a TAP is closed (rcu_barrier in netdev_run_todo). So a
 * thousand TAPs, closed one after the other, would take 20 s, and meanwhile no new varpd could use their names. The kernel
 * waits only once when all links of a group are deleted, and threads that close descriptors at the same time share a wait.
 * This is written in C, since the process may end when no JavaScript runs any more (ending.c).
 */
#define _GNU_SOURCE
#include "dgram_extra.h"

#include <dirent.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* 1 = another process may have the TAPs of this process too and go on with them: they are closed, and never deleted. */
static atomic_int keeps_taps = 1;

/* Enough for a thread that waits, closes, or queues calls. glibc uses a part of it. */
#define STACK_BYTES (128 * 1024)

int start_thread(pthread_t *thread, void *(*work)(void *), void *data)
{
	sigset_t all, before;
	pthread_attr_t small;
	sigfillset(&all);
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, STACK_BYTES);
	/* The threads of Node handle signals. */
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int error = pthread_create(thread, &small, work, data);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&small);
	return error;
}

/* A TAP in this network namespace that ends with its descriptor. */
struct link {
	int index;
	char name[IFNAMSIZ];
};

static int is_in_namespace(int tap, const struct stat *own)
{
	struct stat its;
	int ns = ioctl(tap, TUNGETDEVNETNS, 0); /* before Linux 5.2: EINVAL, and the TAP is closed alone */
	if (ns < 0)
		return 0;
	int same = fstat(ns, &its) == 0 && its.st_ino == own->st_ino && its.st_dev == own->st_dev;
	close(ns);
	return same;
}

/* Finds the links among the descriptors, and returns their number. A device with several queues counts once. */
static int find_links(const int *fds, int count, int ask, struct link *links)
{
	struct stat own;
	int found = 0;
	if (stat("/proc/thread-self/ns/net", &own) < 0)
		return 0;
	for (int i = 0; i < count; i++) {
		struct ifreq request = { 0 };
		if (ioctl(fds[i], TUNGETIFF, &request) < 0 || !(request.ifr_flags & IFF_TAP) ||
		    request.ifr_flags & IFF_PERSIST || !is_in_namespace(fds[i], &own))
			continue;
		struct link *link = &links[found];
		memcpy(link->name, request.ifr_name, IFNAMSIZ);
		if (found > 0 && strncmp(links[found - 1].name, link->name, IFNAMSIZ) == 0)
			continue;
		if (ioctl(ask, SIOCGIFINDEX, &request) < 0)
			continue;
		link->index = request.ifr_ifindex;
		found++;
	}
	return found;
}

/* RTM_NEWLINK with an index puts that link into the group. RTM_DELLINK without an index deletes all links of the group. */
static int send_group(int netlink, int type, int index, uint32_t group)
{
	struct {
		struct nlmsghdr head;
		struct ifinfomsg link;
		struct rtattr attribute;
		uint32_t group;
	} request = {
		.head = { .nlmsg_len = sizeof request, .nlmsg_type = (uint16_t)type, .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK },
		.link = { .ifi_index = index },
		.attribute = { .rta_len = RTA_LENGTH(sizeof group), .rta_type = IFLA_GROUP },
		.group = group,
	};
	struct {
		struct nlmsghdr head;
		struct nlmsgerr error;
		char request[256];
	} answer;
	if (send(netlink, &request, sizeof request, 0) < 0)
		return -errno;
	/* The kernel has answered when `send` returns. */
	ssize_t got = recv(netlink, &answer, sizeof answer, MSG_DONTWAIT);
	if (got < (ssize_t)(sizeof answer.head + sizeof answer.error) || answer.head.nlmsg_type != NLMSG_ERROR)
		return -EBADMSG;
	return answer.error.error;
}

static int is_ours(const struct link *links, int count, int index, const char *name)
{
	for (int i = 0; i < count; i++)
		if (links[i].index == index)
			return strncmp(links[i].name, name, IFNAMSIZ) == 0;
	return 0;
}

/* Reads a part of a dump. Returns 1 for the last part, and -1 if the group has a member that is not among the links. */
static int look(struct nlmsghdr *message, ssize_t bytes, uint32_t group, const struct link *links, int count)
{
	for (; NLMSG_OK(message, bytes); message = NLMSG_NEXT(message, bytes)) {
		if (message->nlmsg_type == NLMSG_ERROR || message->nlmsg_flags & NLM_F_DUMP_INTR)
			return -1;
		if (message->nlmsg_type == NLMSG_DONE)
			return 1;
		if (message->nlmsg_type != RTM_NEWLINK)
			continue;
		struct ifinfomsg *info = NLMSG_DATA(message);
		const char *name = "";
		uint32_t its = 0;
		int left = (int)IFLA_PAYLOAD(message);
		for (struct rtattr *a = IFLA_RTA(info); RTA_OK(a, left); a = RTA_NEXT(a, left)) {
			if (a->rta_type == IFLA_IFNAME)
				name = RTA_DATA(a);
			else if (a->rta_type == IFLA_GROUP)
				memcpy(&its, RTA_DATA(a), sizeof its);
		}
		if (its == group && !is_ours(links, count, info->ifi_index, name))
			return -1;
	}
	return 0;
}

/* Tells whether all members of the group are among the links. */
static int is_all_ours(int netlink, uint32_t group, const struct link *links, int count)
{
	struct {
		struct nlmsghdr head;
		struct ifinfomsg link;
	} request = { .head = { .nlmsg_len = sizeof request, .nlmsg_type = RTM_GETLINK, .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP } };
	enum { PART = 65536 };
	void *part = malloc(PART);
	int seen = part && send(netlink, &request, sizeof request, 0) >= 0 ? 0 : -1;
	while (seen == 0) {
		ssize_t got = recv(netlink, part, PART, MSG_DONTWAIT);
		seen = got <= 0 ? -1 : look(part, got, group, links, count);
	}
	free(part);
	return seen > 0;
}

/* Deletes the links with one request, if it finds a group that is not in use. The caller closes the remaining ones. */
static void delete_together(const int *fds, int count)
{
	struct link *links = calloc((size_t)count, sizeof *links);
	int ask = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	uint32_t group = 0;
	if (links && ask >= 0 && netlink >= 0 && getrandom(&group, sizeof group, GRND_NONBLOCK) == sizeof group) {
		group = (group & INT32_MAX) | 1u << 30; /* a large positive number, which an operator is unlikely to use */
		int found = find_links(fds, count, ask, links), joined = 0;
		/* The group must be empty before, since its deletion would delete the links of others too. */
		if (found > 1 && is_all_ours(netlink, group, NULL, 0))
			for (int i = 0; i < found; i++)
				joined += send_group(netlink, RTM_NEWLINK, links[i].index, group) == 0;
		if (joined > 0 && is_all_ours(netlink, group, links, found))
			(void)send_group(netlink, RTM_DELLINK, 0, group);
	}
	if (netlink >= 0)
		close(netlink);
	if (ask >= 0)
		close(ask);
	free(links);
}

enum { CLOSERS = 64 };

struct closing {
	const int *fds;
	int count;
	atomic_int next;
};

static void *close_some(void *data)
{
	struct closing *c = data;
	for (int i; (i = atomic_fetch_add(&c->next, 1)) < c->count;)
		close(c->fds[i]);
	return NULL;
}

static void close_together(const int *fds, int count)
{
	struct closing c = { .fds = fds, .count = count };
	pthread_t closers[CLOSERS];
	int started = 0;
	while (started < CLOSERS && started < count - 1 && start_thread(&closers[started], close_some, &c) == 0)
		started++;
	close_some(&c);
	while (started > 0)
		pthread_join(closers[--started], NULL);
}

static void end_taps(const int *fds, int count)
{
	if (count > 1 && !atomic_load(&keeps_taps))
		delete_together(fds, count);
	close_together(fds, count);
}

/* closeTaps(fds): closes descriptors of TAPs, all in the time of one. When it returns the devices are gone, except
 * those that are persistent or that another process has as well. */
static napi_value close_taps(napi_env env, napi_callback_info info)
{
	ARGS(1);
	size_t bytes;
	int *fds = arg_bytes(env, argv[0], &bytes);
	if (!fds)
		return number(env, -EINVAL);
	end_taps(fds, (int)(bytes / sizeof *fds));
	return number(env, 0);
}

/* keepTaps(on): sets whether another process may have the TAPs of this process too. At the start it is set. */
static napi_value keep_taps(napi_env env, napi_callback_info info)
{
	ARGS(1);
	atomic_store(&keeps_taps, arg_int(env, argv[0]));
	return number(env, 0);
}

/* Finds the TAPs among the open descriptors of this process, and ends them. */
void end_all_taps(void)
{
	if (atomic_load(&keeps_taps))
		return;
	int *fds = NULL, count = 0, room = 0;
	DIR *open_files = opendir("/proc/self/fd");
	for (struct dirent *entry; open_files && (entry = readdir(open_files));) {
		struct stat its;
		int fd = atoi(entry->d_name);
		if (fd < 3 || fstat(fd, &its) < 0 || !S_ISCHR(its.st_mode) || its.st_rdev != makedev(10, 200)) /* TUN_MINOR */
			continue;
		if (count == room) {
			int *more = realloc(fds, (size_t)(room = 2 * room + 64) * sizeof *fds);
			if (!more)
				break;
			fds = more;
		}
		fds[count++] = fd;
	}
	if (open_files)
		closedir(open_files);
	end_taps(fds, count);
	free(fds);
}

void define_removal(napi_env env, napi_value exports)
{
	static const napi_property_descriptor calls[] = {
		EXPORT("closeTaps", close_taps),
		EXPORT("keepTaps", keep_taps),
	};
	napi_define_properties(env, exports, sizeof calls / sizeof *calls, calls);
}
