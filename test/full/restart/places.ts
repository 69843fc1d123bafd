// The overlays of the restart table: each has a VNIC, addresses, routes and neighbours on both of its links, and a peer
// of its own on the other host: the kernel's VXLAN, or an overlay of another varpd for an encapsulation that the kernel may
// lack. What an operator can see of a link is its picture.
import type { Call } from '../../../src/control/client.js';
import { encapsulation, type EncapsulationName } from '../../../src/encap/index.js';
import { addKernelVxlan, type Namespace } from '../../helpers/netns.js';
import { reaches } from '../../helpers/traffic.js';

export interface PlaceOptions {
  /** VXLAN when left out. */
  readonly encap?: EncapsulationName;
  readonly search?: 'direct' | 'files' | 'plugin';
  readonly v6?: boolean;
  readonly queues?: number;
  /** A listen address that no other overlay has. */
  readonly ownAddress?: boolean;
  /** The VNIC is made for a container. */
  readonly attached?: boolean;
  /** A listen port that no other overlay has. */
  readonly ownPort?: boolean;
}

export interface Hosts {
  readonly a: Namespace;
  readonly b: Namespace;
  /** A container. */
  readonly inside: Namespace;
}

/** What stays of a link when it stays. */
export interface Picture {
  readonly [what: string]: unknown;
}

/** Files that varpd reads: where varpd sees them, and where this test does. */
export interface Files {
  /** As varpd names it. */
  path(name: string): string;
  write(name: string, text: string): void;
  remove(name: string): void;
}

const hex = (value: number): string => value.toString(16).padStart(2, '0');

/** Asks for one address alone. */
const PLUGIN = (name: string, ip: string, port: number): string => `
export default {
  apiVersion: 2, name: '${name}', mode: 'dynamic', properties: [],
  create: () => ({
    start: async () => {}, stop: async () => {},
    resolve: ({ destinationMac }) =>
      Math.floor(destinationMac / 2 ** 40) % 2 === 1
        ? { kind: 'drop', reason: 'a group' }
        : { kind: 'target', to: { ip: '${ip}', port: ${port} } },
  }),
};
`;

export class Place {
  readonly overlay: string;
  readonly vnic: string;
  readonly encap: EncapsulationName;
  readonly vnetid: number;
  readonly listenIp: string;
  readonly port: number;
  readonly peerIp: string;
  readonly peerDevice: string;
  readonly peerMac: string;
  readonly mappingName: string;
  readonly pluginName: string;
  /** Of its interfaces, which may be renamed and moved. */
  readonly at: { own: string; vnic: string; vnicHost: Namespace };
  /** The VNIC's address is on this one instead. */
  bridge: string | undefined;
  /** As varpd made them. */
  fresh: { readonly own: Picture; readonly vnic: Picture } | undefined;

  constructor(
    readonly hosts: Hosts,
    readonly number: number,
    readonly options: PlaceOptions,
  ) {
    const { a, b } = hosts;
    const { encap = 'vxlan', v6 = false, queues = 1, ownAddress = false, ownPort = false } = options;
    this.encap = encap;
    this.overlay = `o${number}`;
    this.vnic = `v${number}`;
    this.vnetid = 100 + number;
    this.peerDevice = `x${number}`;
    this.peerMac = `02:62:00:00:00:${hex(number)}`;
    this.mappingName = `hosts${number}.json`;
    this.pluginName = `plugin${number}`;
    const own = v6 ? `fd88::1:${number}` : `10.88.88.${100 + number}`;
    this.listenIp = ownAddress ? own : v6 ? a.underlay.v6 : a.underlay.v4;
    this.peerIp = v6 ? b.underlay.v6 : b.underlay.v4;
    // Overlays with the same listen address and port share its sockets, and so have the same number of queues.
    this.port = ownPort ? 5000 + number : encapsulation(encap).defaultPort - 1 + queues;
    this.at = { own: this.overlay, vnic: this.vnic, vnicHost: a };
  }

