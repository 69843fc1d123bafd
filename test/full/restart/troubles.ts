// What goes wrong before or during a restart: each row of docs/restart.md, how it is made and how it is mended.
import { DatagramSink } from '../../helpers/traffic.js';
import type { Place, PlaceOptions } from './places.js';
import type { Way } from './ways.js';

/** Where a trouble is made. */
export interface Site {
  readonly place: Place;
  readonly way: Way;
  /** Who has the UDP port, if anybody could take it. */
  taker?: DatagramSink | undefined;
}

/** One overlay's trouble: all of them are made for one restart. */
export interface Trouble {
  /** As docs/restart.md has it. */
  readonly row: string;
  readonly variants: readonly Variant[];
  make?(site: Site): Promise<unknown>;
  /** When the old process has let go. */
  between?(site: Site): Promise<unknown>;
  mend?(site: Site): Promise<unknown>;
  /** What health says; for an overlay that is not ONLINE. */
  reason?(site: Site): RegExp;
  /** How the state of the VNIC begins: `up`, unless said otherwise. */
  readonly vnicState?: string;
  /** What can be reached in spite of it: both, unless said otherwise. */
  readonly reachable?: readonly ('vnic' | 'own')[];
  /** Frames go to targets that are known; a crash forgets them. */
  readonly byTargets?: boolean;
}

export interface Variant extends PlaceOptions {
  readonly label?: string;
  /** The operator has changed settings of its links, too. */
  readonly tuned?: boolean;
}

const V6: Variant = { label: 'IPv6', v6: true };
const QUEUES: Variant = { label: 'two queues', queues: 2 };
const GENEVE: Variant = { label: 'Geneve', encap: 'geneve' };
const GENEVE_V6: Variant = { label: 'Geneve, IPv6', encap: 'geneve', v6: true };
const GENEVE_QUEUES: Variant = { label: 'Geneve, two queues', encap: 'geneve', queues: 2 };
const GENEVE_V6_QUEUES: Variant = { ...GENEVE_QUEUES, label: 'Geneve, IPv6, two queues', v6: true };
const one = (options: PlaceOptions = {}): Variant[] => [options];
const varied = (options: PlaceOptions, ...variants: readonly Variant[]): Variant[] =>
  variants.map((variant) => ({ ...options, ...variant }));
const literally = (text: string): RegExp => new RegExp(text.replaceAll(/[.*+?^${}()|[\]\\/]/g, '\\$&'));

const mappingFile = ({ way, place }: Site): string => way.path(place.mappingName);
const pluginFile = (place: Place): string => `plugins/${place.pluginName}/index.js`;
/** `ip link set` of the VNIC. */
const setVnic = ({ place: { at } }: Site, what: string): Promise<string> =>
  at.vnicHost.ip(`link set ${at.vnic} ${what}`);
const inHost = ({ place: { at } }: Site, command: string): Promise<string> => at.vnicHost.exec(command);

async function intoContainer({ place }: Site): Promise<void> {
  const { inside } = place.hosts;
  await place.hosts.a.ip(`link set ${place.at.vnic} netns ${inside.name}`);
  place.at.vnicHost = inside;
  await place.plumb();
}

/** Settings that no trouble of their own is made of. */
export async function tune({ place: { at } }: Site): Promise<void> {
  const { vnic, vnicHost } = at;
  await vnicHost.ip(`link set ${vnic} alias uplink-of-web`);
  await vnicHost.ip(`link set ${vnic} mtu 1280 txqueuelen 77`);
}

