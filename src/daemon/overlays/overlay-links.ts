/**
 * The links of one overlay: those of the underlay that carry it, and the interfaces of its ports. Events
 * about them become health. With `link-state=follow` they become the carrier of the ports too, so that
 * programs on top (routers, VRRP) see what a cable would show them.
 *
 * Ports lose their carrier when no destination can be reached. While some can be reached, the ports still
 * serve those.
 *
 * Other programs may change a port's interface. Its MAC is followed (port-macs.ts), its MTU is shown, and
 * health reports changes that keep frames from it.
 */
import type { UnderlayInfo } from '../../control/messages.js';
import type { Datapath, OverlayDatapath, PortHandle } from '../../datapath/contract.js';
import { AddressMap } from '../../model/address-map.js';
import type { LINK_STATE } from '../../model/overlay-specs.js';
import { type NarrowWay, routeFacts, type Verdict, type Way } from '../../model/underlay-state.js';
import type { IpAddress } from '../../wire/ip.js';
import { formatMac, type MacAddress } from '../../wire/mac.js';
import type { Health } from '../health.js';
import type { Log } from '../log.js';
import type { Following, LinkWatch } from '../underlay/link-watch.js';
import type { SilentLinks, TunnelChecksum, TunnelLinks } from '../underlay/links.js';
import { narrowSentence } from '../underlay/mtu.js';
import { OwnInterface } from '../underlay/own-interface.js';
import { type MacNews, type PortMac, PortMacs, type Refusal } from '../underlay/port-macs.js';
import type { PortLink, WatchedPort } from '../underlay/port-watch.js';

export interface OverlayPlace {
  readonly overlay: string;
  readonly listenIp: IpAddress;
  /** Outer headers, inner Ethernet header included. */
  readonly overheadBytes: number;
}

export interface LinkContext {
  readonly watch: Pick<LinkWatch, 'followUnderlay' | 'followPort' | 'destinationsChanged'>;
  readonly datapath: Pick<Datapath, 'features'>;
  readonly links: SilentLinks & TunnelLinks;
  readonly health: Health;
  readonly log: Log;
  /** Called when the overlay has to know a port by another MAC. */
  readonly macChanged: (port: string, mac: MacAddress) => void;
}

/** The settings that a port was made with. */
export interface PortShape extends PortMac {
  readonly name: string;
  readonly mtuBytes: number;
  /** Bytes of the tag that its frames get on the overlay. */
  readonly tagBytes: number;
}

type LinkedHandle = Pick<PortHandle, 'device' | 'check' | 'setDown'>;

interface LinkedPort {
  readonly handle: LinkedHandle;
  shape: PortShape;
  following: Following | undefined;
  link: PortLink | undefined;
  /** The MTU as it was found last. */
  mtuBytes: number;
  refusal: Refusal | undefined;
}

type LinkedDatapath = Pick<OverlayDatapath, 'setCarrier' | 'setLoops' | 'setRoutes' | 'offloads' | 'sending'>;

export class OverlayLinks {
  #place: OverlayPlace;
  readonly #context: LinkContext;
  readonly #destinations = new AddressMap<true>();
  readonly #ports = new Map<string, LinkedPort>();
  readonly #macs = new PortMacs();
  #overlay: LinkedDatapath | undefined;
  #underlay: Following | undefined;
  #mode: (typeof LINK_STATE)[number] = 'up';
  #state: Verdict['state'] = 'up';
  #loops: readonly IpAddress[] = [];
  /** Facts about routes that the datapath has, as text. */
  #routes = '[]';
  /** Kind of the tunnel frames that the overlay sends where it can; undefined: none. */
  #tunnels: TunnelChecksum | undefined;
  #narrowest: NarrowWay | undefined;
  #own: OwnInterface | undefined;
  #losses = 0;
  #changedAt = new Date();

  constructor(place: OverlayPlace, context: LinkContext) {
    this.#place = place;
    this.#context = context;
  }

  /** Called when the datapath has the overlay, and no port of it yet. */
  start(
    overlay: LinkedDatapath,
    mode: (typeof LINK_STATE)[number],
    destination: IpAddress | undefined,
  ): void {
    this.#overlay = overlay;
    this.#mode = mode;
    if (destination !== undefined) this.#destinations.set(destination, true);
    this.#tunnels = tunnelsOf(overlay);
    this.#followUnderlay();
  }

