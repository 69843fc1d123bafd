/** Numbers of Linux's interface, by their names there; test/unit/constants.test.ts compares them with its headers. */

// sys/socket.h
export const AF_INET = 2;
export const AF_BRIDGE = 7;
export const AF_INET6 = 10;

// linux/netlink.h
export const NLMSG_ERROR = 2;
export const NLMSG_DONE = 3;
export const NLM_F_REQUEST = 0x1;
export const NLM_F_ACK = 0x4;
export const NLM_F_DUMP_INTR = 0x10;
export const NLM_F_DUMP = 0x300;
export const NLM_F_EXCL = 0x200;
export const NLM_F_CREATE = 0x400;

export const NETLINK_ROUTE = 0;
export const NETLINK_XFRM = 6;

// linux/xfrm.h: IPsec
export const XFRMNLGRP_POLICY = 4;
export const XFRM_MSG_GETSPDINFO = 37;
export const XFRMA_SPD_INFO = 1;

// linux/bpf.h
export const BPF_PROG_TYPE_SOCKET_FILTER = 1;
export const BPF_PROG_TYPE_SCHED_CLS = 3;

// linux/pkt_sched.h, linux/pkt_cls.h
export const TC_H_CLSACT = 0xffff_fff1;
export const TC_H_MIN_INGRESS = 0xfff2;
export const TCA_BPF_FD = 6;
export const TCA_BPF_NAME = 7;
export const TCA_BPF_FLAGS = 8;
export const TCA_BPF_FLAG_ACT_DIRECT = 1;

// linux/if_ether.h
export const ETH_P_ALL = 3;

// linux/rtnetlink.h: messages, and multicast groups
export const RTM_NEWLINK = 16;
export const RTM_DELLINK = 17;
export const RTM_GETLINK = 18;
export const RTM_NEWADDR = 20;
export const RTM_DELADDR = 21;
export const RTM_GETADDR = 22;
export const RTM_NEWROUTE = 24;
export const RTM_GETROUTE = 26;
export const RTM_GETNEIGH = 30;
export const RTM_NEWQDISC = 36;
export const RTM_NEWTFILTER = 44;
export const RTM_GETNSID = 90;
export const RTNLGRP_LINK = 1;
export const RTNLGRP_IPV4_IFADDR = 5;
export const RTNLGRP_IPV4_ROUTE = 7;
export const RTNLGRP_IPV4_RULE = 8;
export const RTNLGRP_IPV6_IFADDR = 9;
export const RTNLGRP_IPV6_ROUTE = 11;
export const RTNLGRP_IPV6_RULE = 19;
export const RTNLGRP_NEXTHOP = 32; // since Linux 5.3

export const TCA_KIND = 1;
export const TCA_OPTIONS = 2;

// linux/rtnetlink.h: routes
export const RTA_DST = 1;
export const RTA_SRC = 2;
export const RTA_OIF = 4;
export const RTA_GATEWAY = 5;
export const RTA_PRIORITY = 6;
export const RTA_METRICS = 8;
export const RTA_CACHEINFO = 12;
export const RTA_TABLE = 15;
export const RTA_VIA = 18;
export const RTAX_MTU = 2;
export const RTAX_ADVMSS = 8;
export const RTPROT_BOOT = 3;
export const RT_TABLE_MAIN = 254;
export const RT_SCOPE_UNIVERSE = 0;
export const RT_SCOPE_LINK = 253;
export const RTM_F_FIB_MATCH = 0x2000;
export const RTN_UNICAST = 1;
export const RTN_LOCAL = 2;

// linux/neighbour.h
export const NDA_DST = 1;
export const NDA_LLADDR = 2;
export const NDA_VLAN = 5;
export const NDA_MASTER = 9;

