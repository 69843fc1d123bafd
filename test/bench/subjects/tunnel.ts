// What every subject of the bench has in common: two fresh hosts, the same addresses, and a tunnel between them.
import { MAX_MTU_BYTES } from '../../../src/model/properties.js';
import { skipUnlessNetns } from '../../helpers/need.js';
import type { Bed, Namespace } from '../../helpers/netns.js';
import { type Child, waitUntil } from '../../helpers/process.js';
import { type Family, OVERHEAD } from '../../helpers/tunnels.js';
import { hostsOverWire, type Wire } from './wire.js';

export const VNETID = 42;

/** What a run sets for all subjects. */
export interface Terms {
  /** Of the underlay. */
  readonly mtuBytes: number;
  readonly family: Family;
  /** `name=value`, more properties of varpd's overlays. */
  readonly properties: readonly string[];
  /** What lies between the hosts; without it one veth pair as it comes. */
  readonly wire?: Wire;
}

export interface Tunnel {
  readonly a: Namespace;
  readonly b: Namespace;
  /** Where a reaches b. */
  readonly target: string;
  /** The processes that forward, one a host; none when the kernel does it. */
  readonly pids: readonly number[];
}

export interface Subject {
  readonly name: string;
  /** What it is, and where it does less, or more, than varpd. */
  readonly title: string;
  /** Debian packages, of what is not installed with the rest. */
  readonly packages?: readonly string[];
  readonly families: readonly Family[];
  /** False, or why it cannot be measured here. */
  missing(): false | string;
  build(bed: Bed, terms: Terms): Promise<Tunnel>;
}

/** One end of a tunnel. */
export interface End {
  readonly device: string;
  readonly pid?: number;
}

/** False, or which programs are missing and how to get them. */
export function unlessInstalled(programs: readonly string[], packages: readonly string[]): false | string {
  const missing = skipUnlessNetns(programs);
  return missing === false ? false : `${missing}: apt-get install ${packages.join(' ')}`;
}

/** Of an overlay with VXLAN: no subject has more than varpd. */
export const innerMtu = ({ mtuBytes, family }: Pick<Terms, 'mtuBytes' | 'family'>): number =>
  Math.min(mtuBytes - OVERHEAD[family], MAX_MTU_BYTES);

export function hosts(bed: Bed, { mtuBytes, family, wire }: Terms): Promise<[Namespace, Namespace]> {
  const options = { mtuBytes, v6: family === 'v6' };
  return wire === undefined ? bed.twoHosts(options) : hostsOverWire(bed, wire, options);
}

/** Starts both ends and gives them their addresses. */
export async function joinHosts(
  [a, b]: readonly [Namespace, Namespace],
  mtuBytes: number,
  start: (host: Namespace, peer: Namespace) => Promise<End>,
): Promise<Tunnel> {
  const pids: number[] = [];
  for (const [host, peer] of [
    [a, b],
    [b, a],
  ] as const) {
    const { device, pid } = await start(host, peer);
    await host.plumb(device, { mtuBytes, v6: false });
    if (pid !== undefined) pids.push(pid);
  }
  return { a, b, target: b.overlay.v4, pids };
}

/** The end that a program makes: resolves once its device is there. */
export async function endOf(host: Namespace, child: Child, device: string): Promise<End> {
  const isUp = async (): Promise<boolean> => child.ended || (await host.hasDevice(device));
  await waitUntil(isUp, { what: `${device} of ${child.command}` });
  if (child.ended) throw new Error(`${child.command} ended\n${child.stdout}${child.stderr}`);
  return { device, pid: child.pid };
}