export const TROUBLES: readonly Trouble[] = [
  {
    row: 'nothing',
    variants: varied({}, {}, V6, QUEUES, GENEVE, GENEVE_V6, GENEVE_QUEUES, GENEVE_V6_QUEUES),
  },
  {
    row: 'mapping file invalid',
    variants: varied({ search: 'files' }, {}, V6, GENEVE, {
      label: 'with other settings, two queues',
      tuned: true,
      queues: 2,
    }),
    make: async ({ way, place }) => {
      way.write(place.mappingName, '{ half a file');
    },
    mend: async ({ way, place }) => {
      place.writeMapping(way);
    },
    reason: (site) => literally(mappingFile(site)),
    byTargets: true,
  },
  {
    row: 'mapping file missing',
    variants: one({ search: 'files' }),
    make: async ({ way, place }) => {
      way.remove(place.mappingName);
    },
    mend: async ({ way, place }) => {
      place.writeMapping(way);
    },
    reason: (site) => literally(mappingFile(site)),
    byTargets: true,
  },
  {
    row: 'listen address missing',
    variants: varied({ ownAddress: true }, {}, V6, QUEUES, GENEVE_V6),
    make: ({ place }) => place.hosts.a.ip(`addr del ${place.listenAddress.replace(' nodad', '')}`),
    mend: ({ place }) => place.hosts.a.ip(`addr add ${place.listenAddress}`),
    reason: ({ place }) => literally(place.listenIp),
    reachable: [],
  },
  {
    row: 'plugin does not load',
    variants: one({ search: 'plugin' }),
    make: async ({ way, place }) => {
      way.write(pluginFile(place), 'export default {');
    },
    mend: async ({ way, place }) => {
      place.writePlugin(way);
    },
    reason: ({ place }) => literally(pluginFile(place)),
    byTargets: true,
  },
  {
    row: 'plugin ends the process while it loads',
    variants: one({ search: 'plugin' }),
    make: async ({ way, place }) => {
      way.write(pluginFile(place), 'process.exit(3);');
    },
    mend: async ({ way, place }) => {
      place.writePlugin(way);
    },
    reason: ({ place }) => literally(pluginFile(place)),
    byTargets: true,
  },
  {
    row: 'alias changed',
    variants: varied({}, {}, V6, QUEUES),
    make: async (site) => {
      await setVnic(site, 'alias uplink-of-web');
      await site.place.hosts.a.ip(`link set ${site.place.at.own} alias uplink-of-all`);
    },
  },
  {
    row: 'MAC changed',
    variants: one(),
    make: async (site) => {
      await setVnic(site, `address 02:66:00:00:00:${site.place.vnicMac.slice(-2)}`);
      await site.place.plumb();
    },
  },
  { row: 'MTU changed', variants: one(), make: (site) => setVnic(site, 'mtu 1280') },
  { row: 'gso_max_size changed', variants: one(), make: (site) => setVnic(site, 'gso_max_size 32768') },
  {
    row: 'offload switched off (ethtool -K)',
    variants: varied({}, {}, QUEUES),
    make: (site) => inHost(site, `ethtool -K ${site.place.at.vnic} tso off`),
  },
  { row: 'txqueuelen changed', variants: one(), make: (site) => setVnic(site, 'txqueuelen 77') },
  {
    row: 'qdisc replaced',
    variants: one(),
    make: (site) => inHost(site, `tc qdisc replace dev ${site.place.at.vnic} root pfifo limit 77`),
  },
  {
    row: 'altname added',
    variants: one(),
    make: ({ place: { at, number } }) =>
      at.vnicHost.ip(`link property add dev ${at.vnic} altname the-uplink-of-guest-${number}`),
  },
  {
    row: 'group, sysctl changed',
    variants: one(),
    make: async (site) => {
      await setVnic(site, 'group 77');
      await site.place.at.vnicHost.sysctl(`net.ipv4.conf.${site.place.at.vnic}.rp_filter`, 2);
    },
  },
  {
    row: 'in a bridge',
    variants: one(),
    make: async ({ place }) => {
      const { at, number, vnicMac } = place;
      place.bridge = `br${number}`;
      await at.vnicHost.ip(`addr flush dev ${at.vnic}`);
      await at.vnicHost.ip(`link add ${place.bridge} address ${vnicMac} type bridge`);
      await at.vnicHost.ip(`link set ${at.vnic} master ${place.bridge}`);
      await at.vnicHost.ip(`link set ${place.bridge} up`);
      await place.plumb();
    },
  },
  {
    row: 'renamed',
    variants: one(),
    make: async (site) => {
      const { place } = site;
      await setVnic(site, 'down');
      await setVnic(site, `name w${place.number}`);
      place.at.vnic = `w${place.number}`;
      await place.plumb();
    },
    mend: async (site) => {
      await setVnic(site, 'down');
      await setVnic(site, `name ${site.place.vnic}`);
      site.place.at.vnic = site.place.vnic;
      await site.place.plumb();
    },
    reason: ({ place }) => new RegExp(`renamed to w${place.number}`),
    vnicState: 'renamed',
  },
  {
    row: 'set down',
    variants: one(),
    make: (site) => setVnic(site, 'down'),
    mend: ({ place }) => place.plumb(),
    reason: () => /down/,
    vnicState: 'down',
    reachable: ['own'],
  },
  { row: 'VNIC in a container', variants: varied({}, {}, V6, QUEUES, GENEVE_QUEUES), make: intoContainer },
  { row: 'VNIC of a container, by CNI or --netns', variants: one({ attached: true }), make: intoContainer },
  {
    row: 'VNIC in a container, its name taken by another interface',
    variants: one(),
    make: async (site) => {
      await intoContainer(site);
      await site.place.hosts.a.exec(`ip tuntap add mode tap dev ${site.place.vnic}`);
    },
    mend: ({ place }) => place.hosts.a.ip(`link del ${place.vnic}`),
    reason: ({ place }) => new RegExp(`interface ${place.vnic}`),
    reachable: ['own'],
  },
  {
    row: 'VNIC deleted before',
    variants: varied({}, {}, QUEUES),
    make: ({ place: { at } }) => at.vnicHost.ip(`link del ${at.vnic}`),
  },
  {
    row: 'own link deleted before',
    variants: one(),
    make: ({ place }) => place.hosts.a.ip(`link del ${place.at.own}`),
  },
  {
    row: 'VNIC deleted during the restart',
    variants: varied({}, {}, QUEUES),
    // It may be gone with the old process.
    between: ({ place: { at } }) => at.vnicHost.run(`ip link del ${at.vnic}`),
  },
  {
    row: 'UDP port taken during the restart',
    variants: varied({ ownPort: true }, {}, V6, GENEVE),
    between: async (site) => {
      const { hosts, listenIp, port } = site.place;
      site.taker = await DatagramSink.open(hosts.a, listenIp, port).catch(() => undefined);
    },
    mend: async (site) => {
      await site.taker?.close();
      site.taker = undefined;
    },
    reason: ({ place }) => new RegExp(`${place.port}.*in use`),
  },
];

