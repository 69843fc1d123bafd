// Facts that are spelled twice, because C and TypeScript have no source in common: both spellings say the same.

import { readFileSync } from 'node:fs';
import { constants } from 'node:os';
import t from 'tap';

import { errnoName, RING_WORDS, TUN_F } from '../../src/dgram-extra/index.js';
import { IFADDR_BYTES, IFINFO_BYTES } from '../../src/dgram-extra/rtnetlink.js';
import * as kernel from '../../src/dgram-extra/kernel-numbers.js';
import { ERRNO } from '../../src/wire/errno.js';
import { fromRoot, skipUnless } from '../helpers/need.js';
import { run } from '../helpers/process.js';

type Constants = ReadonlyMap<string, number>;

const withoutComments = (text: string): string => text.replace(/\/\*.*?\*\/|\/\/[^\n]*/gs, '');
const read = (file: string): string => withoutComments(readFileSync(fromRoot(file), 'utf8'));

/** `16`, `0x10`, `65_536`, `-1`, `1 << 30`, `(1 << 30)`; undefined for anything else. */
function valueOf(text: string): number | undefined {
  const match = /^\(?(-?(?:0x[\da-f]+|\d+))(?: << (\d+))?\)?$/i.exec(text.trim().replaceAll('_', ''));
  if (match === null) return undefined;
  const [, base, shift = '0'] = match;
  return Number(base) << Number(shift);
}

/** Of `#define` and `enum`. */
function constantsOfC(text: string): Constants {
  const found = new Map<string, number>();
  for (const [, name, value] of text.matchAll(/^#define (\w+)[ \t]+(.+)$/gm)) {
    const number = valueOf(value);
    if (number !== undefined) found.set(name, number);
  }
  for (const [, members] of text.matchAll(/\benum\s*\w*\s*\{([^}]*)\}/g)) {
    let next = 0;
    for (const member of members.split(',').filter((each) => each.trim() !== '')) {
      const [name, value = ''] = member.split('=').map((part) => part.trim());
      if (value !== '') next = valueOf(value) ?? NaN;
      found.set(name, next++);
    }
  }
  return found;
}

/** Of `const NAME = value` and of the members of a constant object. */
function constantsOfTypeScript(text: string): Constants {
  const found = new Map<string, number>();
  for (const [, name, value] of text.matchAll(/\b([A-Z][A-Z\d_]*)(?: =|:) (-?[\dA-Fa-fx_]+(?: << \d+)?)/g)) {
    const number = valueOf(value);
    if (number !== undefined) found.set(name, number);
  }
  return found;
}

t.test('constants are found', (t) => {
  const c = withoutComments(
    '#define A 16 /* a */\n#define B (1 << 30)\nenum x { C, D = 4, E,\n F = 0x10 };\n#define G f(1)',
  );
  t.strictSame(
    [...constantsOfC(c)],
    [['A', 16], ['B', 2 ** 30], ['C', 0], ['D', 4], ['E', 5], ['F', 16]], // prettier-ignore
  );
  const typescript =
    'const A = 1 << 30;\nexport const B = 0x4000_0000;\nconst C = { D: 1, E_F: 0x20 } as const;';
  t.strictSame(
    [...constantsOfTypeScript(typescript)],
    [['A', 2 ** 30], ['B', 2 ** 30], ['D', 1], ['E_F', 32]], // prettier-ignore
  );
  t.end();
});

interface Pair {
  readonly c: string;
  readonly typescript: string;
  /** In both by one name, or by two: `HEADROOM HEADROOM_BYTES`. */
  readonly names: readonly string[];
}

const DESCRIPTOR =
  'OFFSET LENGTH FLAGS GSO_TYPE GSO_SIZE HEADER_BYTES CSUM_START CSUM_OFFSET ADDRESS OUTER_L4 INNER_L3 PORT TOS SEGMENT RUN_END';

const PAIRS: readonly Pair[] = [
  {
    c: 'framed.h',
    typescript: 'wire/descriptor.ts',
    names: [
      ...DESCRIPTOR.split(' '),
      'DESC_WORDS DESCRIPTOR_WORDS',
      'HEADROOM HEADROOM_BYTES',
      'MAX_FRAME MAX_FRAME_BYTES',
    ],
  },
  {
    c: 'udp-errors.c',
    typescript: 'wire/path-news.ts',
    names: [
      'NEWS_ADDRESS ADDRESS',
      'NEWS_PORT PORT',
      'NEWS_MTU BYTES',
      'NEWS_QUOTED QUOTED',
      'NEWS_KIND KIND',
      'NEWS_SENDER SENDER',
      'IS_V6',
      'NEWS_WORDS',
      'QUOTE_BYTES',
    ],
  },
  {
    c: 'offload.h',
    typescript: 'wire/virtio-net.ts',
    names: [
      'NEEDS_CSUM NEEDS_CHECKSUM',
      'TUNNEL_CSUM TUNNEL_CHECKSUM',
      'GSO_NONE',
      'GSO_TCPV4',
      'GSO_TCPV6',
      'GSO_UDP_L4',
      'GSO_ECN',
      'GSO_TUNNEL_V4',
      'GSO_TUNNEL_V6',
    ],
  },
  { c: 'tap.c', typescript: 'core/outputs.ts', names: ['STRIP_TAG', 'APART KEEP_APART', 'NESTED'] },
  { c: 'tap.c', typescript: 'io/memory.ts', names: ['STRIP_TAG'] },
  { c: 'tap.c', typescript: 'datapath/userland/thread/port-turn.ts', names: ['MANY TURN_SEGMENTS'] },
  { c: 'framed.h', typescript: 'core/outputs.ts', names: ['REFUSED', 'JOINED_SHIFT'] },
  { c: 'udp-receive.c', typescript: 'io/linux.ts', names: ['AMBIGUOUS'] },
  { c: 'dgram_extra.c', typescript: 'datapath/userland/thread/worker.ts', names: ['HAS_ERRORS'] },
  { c: 'offload.h', typescript: 'datapath/userland/thread/worker.ts', names: ['MAX_TRAIN MAX_RUN'] },
  {
    c: 'devices.c',
    typescript: 'dgram-extra/index.ts',
    names: [
      'REUSE_PORT',
      'ZERO_CHECKSUM_TX',
      'ZERO_CHECKSUM_RX',
      'SEND_ONLY',
      'COALESCE',
      'ADMIT_OTHERS',
      'FREE_BIND',
      'PATH_NEWS',
    ],
  },
  {
    c: 'tap-device.c',
    typescript: 'dgram-extra/tap-device.ts',
    names: ['TAP_EXCLUSIVE', 'TAP_MULTI_QUEUE', 'TAP_PERSISTENT', 'TAP_HERE'],
  },
];

