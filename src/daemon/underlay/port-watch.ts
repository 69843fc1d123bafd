/**
 * The interfaces of ports, for the link watch: which interface belongs to which port, and its present state.
 *
 * A port is known by the descriptor that varpd holds. In the network namespace of varpd its interface is
 * found by index, and the kernel sends events about it. An interface in another network namespace causes no
 * event, so the kernel is asked now and then, by the descriptor, for the state of the interface, and whether
 * it has come back under whatever name. Changes of the settings of a TAP cause only some events, so every TAP
 * is looked at now and then, wherever it is.
 */
import type { PortDeviceInfo } from '../../datapath/contract.js';
import type { LinkInfo, TunInfo } from '../../dgram-extra/index.js';
import type { PortPlace } from '../../model/underlay-state.js';
import { BYTES as MAC_BYTES, type MacAddress, readMac, ZERO } from '../../wire/mac.js';
import type { PortTable } from './egress.js';
import type { LinkKernel } from './links.js';

/**
 * Bounds of one look: interfaces in other network namespaces (some 50 us each), TAPs here (some 5 us each,
 * for their settings), and the time for either, since a look takes longer where others keep the kernel busy
 * with links. With more ports than that, each is looked at less often.
 */
const MAX_LOOKS = 500;
const MAX_CHECKS = 1000;
const MAX_LOOK_MS = 20;

/** Kind of every TUN and TAP, as the kernel names it (drivers/net/tun.c). */
const TUN = 'tun';

export interface WatchedPort extends PortPlace {
  /** Undefined when the device is gone; the thread that reads from it reports that. */
  device(): PortDeviceInfo | undefined;
  /**
   * Looks at the settings that other programs have changed, and corrects them as far as possible. Returns a
   * sentence for each setting that is still wrong. `name`: given while the interface is here. `tun`: given if
   * the kernel was asked just now.
   */
  check(name: string | undefined, tun: TunInfo | undefined): readonly string[];
}

/** State of a port's interface. */
export interface PortLink {
  /** `elsewhere`: in another network namespace, under whatever name and in whatever state. */
  readonly state: 'up' | 'down' | 'renamed' | 'elsewhere';
  readonly name: string;
  readonly mac: MacAddress;
  /** Undefined where the kernel does not tell it: for an interface elsewhere, before Linux 5.2. */
  readonly mtuBytes: number | undefined;
  /** Undefined in the same case, and while the interface is down. */
  readonly carrier: boolean | undefined;
  /** Settings that other programs have changed, a sentence for each. */
  readonly troubles: readonly string[];
}

export interface FollowedPort {
  readonly port: WatchedPort;
  readonly heard: (link: PortLink) => void;
  readonly used: (() => void) | undefined;
  /** Index of the interface; undefined while it is elsewhere. */
  index: number | undefined;
  /** Index of the bridge or bond that the interface belongs to, or 0. */
  master: number;
  told: PortLink | undefined;
}

export class PortWatch implements PortTable {
  readonly #kernel: LinkKernel;
  /** All ports, in the order of the last look at their settings: the latest one is at the end. */
  readonly #ports = new Set<FollowedPort>();
  readonly #byIndex = new Map<number, FollowedPort>();
  /** Ports in another network namespace, in the order of the last look: the latest one is at the end. */
  readonly #elsewhere = new Set<FollowedPort>();
  /** Ports that an event was about since the last look. */
  readonly #stale = new Set<FollowedPort>();

  constructor(kernel: LinkKernel) {
    this.#kernel = kernel;
  }

  at(index: number): PortPlace | undefined {
    return this.#byIndex.get(index)?.port;
  }