  /** `ip -batch` lines for the listen address; nothing when it is shared. */
  get listenAddress(): string {
    const bits = this.options.v6 === true ? '128 nodad' : '32';
    return `${this.listenIp}/${bits} dev under0`;
  }

  get vnicMac(): string {
    return `02:60:00:00:00:${hex(this.number)}`;
  }

  /** `peer`: asks the varpd on the other host. */
  async create(call: Call, files: Files, peer: Call | undefined): Promise<void> {
    const { search = 'direct', queues = 1, ownAddress = false, attached = false } = this.options;
    const { encap } = this;
    const { a, b } = this.hosts;
    if (ownAddress) await a.ip(`addr add ${this.listenAddress}`);
    const properties: [string, string][] = [
      [`${encap}/listen_ip`, this.listenIp],
      [`${encap}/listen_port`, String(this.port)],
      ['queues', String(queues)],
    ];
    if (search === 'direct')
      properties.push(['direct/dest_ip', this.peerIp], ['direct/dest_port', String(this.port)]);
    if (search === 'files') {
      this.writeMapping(files);
      properties.push(['files/config', files.path(this.mappingName)]);
    }
    await call('overlay.create', {
      name: this.overlay,
      encap,
      search: search === 'plugin' ? this.pluginName : search,
      vnetid: this.vnetid,
      temporary: false,
      properties,
    });
    await call('vnic.create', {
      name: this.vnic,
      over: this.overlay,
      mac: this.vnicMac,
      temporary: false,
      ...(attached && { attachment: `cni:net0/container${this.number}/eth0` }),
    });
    await this.#createPeer(peer);
    await b.ip(`link set ${this.peerDevice} address ${this.peerMac} up`);
    for (const network of [60, 61])
      await b.ip(`addr add 10.${network}.${this.number}.2/24 dev ${this.peerDevice}`);
  }

  async #createPeer(peer: Call | undefined): Promise<void> {
    const { encap, vnetid, port, peerDevice, peerIp, listenIp } = this;
    if (encap === 'vxlan') {
      await addKernelVxlan(this.hosts.b, {
        device: peerDevice,
        vnetid,
        local: peerIp,
        remote: listenIp,
        port,
      });
      return;
    }
    await peer?.('overlay.create', {
      name: peerDevice,
      encap,
      search: 'direct',
      vnetid,
      temporary: true,
      properties: [
        [`${encap}/listen_ip`, peerIp],
        [`${encap}/listen_port`, String(port)],
        ['direct/dest_ip', listenIp],
        ['direct/dest_port', String(port)],
      ],
    });
  }

  writeMapping(files: Files): void {
    files.write(
      this.mappingName,
      JSON.stringify({ [this.peerMac]: { ip: this.peerIp, port: this.port } }, undefined, 2),
    );
  }

  writePlugin(files: Files): void {
    files.write(`plugins/${this.pluginName}/index.js`, PLUGIN(this.pluginName, this.peerIp, this.port));
  }

  /** Gives both links what an operator gives them, wherever they are. May be done twice. */
  async plumb(which: readonly ('vnic' | 'own')[] = ['vnic', 'own']): Promise<void> {
    const { number, peerMac, peerDevice, at } = this;
    const { a, b } = this.hosts;
    const lines = (device: string, holder: string, network: number): string[] => [
      `link set ${device} up`,
      `addr replace 10.${network}.${number}.1/24 dev ${holder}`,
      `addr replace fd${network}:${number}::1/64 dev ${holder} nodad`,
      `route replace 10.9${network - 60}.${number}.0/24 dev ${holder} proto static`,
      `neigh replace 10.${network}.${number}.2 lladdr ${peerMac} dev ${holder} nud permanent`,
    ];
    for (const one of which) {
      const [host, device, network] = one === 'own' ? [a, at.own, 61] : [at.vnicHost, at.vnic, 60];
      await batch(host, lines(device, one === 'own' ? device : (this.bridge ?? device), network));
      const mac = await host.macOf(device);
      await b.ip(`neigh replace 10.${network}.${number}.1 lladdr ${mac} dev ${peerDevice} nud permanent`);
    }
  }

  /** By the VNIC and by the overlay's own interface, or by one of them. */
  async reaches(which: readonly ('vnic' | 'own')[] = ['vnic', 'own'], timeoutMs?: number): Promise<string[]> {
    const { a } = this.hosts;
    const found = await Promise.all(
      which.map(async (one) => {
        const host = one === 'own' ? a : this.at.vnicHost;
        return reaches(host, `10.${one === 'own' ? 61 : 60}.${this.number}.2`, timeoutMs);
      }),
    );
    return which.filter((_, index) => found[index]);
  }
}