for (const { c, typescript, names } of PAIRS)
  t.test(`${c} and ${typescript}`, (t) => {
    const native = constantsOfC(read(`src/dgram-extra/${c}`));
    const ours = constantsOfTypeScript(read(`src/${typescript}`));
    for (const both of names) {
      const [name, own = name] = both.split(' ');
      t.type(native.get(name), 'number', name);
      t.equal(ours.get(own), native.get(name), both);
    }
    t.end();
  });

t.test('descriptors have the same words in both, and no other', (t) => {
  const enums = [...read('src/dgram-extra/framed.h').matchAll(/\benum\s*\{([^}]*)\}/g)];
  const words = enums[0][1].split(',').map((member) => member.split('=')[0].trim());
  t.strictSame(
    words.filter((word) => word !== '' && word !== 'DESC_WORDS'),
    DESCRIPTOR.split(' '),
  );
  t.end();
});

t.test('requests of TAPs have one order', (t) => {
  const listOf = (text: string, pattern: RegExp): string[] =>
    [...pattern.exec(text)![1].matchAll(/\b[A-Z]{4,}\w*/g)].map(([name]) => name);
  const ours = listOf(read('src/dgram-extra/tap-device.ts'), /const REQUESTS = \[([^\]]*)\]/);
  const native = listOf(read('src/dgram-extra/tap-device.c'), /requests\[\] = \{([^}]*)\}/);
  t.ok(ours.length > 20);
  t.strictSame(ours, native);
  t.end();
});

t.test('errors have the numbers that Node knows, and the names of the kernel', (t) => {
  for (const [name, number] of Object.entries(ERRNO)) {
    const known = (constants.errno as Record<string, number | undefined>)[name];
    if (known !== undefined) t.equal(number, known, name);
    // Node's name for it, where that is another.
    if (name !== 'ENOTSUP') t.equal(errnoName(-number), name);
  }
  t.equal(errnoName(-constants.errno.EXDEV), 'EXDEV', 'one that is not in the table');
  t.end();
});

const HEADERS = [
  'errno.h',
  'fcntl.h',
  'netinet/in.h',
  'sys/socket.h',
  'sys/types.h',
  'linux/bpf.h',
  'linux/capability.h',
  'linux/ethtool.h',
  'linux/if.h',
  'linux/if_addr.h',
  'linux/if_arp.h',
  'linux/if_ether.h',
  'linux/if_link.h',
  'linux/if_tun.h',
  'linux/io_uring.h',
  'linux/ip.h',
  'linux/ipv6.h',
  'linux/neighbour.h',
  'linux/net_namespace.h',
  'linux/landlock.h',
  'linux/netlink.h',
  'linux/pkt_cls.h',
  'linux/pkt_sched.h',
  'linux/rtnetlink.h',
  'linux/udp.h',
  'linux/xfrm.h',
];

/** Constants that the headers of Linux 6.1, which Debian 12 has, lack. */
const NEWER =
  /'(?:LANDLOCK_(?:ACCESS_FS_(?:IOCTL_DEV|TRUNCATE)|SCOPE_\w+)|TUN_F_(?:USO[46]|UDP_TUNNEL_\w+))'/;

t.test("numbers of Linux are its headers'", { skip: skipUnless({ programs: ['cc'] }) }, async (t) => {
  const numbers = {
    ...kernel,
    ...ERRNO,
    ...Object.fromEntries(Object.entries(TUN_F).map(([name, flag]) => [`TUN_F_${name}`, flag])),
  };
  const sizes = {
    'struct ifinfomsg': IFINFO_BYTES,
    'struct ifaddrmsg': IFADDR_BYTES,
    'struct io_uring_params': RING_WORDS * 4,
  };
  const facts = [
    ...Object.entries(numbers).map(([name, number]) => `${name} == ${number}`),
    ...Object.entries(sizes).map(([name, bytes]) => `sizeof(${name}) == ${bytes}`),
  ];
  const source = [
    '#define _GNU_SOURCE',
    ...HEADERS.map((header) => `#include <${header}>`),
    ...facts.map((fact) => `_Static_assert(${fact}, "${fact}");`),
  ].join('\n');
  const { stderr } = await run('cc -x c -fsyntax-only -', { input: `${source}\n` });
  const failed = stderr.split('\n').filter((line) => /static assertion failed/i.test(line));
  t.strictSame(failed, []);
  const unknown = stderr.split('\n').filter((line) => /undeclared|incomplete type|fatal/.test(line));
  t.strictSame(
    unknown.filter((line) => !NEWER.test(line)),
    [],
  );
});