  under(master: number): PortPlace | undefined {
    for (const followed of this.#byIndex.values()) if (followed.master === master) return followed.port;
    return undefined;
  }

  get isEmpty(): boolean {
    return this.#ports.size === 0;
  }

  /** The first look at the port is the caller's to start. */
  add(port: WatchedPort, heard: (link: PortLink) => void, used?: () => void): FollowedPort {
    const followed: FollowedPort = { port, heard, used, index: undefined, master: 0, told: undefined };
    this.#ports.add(followed);
    return followed;
  }

  remove(followed: FollowedPort): void {
    this.#ports.delete(followed);
    this.#stale.delete(followed);
    this.#elsewhere.delete(followed);
    this.#lose(followed);
  }

  clear(): void {
    for (const set of [this.#ports, this.#stale, this.#elsewhere, this.#byIndex]) set.clear();
  }

  /** The kernel has sent an event about this link. */
  hear({ index, kind }: Pick<LinkInfo, 'index' | 'kind'>): void {
    const port = this.#byIndex.get(index);
    if (port !== undefined) this.#stale.add(port);
    // The link may be a port's interface that comes back.
    else if (kind === TUN) for (const one of this.#elsewhere) this.#stale.add(one);
  }

  /** The interface of this index has got an address. */
  used(index: number): void {
    this.#byIndex.get(index)?.used?.();
  }

  setStale(followed: FollowedPort): void {
    this.#stale.add(followed);
  }

  /** Events were lost: every port may have changed. */
  forget(): void {
    for (const port of this.#ports) this.#stale.add(port);
  }

  lookAtStale(): void {
    for (const port of this.#stale) {
      this.#look(port, false);
      this.#stale.delete(port);
    }
  }

  /** Looks at the ports in other network namespaces that have waited longest. */
  lookElsewhere(): void {
    const endMs = performance.now() + MAX_LOOK_MS;
    for (const followed of [...this.#elsewhere].slice(0, MAX_LOOKS)) {
      if (performance.now() > endMs) return;
      this.#elsewhere.delete(followed);
      this.#elsewhere.add(followed);
      this.look(followed);
    }
  }

  /**
   * Checks the settings of the ports that have waited longest. Ports in other network namespaces are left to
   * `lookElsewhere`.
   */
  checkSettings(): void {
    const endMs = performance.now() + MAX_LOOK_MS;
    for (const followed of [...this.#ports].slice(0, MAX_CHECKS)) {
      if (performance.now() > endMs) return;
      this.#ports.delete(followed);
      this.#ports.add(followed);
      const { told, index, port } = followed;
      if (told === undefined || index === undefined) continue;
      tell(followed, { ...told, troubles: port.check(told.name, undefined) });
    }
  }

  look(followed: FollowedPort): void {
    this.#look(followed, true);
  }

  /**
   * `isWhole` false: for a port that is known to be elsewhere, asks only whether it has come back, its name
   * and its MAC.
   */
  #look(followed: FollowedPort, isWhole: boolean): void {
    const { index, port } = followed;
    const link = index === undefined ? undefined : this.#kernel.link(index);
    if (link?.kind === TUN) {
      this.#found(followed, link);
      return;
    }
    this.#lose(followed);
    const device = port.device();
    if (device === undefined) return;
    const { name, mac, isHere, elsewhere } = device;
    const found = isHere ? this.#kernel.link(name) : undefined;
    // Before Linux 5.2 a descriptor does not tell where its device is: another interface may have the name
    // here.
    if (found?.kind === TUN && macOf(found) === mac) {
      this.#elsewhere.delete(followed);
      this.#found(followed, found);
      return;
    }
    this.#elsewhere.add(followed);
    const { told } = followed;
    if (!isWhole && told?.state === 'elsewhere') {
      tell(followed, { ...told, name, mac });
      return;
    }
    const info = elsewhere?.();
    const there = info?.kind === TUN ? info : undefined;
    tell(followed, {
      state: 'elsewhere',
      name,
      mac,
      mtuBytes: there?.mtuBytes,
      carrier: there?.up === true ? there.carrier : undefined,
      troubles: port.check(undefined, there?.tun),
    });
  }

  #found(followed: FollowedPort, link: LinkInfo): void {
    const { index, name, up, mtuBytes, master } = link;
    followed.index = index;
    followed.master = master;
    this.#byIndex.set(index, followed);
    if (master !== 0) followed.used?.();
    const state = name !== followed.port.port ? 'renamed' : up ? 'up' : 'down';
    const carrier = up ? link.carrier : undefined;
    tell(followed, {
      state,
      name,
      mac: macOf(link),
      mtuBytes,
      carrier,
      troubles: followed.port.check(name, link.tun),
    });
  }

  #lose(followed: FollowedPort): void {
    const { index } = followed;
    if (index !== undefined && this.#byIndex.get(index) === followed) this.#byIndex.delete(index);
    followed.index = undefined;
    followed.master = 0;
  }
}

function tell(followed: FollowedPort, link: PortLink): void {
  const { told } = followed;
  const isKnown =
    told?.state === link.state &&
    told.name === link.name &&
    told.mac === link.mac &&
    told.mtuBytes === link.mtuBytes &&
    told.carrier === link.carrier &&
    told.troubles.join() === link.troubles.join();
  if (isKnown) return;
  followed.told = link;
  followed.heard(link);
}

function macOf({ mac }: LinkInfo): MacAddress {
  return mac.length === MAC_BYTES ? readMac(mac, 0) : ZERO;
}