/** What keeps varpd itself from running: one after another. */
export interface DaemonTrouble {
  readonly row: string;
  readonly config?: Readonly<Record<string, unknown>>;
  readonly text?: string;
  readonly reasons: readonly RegExp[];
}

const PARTS: readonly DaemonTrouble[] = [
  { row: '`group` unknown', config: { group: 'nosuchgroup' }, reasons: [/there is no group of that name/] },
  { row: '`user` unknown', config: { user: 'nosuchuser' }, reasons: [/there is no user of that name/] },
  {
    row: '`pluginPath` missing',
    config: { pluginPath: ['/nonexistent/plugins'] },
    reasons: [/\/nonexistent\/plugins/],
  },
  {
    row: '`log.file` cannot be opened',
    config: { log: { file: '/nonexistent/varpd.log' } },
    reasons: [/\/nonexistent\/varpd\.log/],
  },
  {
    row: '`socket` cannot be made',
    config: { socket: '/proc/nonexistent/varpd.sock' },
    reasons: [/\/proc\/nonexistent/],
  },
];

export const DAEMON_TROUBLES: readonly DaemonTrouble[] = [
  { row: 'configuration invalid', text: 'colour: blue\n', reasons: [/unknown key/] },
  ...PARTS,
  {
    row: 'several of these at once',
    config: Object.assign({}, ...PARTS.map(({ config }) => config)) as Record<string, unknown>,
    reasons: PARTS.flatMap(({ reasons }) => reasons),
  },
];

export const TUN_ROW = '/dev/net/tun missing';
export const SOCKET_ROW = '`socket` changed';

/** A row as the table has it, without its marks. */
export const plainRow = (row: string): string => row.replaceAll('`', '');
