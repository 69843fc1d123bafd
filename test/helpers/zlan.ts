// The three hosts of the article's second preview: zlan, zlan2 and zlan3 on one switch, a varpd each, and the VNICs of
// its hosts.json. One file serves all three, as namespaces share their file system.
import {
  chmodSync,
  lstatSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import type { EncapsulationName } from '../../src/encap/index.js';
import * as arp from '../../src/wire/arp.js';
import * as ethernet from '../../src/wire/ethernet.js';
import * as icmpv6 from '../../src/wire/icmpv6.js';
import { isMulticast } from '../../src/wire/ip.js';
import * as ipv6 from '../../src/wire/ipv6.js';
import * as ndp from '../../src/wire/ndp.js';
import { Daemon, type DaemonOptions } from './daemon.js';
import { ipOf, macOf, toHex } from './frames.js';
import { fromRoot } from './need.js';
import type { Bed, HostOptions, Namespace } from './netns.js';
import { type Child, waitUntil } from './process.js';

// ---------------------------------------------------------------- the mapping

export interface Entry {
  readonly ip: string;
  readonly port: number;
  readonly arp?: string | readonly string[];
  readonly ndp?: string | readonly string[];
  readonly 'dhcp-proxy'?: string;
}

/** By MAC. */
export type Entries = Readonly<Record<string, Entry>>;

const ARTICLE = readFileSync(fromRoot('config/hosts.json'), 'utf8');
const asText = (content: Entries | string | Uint8Array): string | Uint8Array =>
  typeof content === 'string' || content instanceof Uint8Array
    ? content
    : `${JSON.stringify(content, undefined, 2)}\n`;

export class MappingFile {
  readonly path: string;
  /** What the article says. */
  readonly article = JSON.parse(ARTICLE) as Entries;

  /** Holds the article's text, unchanged. */
  constructor(bed: Bed) {
    this.path = path.join(bed.directory(), 'hosts.json');
    this.rewrite(ARTICLE);
  }

  /** A complete file renamed over it. */
  replace(content: Entries | string | Uint8Array): void {
    const fresh = `${this.path}.new`;
    writeFileSync(fresh, asText(content));
    renameSync(fresh, this.path);
  }

  /** Written in place. */
  rewrite(content: Entries | string): void {
    writeFileSync(this.path, asText(content));
  }

  /** As Kubernetes does with what it mounts: the file is a link into a directory, and another directory takes its place. */
  publish(content: Entries): void {
    const directory = path.dirname(this.path);
    const version = mkdtempSync(path.join(directory, 'version-'));
    chmodSync(version, 0o755);
    writeFileSync(path.join(version, 'hosts.json'), asText(content));
    const switchTo = (target: string, link: string): void => {
      symlinkSync(target, path.join(directory, 'fresh'));
      renameSync(path.join(directory, 'fresh'), path.join(directory, link));
    };
    switchTo(path.basename(version), 'data');
    if (!lstatSync(this.path).isSymbolicLink()) switchTo('data/hosts.json', 'hosts.json');
  }
}

/** The same entries, some of them with other members. */
export function changed(entries: Entries, changes: Readonly<Record<string, Partial<Entry>>>): Entries {
  const some = Object.entries(changes).map(([mac, change]) => [mac, { ...entries[mac], ...change }]);
  return { ...entries, ...(Object.fromEntries(some) as Entries) };
}

// ---------------------------------------------------------------- the hosts

export interface Station {
  readonly host: Namespace;
  readonly daemon: Daemon;
  readonly device: string;
  readonly mac: string;
  readonly v4: string;
  readonly linkLocal: string;
}

/** MAC, device and addresses, as printed. */
const PRINTED = [
  { mac: 'de:ad:be:ef:00:00', device: 'foo0', v4: '10.55.55.2', linkLocal: 'fe80::3' },
  { mac: 'de:ad:be:ef:00:01', device: 'bar0', v4: '10.55.55.3', linkLocal: 'fe80::4' },
  { mac: 'de:ad:be:ef:00:02', device: 'baz0', v4: '10.55.55.4', linkLocal: 'fe80::5' },
] as const;

export type Stations = readonly [zlan: Station, zlan2: Station, zlan3: Station];

export interface ZlanOptions extends HostOptions {
  readonly daemon?: DaemonOptions;
  /** Of the first host alone, in place of those. */
  readonly firstDaemon?: DaemonOptions;
  /** More properties of the overlay: `-p files/flood=on`. */
  readonly overlay?: string;
  readonly encap?: EncapsulationName;
}

/** Overlays and VNICs; the VNICs are down and have no addresses yet. */
export async function buildZlan(
  bed: Bed,
  file: MappingFile,
  {
    daemon: daemonOptions,
    firstDaemon = daemonOptions,
    overlay: more = '',
    encap,
    ...options
  }: ZlanOptions = {},
): Promise<Stations> {
  const hosts = await bed.hostsOnSwitch(PRINTED.length, options);
  const stations = hosts.map(async (host, index) => {
    const printed = PRINTED[index];
    const daemon = await Daemon.start(bed, host, {
      withoutRoot: true,
      ...(index === 0 ? firstDaemon : daemonOptions),
    });
    await daemon.ok(filesOverlay(host, file, { more, ...(encap && { encap }) }));
    await daemon.ok(`create-vnic -m ${printed.mac} -l overlay0 ${printed.device}`);
    return { host, daemon, ...printed };
  });
  return (await Promise.all(stations)) as unknown as Stations;
}

/** The command of the article. */
export function filesOverlay(
  host: Namespace,
  file: Pick<MappingFile, 'path'>,
  { name = 'overlay0', vnetid = 23, more = '', encap = 'vxlan' } = {},
): string {
  const properties = `-p ${encap}/listen_ip=${host.underlay.v4} -p files/config=${file.path}`;
  return `create-overlay -v ${vnetid} -e ${encap} -s files ${properties} ${more} ${name}`;
}

/** The addresses of the article, and more; duplicates are looked for. */
export async function plumb(
  { host, device, v4, linkLocal }: Station,
  more: readonly string[] = [],
): Promise<void> {
  // The article's system has the link-local address it is given, not one made from the MAC beside it.
  await host.ip(`link set ${device} addrgenmode none`);
  await host.ip(`addr add ${v4}/24 dev ${device}`);
  for (const address of [linkLocal, ...more]) await host.ip(`addr add ${address}/64 dev ${device}`);
  await host.ip(`link set ${device} up`);
}

export type AddressState = 'tentative' | 'dadfailed' | 'good' | 'absent';

/** What duplicate address detection says of an address. */
export async function addressState(
  { host, device }: Pick<Station, 'host' | 'device'>,
  address: string,
): Promise<AddressState> {
  const text = await host.ip(`-6 -o addr show dev ${device} to ${address}`);
  if (text.trim() === '') return 'absent';
  if (text.includes('dadfailed')) return 'dadfailed';
  return text.includes('tentative') ? 'tentative' : 'good';
}

/** The end of duplicate address detection. */
export async function settled(
  station: Pick<Station, 'host' | 'device'>,
  address: string,
): Promise<AddressState> {
  let state: AddressState = 'tentative';
  const what = `${address} on ${station.device} to settle`;
  const isSettled = async (): Promise<boolean> => {
    state = await addressState(station, address);
    return state !== 'tentative';
  };
  await waitUntil(isSettled, { stepMs: 100, what });
  return state;
}

/** Of the neighbour cache; undefined when it has none. */
export async function neighbourMac(
  { host, device }: Pick<Station, 'host' | 'device'>,
  address: string,
): Promise<string | undefined> {
  return /lladdr (\S+)/.exec(await host.ip(`neigh show ${address} dev ${device}`))?.[1];
}

// ---------------------------------------------------------------- traffic that goes on

export interface Steady {
  /** Until it was to stop. */
  readonly sent: number;
  /** Requests without a reply, from the first reply on. */
  readonly lost: number;
  readonly duplicates: number;
}

/** ping(8) waits for the next one with a loop, where it is to come sooner: that takes a third of a processor. */
const STEADY_INTERVAL_S = 0.01;

/** 100 echo requests a second unless said otherwise, until stopped. */
export class SteadyPing {
  readonly #child: Child;

  private constructor(child: Child) {
    this.#child = child;
  }

  /** Resolves with the first reply: a known flow from there on. */
  static async start(
    host: Namespace,
    target: string,
    intervalS: number = STEADY_INTERVAL_S,
  ): Promise<SteadyPing> {
    const child = host.spawn(['ping', '-n', '-i', `${intervalS}`, target]);
    await child.waitForOutput(/icmp_seq=/);
    return new SteadyPing(child);
  }

  /** Of the highest reply so far. */
  get reached(): number {
    return Math.max(0, ...this.#replies());
  }

  /** Of every reply so far. */
  get rttUs(): number[] {
    return [...this.#child.stdout.matchAll(/time=([\d.]+) ms/g)].map((match) => Number(match[1]) * 1000);
  }

  async stop(): Promise<Steady> {
    // SIGQUIT: it says how many it has sent, and goes on. What was under way has all the time that it needs.
    this.#child.signal('SIGQUIT');
    const said = /(\d+)\/\d+ packets/;
    await this.#child.waitForOutput(said);
    const sent = Number(said.exec(this.#child.stderr)?.[1]);
    await waitUntil(() => this.reached >= sent, { what: 'the last reply' }).catch(() => undefined);
    await this.#child.stop('SIGINT');
    const replies = this.#replies();
    const distinct = new Set(replies);
    const last = Math.max(0, ...replies);
    const missing = last - Math.min(...replies) + 1 - distinct.size;
    const unanswered = Math.max(0, sent - last);
    return { sent, lost: missing + unanswered, duplicates: replies.length - distinct.size };
  }

  #replies(): number[] {
    return [...this.#child.stdout.matchAll(/icmp_seq=(\d+) ttl=/g)].map((match) => Number(match[1]));
  }
}

const RAWFRAME = fromRoot('dist/test/helpers/rawframe');

const BURST_FRAMES = 100;
const BURST_PAUSE_MS = 9;

/** 10,000 frames a second: a TAP's queue of 1,000 bears them even while varpd waits for the processor. */
export async function pacedFrames(
  host: Namespace,
  device: string,
  frames: Iterable<Uint8Array>,
): Promise<void> {
  const child = host.spawn([RAWFRAME, 'send', device], {}, 'pipe');
  await child.waitForOutput(/ready/);
  let lines: string[] = [];
  for (const frame of frames) {
    if (lines.push(`${toHex(frame)}\n`) < BURST_FRAMES) continue;
    child.write(lines.join(''));
    lines = [];
    await sleep(BURST_PAUSE_MS);
  }
  child.end(lines.join(''));
  const { code } = await child.exited;
  if (code !== 0) throw new Error(`rawframe ended with ${code ?? 'a signal'}\n${child.stderr}`);
}

// ---------------------------------------------------------------- frames

export interface ArpFrame {
  readonly to?: string;
  readonly from: string;
  readonly operation?: number;
  readonly senderMac?: string;
  readonly senderIp: string;
  readonly targetIp: string;
}

export function arpFrame(spec: ArpFrame): Uint8Array {
  const { to = 'ff:ff:ff:ff:ff:ff', from, operation = arp.REQUEST, senderMac = from } = spec;
  const bytes = new Uint8Array(ethernet.HEADER_BYTES + arp.byteLength());
  const addresses = { destination: macOf(to), source: macOf(from) };
  const at = ethernet.write({ ...addresses, etherType: ethernet.ARP }, bytes, 0);
  const senderIp = ipOf(spec.senderIp) as arp.Repr['senderIp'];
  const targetIp = ipOf(spec.targetIp) as arp.Repr['targetIp'];
  arp.write({ operation, senderMac: macOf(senderMac), senderIp, targetMac: 0, targetIp }, bytes, at);
  return bytes;
}

export interface NdpFrame {
  /** The multicast MAC of `destination` unless said otherwise. */
  readonly to?: string;
  readonly from: string;
  readonly source: string;
  readonly destination: string;
  readonly message: ndp.Repr;
}

export function ndpFrame({ to, from, source, destination, message }: NdpFrame): Uint8Array {
  const length = ndp.byteLength(message);
  const bytes = new Uint8Array(ethernet.HEADER_BYTES + ipv6.HEADER_BYTES + length);
  const destinationIp = ipOf(destination);
  if (to === undefined && !isMulticast(destinationIp)) throw new Error(`to which MAC is ${destination}?`);
  const addresses = {
    destination: to === undefined ? ndp.multicastMac(destinationIp) : macOf(to),
    source: macOf(from),
  };
  const network = ethernet.write({ ...addresses, etherType: ethernet.IPV6 }, bytes, 0);
  const header = { trafficClass: 0, flowLabel: 0, hopLimit: ipv6.MAX_HOP_LIMIT, payloadLength: length };
  ipv6.write(
    { source: ipOf(source), destination: destinationIp, nextHeader: ipv6.ICMPV6, ...header },
    bytes,
    network,
  );
  const at = network + ipv6.HEADER_BYTES;
  ndp.write(message, bytes, at);
  icmpv6.fillChecksum(bytes, network, at, length);
  return bytes;
}