// linux/if_link.h
export const IFLA_ADDRESS = 1;
export const IFLA_IFNAME = 3;
export const IFLA_MTU = 4;
export const IFLA_LINK = 5;
export const IFLA_MASTER = 10;
export const IFLA_LINKINFO = 18;
export const IFLA_AF_SPEC = 26;
export const IFLA_NET_NS_FD = 28;
export const IFLA_LINK_NETNSID = 37;
export const IFLA_TARGET_NETNSID = 46;
export const IFLA_INFO_KIND = 1;
export const IFLA_INFO_DATA = 2;
export const IFLA_INET_CONF = 1;
export const IFLA_INET6_CONF = 2;
export const IFLA_INET6_ADDR_GEN_MODE = 8;
export const IN6_ADDR_GEN_MODE_EUI64 = 0;
export const IN6_ADDR_GEN_MODE_NONE = 1;
export const IFLA_VXLAN_PORT = 15;
export const IFLA_GENEVE_PORT = 5;
// Links of kind `tun`; owner and group are absent when there is none, the queues where there can be one only.
export const IFLA_TUN_OWNER = 1;
export const IFLA_TUN_GROUP = 2;
export const IFLA_TUN_NUM_QUEUES = 8;
export const IFLA_TUN_NUM_DISABLED_QUEUES = 9;

// linux/ip.h, linux/ipv6.h
export const IPV4_DEVCONF_ARP_IGNORE = 19;
export const DEVCONF_MTU6 = 2;

// linux/net_namespace.h
export const NETNSA_NSID = 1;
export const NETNSA_FD = 3;

// linux/if_addr.h
export const IFA_ADDRESS = 1;
export const IFA_LOCAL = 2;
export const IFA_BROADCAST = 4;
export const IFA_FLAGS = 8;
export const IFA_F_NODAD = 0x02;
export const IFA_F_OPTIMISTIC = 0x04;
export const IFA_F_DADFAILED = 0x08;
export const IFA_F_TENTATIVE = 0x40;

// linux/if.h, linux/if_arp.h
export const IFNAMSIZ = 16;
export const IFF_UP = 0x1;
export const IFF_LOWER_UP = 0x10000;
export const ARPHRD_ETHER = 1;

// linux/if_tun.h
export const IFF_ATTACH_QUEUE = 0x0200;
export const IFF_DETACH_QUEUE = 0x0400;
export const IFF_PERSIST = 0x0800;
export const IFF_NO_PI = 0x1000;
export const IFF_VNET_HDR = 0x4000;

// linux/ethtool.h
export const ETHTOOL_GSTRINGS = 0x1b;
export const ETHTOOL_GSSET_INFO = 0x37;
export const ETHTOOL_GFEATURES = 0x3a;
export const ETH_SS_FEATURES = 4;
export const ETH_GSTRING_LEN = 32;

// netinet/udp.h: options of UDP sockets, udp(7)
export const UDP_SEGMENT = 103;
export const UDP_GRO = 104;

// linux/capability.h
export const CAP_NET_ADMIN = 12;

// fcntl.h, which has it for programs with _GNU_SOURCE alone
export const O_PATH = 0x200000;

// linux/landlock.h
export const LANDLOCK_ACCESS_FS_EXECUTE = 0x1;
export const LANDLOCK_ACCESS_FS_WRITE_FILE = 0x2;
export const LANDLOCK_ACCESS_FS_READ_FILE = 0x4;
export const LANDLOCK_ACCESS_FS_READ_DIR = 0x8;
export const LANDLOCK_ACCESS_FS_MAKE_SYM = 0x1000; // the last one of version 1
export const LANDLOCK_ACCESS_FS_REFER = 0x2000; // since version 2, Linux 5.19
export const LANDLOCK_ACCESS_FS_TRUNCATE = 0x4000; // since version 3, Linux 6.2
export const LANDLOCK_ACCESS_FS_IOCTL_DEV = 0x8000; // since version 5, Linux 6.10
export const LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET = 0x1; // since version 6, Linux 6.12
export const LANDLOCK_SCOPE_SIGNAL = 0x2;