  #followUnderlay(): void {
    this.#underlay = this.#context.watch.followUnderlay({
      overlay: this.#place.overlay,
      listenIp: this.#place.listenIp,
      destinations: { [Symbol.iterator]: () => this.#destinations.keys() },
      heard: (verdict, ways, narrowest) => {
        this.#setRoutes(ways);
        this.#narrowest = narrowest;
        this.#judgeMtu();
        this.#heard(verdict);
      },
    });
  }

  stop(): void {
    this.#underlay?.stop();
    // The health of ports stays as it is, for later requests.
    for (const { following } of this.#ports.values()) following?.stop();
  }

  /** The overlay has another listen address, another `link-state`, or other offloads. */
  change(listenIp: IpAddress, mode: (typeof LINK_STATE)[number]): void {
    const { carrier } = this;
    this.#mode = mode;
    const tunnels = this.#overlay && tunnelsOf(this.#overlay);
    if (listenIp !== this.#place.listenIp || tunnels !== this.#tunnels) {
      this.#tunnels = tunnels;
      this.#place = { ...this.#place, listenIp };
      this.#underlay?.stop();
      this.#followUnderlay();
    }
    if (this.carrier !== carrier) this.#setCarrier(this.carrier);
  }

  /** The overlay has another name, and so has its own port. */
  renamed(overlay: string): void {
    this.#place = { ...this.#place, overlay };
    this.#underlay?.stop();
    this.#followUnderlay();
  }

  /** varpd has given the port another MTU. `isSet`: its interface has it too. */
  resized(name: string, mtuBytes: number, isSet: boolean): void {
    const port = this.#ports.get(name);
    if (port === undefined) return;
    if (isSet) {
      port.mtuBytes = mtuBytes;
      // The event about it comes later.
      if (port.link?.mtuBytes !== undefined) port.link = { ...port.link, mtuBytes };
    }
    port.shape = { ...port.shape, mtuBytes };
    this.#judge(port);
    this.#judgeMtu();
  }

  /** The underlay addresses that frames go to have changed. */
  peersChanged(added: readonly IpAddress[], removed: readonly IpAddress[]): void {
    for (const ip of removed) this.#destinations.delete(ip);
    for (const ip of added) this.#destinations.set(ip, true);
    this.#context.watch.destinationsChanged();
  }

  get info(): UnderlayInfo {
    return { state: this.#state, losses: this.#losses, changedAt: this.#changedAt.toISOString() };
  }

  /** Number of underlay addresses that frames go to. */
  get destinationCount(): number {
    return this.#destinations.size;
  }

  /** The carrier that the ports should have. */
  get carrier(): boolean {
    // With loops the carrier stays on. Otherwise a route into a port would go with the port's carrier, and
    // come back with it, for ever.
    return this.#mode !== 'follow' || this.#state !== 'down' || this.#loops.length > 0;
  }

  #heard({ state, sentence, loops }: Verdict): void {
    const { health } = this.#context;
    const carrier = this.carrier;
    this.#setLoops(loops);
    if (sentence === undefined) health.restore('underlay');
    else health.degrade('underlay', sentence);
    if (state !== this.#state) {
      if (this.#state === 'up') this.#losses++;
      this.#state = state;
      this.#changedAt = new Date();
    }
    if (this.carrier !== carrier) this.#setCarrier(this.carrier);
  }

  #setLoops(loops: readonly IpAddress[]): void {
    if (this.#loops.join() === loops.join()) return;
    this.#loops = loops;
    this.#overlay?.setLoops(loops);
  }

  #setRoutes(ways: readonly Way[]): void {
    const { links } = this.#context;
    const tunnels = this.#tunnels;
    const routes = routeFacts(ways, (link) => tunnels !== undefined && links.takesTunnels(link, tunnels));
    const text = JSON.stringify(routes);
    if (this.#routes === text) return;
    this.#routes = text;
    this.#overlay?.setRoutes(routes);
  }

  /** Whether full frames of the ports fit the underlay. */
  #judgeMtu(): void {
    const needs = [...this.#ports.values()].map(({ shape, mtuBytes }) => ({
      port: shape.name,
      mtuBytes: Math.min(mtuBytes, shape.mtuBytes),
      headerBytes: this.#place.overheadBytes + shape.tagBytes,
    }));
    this.#context.health.tell('mtu', narrowSentence(needs, this.#narrowest));
  }

  #setCarrier(on: boolean): void {
    const { log } = this.#context;
    const { overlay } = this.#place;
    this.#overlay?.setCarrier(on);
    // The event about it comes later.
    for (const port of this.#ports.values())
      if (port.link?.carrier !== undefined) port.link = { ...port.link, carrier: on };
    log.info(
      `carrier ${overlay}`,
      `${overlay}: its ports ${on ? 'have a carrier again' : 'lose their carrier'}`,
    );
  }

  // -- Interfaces of ports

  /** Called when the port has just been made, or taken over. */
  followPort(handle: LinkedHandle, shape: PortShape): void {
    const { name, mtuBytes } = shape;
    const { watch, links, log } = this.#context;
    const overlay = (): string => this.#place.overlay;
    this.forgetPort(name);
    this.#macs.add(name, shape);
    const port: LinkedPort = {
      handle,
      shape,
      following: undefined,
      link: undefined,
      mtuBytes,
      refusal: undefined,
    };
    // The port is stored first, since an event may come at once.
    this.#ports.set(name, port);
    const watched = {
      get overlay() {
        return overlay();
      },
      port: name,
      device: () => handle.device(),
      check: (...seen: Parameters<WatchedPort['check']>) => {
        const { mended, noted, troubles } = handle.check(...seen);
        for (const what of mended)
          log.warn(
            `settings ${name}`,
            `${overlay()}: port ${name}: ${what}, changed by another program: reset`,
          );
        for (const what of noted)
          log.warn(`settings ${name}`, `${overlay()}: port ${name}: its interface ${what}`);
        return troubles;
      },
    };
    const own = name === overlay() ? new OwnInterface(name, links, log) : undefined;
    this.#own = own ?? this.#own;
    const heard = (link: PortLink): void => {
      this.#heardPort(port, link);
    };
    port.following = watch.followPort(watched, heard, () => own?.used());
  }

  /** Called when the port is closed, or is about to be. */
  forgetPort(name: string): void {
    const port = this.#ports.get(name);
    if (port === undefined) return;
    port.following?.stop();
    this.#ports.delete(name);
    this.#macs.remove(name);
    this.#context.health.restore(`interface ${name}`);
    this.#judgeMtu();
    // Another port may have waited for this MAC.
    this.#settleMacs();
  }

  /** Whether the overlay's own interface has not been used as a station. */
  get isOwnSilent(): boolean {
    return this.#own?.isSilent !== false;
  }

  /** Trouble that keeps frames from the interface, in a few words. */
  portTrouble(name: string): string | undefined {
    const port = this.#ports.get(name);
    if (port?.link?.state === 'down') return 'down';
    if (port?.link?.state === 'renamed') return `renamed to ${port.link.name}`;
    return port?.refusal && hasMac(port.refusal);
  }

  /** The MAC by which the overlay knows the port. */
  macOf(name: string): MacAddress | undefined {
    return this.#macs.inForce(name);
  }

  hasMac(mac: MacAddress): boolean {
    return this.#macs.has(mac);
  }

  mtuBytesOf(name: string): number | undefined {
    return this.#ports.get(name)?.mtuBytes;
  }

  /** Called when the reason that keeps a port to its MAC may have changed. */
  protectionChanged(name: string): void {
    if (this.#macs.isOdd(name)) this.#settleMacs();
  }

  #settleMacs(): void {
    for (const news of this.#macs.settle()) this.#macNews(news);
  }

  #macNews({ port: name, mac, isOther, refusal }: MacNews): void {
    const { log, macChanged } = this.#context;
    const { overlay } = this.#place;
    const port = this.#ports.get(name);
    if (port === undefined) return;
    port.refusal = refusal;
    if (isOther) {
      const isBack = mac === port.shape.configured;
      const note = isBack ? 'as configured' : `followed; configured is ${formatMac(port.shape.configured)}`;
      log.info(`mac ${overlay}`, `${overlay}: port ${name}: its MAC is ${formatMac(mac)} now: ${note}`);
      macChanged(name, mac);
    }
    this.#judge(port);
  }

  #heardPort(port: LinkedPort, link: PortLink): void {
    const { overlay } = this.#place;
    const { name } = port.shape;
    // The port works there as well as here. If it was removed, its descriptor reports that.
    if (link.state === 'elsewhere' && port.link?.state !== 'elsewhere')
      this.#context.log.info(
        `interface ${overlay}`,
        `${overlay}: port ${name}: its interface has left this network namespace`,
      );
    port.handle.setDown(link.state === 'down');
    port.link = link;
    port.mtuBytes = link.mtuBytes ?? port.mtuBytes;
    this.#judge(port);
    this.#judgeMtu();
    this.#macs.saw(name, link.mac);
    this.#settleMacs();
  }

  #judge({ shape, link, refusal }: LinkedPort): void {
    const { health, datapath } = this.#context;
    const { name, configured, mtuBytes } = shape;
    const troubles: string[] = [];
    if (link?.state === 'down') troubles.push('was set down');
    if (link?.state === 'renamed') troubles.push(`was renamed to ${link.name}`);
    if (refusal !== undefined) troubles.push(refusalText(refusal, configured));
    if (link?.mtuBytes !== undefined && link.mtuBytes > mtuBytes)
      troubles.push(`has an MTU of ${link.mtuBytes}: packets above ${mtuBytes} will be dropped`);
    if (link?.carrier !== undefined && link.carrier !== this.carrier && datapath.features['tapCarrier'])
      troubles.push(
        link.carrier
          ? 'has a carrier, which another program switched on'
          : `has no carrier: another program switched it off (switch it on: ip link set ${link.name} carrier on)`,
      );
    if (link !== undefined) troubles.push(...link.troubles);
    const source = `interface ${name}` as const;
    if (troubles.length === 0) health.restore(source);
    else health.degrade(source, `port ${name}: its interface ${troubles.join(', and ')}`);
  }
}

function tunnelsOf({ offloads, sending }: LinkedDatapath): TunnelChecksum | undefined {
  return offloads.includes('tunnel') ? sending.checksum : undefined;
}

const hasMac = ({ device }: Refusal): string => `has the MAC ${formatMac(device)}`;

function refusalText(refusal: Refusal, configured: MacAddress): string {
  const text = hasMac(refusal);
  switch (refusal.why) {
    case 'protected':
      return `${text}, and link protection keeps it to ${formatMac(configured)}`;
    case 'taken':
      return `${text}, which is that of port ${refusal.by}`;
    case 'no station':
      return `${text}, which is no station's`;
  }
}