/** Many `ip` commands in one. */
export async function batch(host: Namespace, lines: readonly string[]): Promise<void> {
  if (lines.length === 0) return;
  await host.exec('ip -batch -', { input: `${lines.join('\n')}\n` });
}

interface Link {
  readonly ifindex: number;
  readonly ifname: string;
  readonly flags: readonly string[];
  readonly mtu: number;
  readonly address: string;
  readonly addr_info: readonly { local: string; prefixlen: number; scope: string }[];
  readonly linkinfo?: { readonly info_kind?: string };
  readonly [more: string]: unknown;
}

const LINK_FIELDS = [
  'ifindex',
  'address',
  'mtu',
  'txqlen',
  'group',
  'ifalias',
  'altnames',
  'master',
  'gso_max_size',
];

/** Of every TAP of a host, or of those named: what an operator sees and sets, but for the carrier. */
export async function pictures(
  host: Namespace,
  names?: readonly string[],
): Promise<ReadonlyMap<string, Picture>> {
  const json = async <T>(command: string): Promise<T[]> =>
    JSON.parse((await host.exec(command)) || '[]') as T[];
  type Of = { readonly dev?: string };
  const links = (await json<Link>('ip -d -j addr show')).filter(
    ({ ifname, linkinfo }) => linkinfo?.info_kind === 'tun' && (names?.includes(ifname) ?? true),
  );
  const [routes, routesV6, neighbours, qdiscs] = await Promise.all([
    json<Of & { dst: string }>('ip -j route show proto static'),
    json<Of & { dst: string }>('ip -6 -j route show proto static'),
    json<Of & { dst: string; lladdr: string }>('ip -j neigh show nud permanent'),
    json<Of & { kind: string; root?: boolean; options: unknown }>('tc -j qdisc show'),
  ]);
  // A device that goes meanwhile is no failure.
  const read = 'grep -s . /proc/sys/net/ipv4/conf/*/rp_filter || true';
  const settings = (await host.exec(['sh', '-c', read])).split('\n');
  const taps = links.map(({ ifname }) => ifname);
  const script =
    'for name; do echo "= $name"; ethtool -k $name | grep -E "^(tcp-seg|tx-check|generic-rec)"; done';
  const offloads = (await host.exec(['sh', '-c', script, 'sh', ...taps])).split(/^= /m);
  return new Map(
    links.map((link) => {
      const { ifname } = link;
      const mine = ({ dev }: Of): boolean => dev === ifname;
      return [
        ifname,
        {
          ...Object.fromEntries(LINK_FIELDS.map((field) => [field, link[field]])),
          isUp: link.flags.includes('UP'),
          addresses: link.addr_info
            .filter(({ scope }) => scope !== 'link')
            .map(({ local, prefixlen }) => `${local}/${prefixlen}`),
          routes: [...routes, ...routesV6].filter(mine).map(({ dst }) => dst),
          neighbours: neighbours.filter(mine).map(({ dst, lladdr }) => `${dst} ${lladdr}`),
          // Those below it come and go with the queues of a TAP.
          qdisc: qdiscs
            .filter((qdisc) => mine(qdisc) && qdisc.root === true)
            .map(({ kind, options }) => `${kind} ${JSON.stringify(options)}`),
          offloads: offloads
            .find((text) => text.startsWith(`${ifname}\n`))
            ?.split('\n')
            .slice(1),
          rpFilter: settings.find((line) => line.includes(`/${ifname}/`))?.split(':')[1],
        },
      ];
    }),
  );
}
