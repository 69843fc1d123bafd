/**
 * Finds the port of varpd that packets to a next hop go out by, if there is one. A route names a link. The
 * link may be a port itself, or may sit on a port: a VLAN or macvlan of it, a bond that the port belongs to,
 * a bridge that has seen the next hop behind the port. Packets into a veth arrive at its other end, and may
 * be bridged from there.
 *
 * A bridge that has not seen the next hop gives no answer: as long as it may lead elsewhere, it is no loop. A
 * bridge without a port of varpd is not asked. The path through another network namespace is not followed.
 */
import type { LinkInfo } from '../../dgram-extra/index.js';
import type { PortPlace } from '../../model/underlay-state.js';
import type { IpAddress } from '../../wire/ip.js';
import type { LinkKernel } from './links.js';

/** The ports with interfaces in the network namespace of varpd. */
export interface PortTable {
  at(index: number): PortPlace | undefined;
  /** A port that belongs to this bridge or bond. */
  under(master: number): PortPlace | undefined;
}

/** Links that are followed one upon another; the search ends there. */
const MAX_DEPTH = 8;

/** Kinds of links that send by the link below them. */
const UPON = ['vlan', 'macvlan', 'ipvlan', 'macsec'];
const BOND = ['bond', 'team'];

/** Serves one round: a repeated question is answered from memory. */
export class Egress {
  readonly #kernel: LinkKernel;
  readonly #ports: PortTable;
  readonly #linkOf: (index: number) => LinkInfo | undefined;
  readonly #known = new Map<string, PortPlace | undefined>();
  readonly #members = new Map<number, PortPlace | undefined>();
  /** Links that were looked at. A change of one of them may change an answer. */
  readonly links = new Set<number>();
  /** An answer depends on the MAC table of a bridge. varpd gets no event when that table changes. */
  asksBridge = false;

  constructor(kernel: LinkKernel, ports: PortTable, linkOf: (index: number) => LinkInfo | undefined) {
    this.#kernel = kernel;
    this.#ports = ports;
    this.#linkOf = linkOf;
  }

  /** The port that packets to this neighbour leave by when they are sent over this link. */
  portOf(index: number, nextHop: IpAddress): PortPlace | undefined {
    const key = `${index} ${nextHop}`;
    if (!this.#known.has(key)) this.#known.set(key, this.#follow(index, { index, nextHop }, MAX_DEPTH));
    return this.#known.get(key);
  }

  /** `hop`: the neighbour, and the link that its MAC is resolved on. */
  #follow(
    index: number,
    hop: { readonly index: number; readonly nextHop: IpAddress },
    depth: number,
  ): PortPlace | undefined {
    this.links.add(index);
    const port = this.#ports.at(index);
    if (port !== undefined || depth === 0) return port;
    const info = this.#linkOf(index);
    if (info === undefined) return undefined;
    const { kind, lower } = info;
    if (kind === 'bridge') return this.#behindBridge(index, hop, depth);
    if (BOND.includes(kind)) return this.#member(index);
    if (lower === 0) return undefined;
    if (UPON.includes(kind)) return this.#follow(lower, hop, depth - 1);
    if (kind !== 'veth') return undefined;
    const bridge = this.#linkOf(lower)?.master ?? 0;
    return bridge !== 0 && this.#linkOf(bridge)?.kind === 'bridge'
      ? this.#behindBridge(bridge, hop, depth)
      : undefined;
  }

  #behindBridge(
    bridge: number,
    hop: { readonly index: number; readonly nextHop: IpAddress },
    depth: number,
  ): PortPlace | undefined {
    this.links.add(bridge);
    if (this.#member(bridge) === undefined) return undefined;
    this.asksBridge = true;
    const mac = this.#kernel.neighbourMac(hop.index, hop.nextHop);
    const member = mac && this.#kernel.bridgePortOf(bridge, mac);
    return member === undefined || member === bridge ? undefined : this.#follow(member, hop, depth - 1);
  }

  /** One of the ports that belong to a bridge or bond. */
  #member(master: number): PortPlace | undefined {
    if (!this.#members.has(master)) this.#members.set(master, this.#ports.under(master));
    return this.#members.get(master);
  }
}
