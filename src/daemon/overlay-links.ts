/**
 * The links of one overlay: those of the underlay that carry it, and the interfaces of its ports. What is heard of them
 * becomes health, and with `link-state=follow` the carrier of the ports, so that what runs on top of them (routers,
 * VRRP) sees what a cable would show it.
 *
 * Ports lose their carrier when no destination can be reached, not when some cannot: for the others they still serve.
 */
import type { UnderlayInfo } from '../control/messages.js';
import type { LINK_STATE } from '../core/properties.js';
import type { Verdict } from '../core/underlay-state.js';
import type { IpAddress } from '../wire/ip.js';
import type { Datapath } from './datapath/contract.js';
import type { Health } from './health.js';
import type { Following, LinkWatch, PortLink } from './link-watch.js';
import type { SilentLinks } from './links.js';
import type { Log } from './log.js';
import { OwnInterface } from './own-interface.js';

export interface LinkSite {
  readonly overlay: string;
  readonly id: number;
  readonly listenIp: IpAddress;
}

export interface LinkSurroundings {
  readonly watch: Pick<LinkWatch, 'followUnderlay' | 'followPort' | 'destinationsChanged'>;
  readonly datapath: Pick<Datapath, 'setCarrier' | 'setPortDown'>;
  readonly links: SilentLinks;
  readonly health: Health;
  readonly log: Log;
}

export class OverlayLinks {
  readonly #site: LinkSite;
  readonly #around: LinkSurroundings;
  readonly #destinations = new Set<IpAddress>();
  readonly #ports = new Map<string, { readonly following: Following; trouble: string | undefined }>();
  #underlay: Following | undefined;
  #mode: (typeof LINK_STATE)[number] = 'up';
  #state: Verdict['state'] = 'up';
  #losses = 0;
  #changedAt = new Date();

  constructor(site: LinkSite, around: LinkSurroundings) {
    this.#site = site;
    this.#around = around;
  }

  /** The datapath has the overlay, and no port of it yet. */
  start(mode: (typeof LINK_STATE)[number], destination: IpAddress | undefined): void {
    this.#mode = mode;
    if (destination !== undefined) this.#destinations.add(destination);
    this.#underlay = this.#around.watch.followUnderlay({
      listenIp: this.#site.listenIp,
      destinations: this.#destinations,
      heard: (verdict) => {
        this.#heard(verdict);
      },
    });
  }

  stop(): void {
    this.#underlay?.stop();
    for (const name of [...this.#ports.keys()]) this.forgetPort(name);
  }

  /** Whom frames go to now, and no longer. */
  peersChanged(added: readonly IpAddress[], removed: readonly IpAddress[]): void {
    for (const ip of removed) this.#destinations.delete(ip);
    for (const ip of added) this.#destinations.add(ip);
    this.#around.watch.destinationsChanged();
  }

  get info(): UnderlayInfo {
    return { state: this.#state, losses: this.#losses, changedAt: this.#changedAt.toISOString() };
  }

  /** How many underlay addresses frames go to. */
  get destinationCount(): number {
    return this.#destinations.size;
  }

  /** Of the ports: what was last asked for. */
  get carrier(): boolean {
    return this.#mode !== 'follow' || this.#state !== 'down';
  }

  #heard({ state, sentence }: Verdict): void {
    const { health } = this.#around;
    if (sentence === undefined) health.restore('underlay');
    else health.degrade('underlay', sentence);
    const before = this.#state;
    if (state === before) return;
    if (before === 'up') this.#losses++;
    this.#state = state;
    this.#changedAt = new Date();
    if (this.#mode === 'follow' && (state === 'down' || before === 'down')) this.#setCarrier(this.carrier);
  }

  #setCarrier(on: boolean): void {
    const { datapath, log } = this.#around;
    const { overlay, id } = this.#site;
    datapath.setCarrier(id, on);
    log.info(
      `carrier ${overlay}`,
      `${overlay}: its ports ${on ? 'have a carrier again' : 'lose their carrier'}`,
    );
  }

  // -- Interfaces of ports

  /** It has just been made. */
  followPort(name: string): void {
    this.forgetPort(name);
    const { watch, links, log } = this.#around;
    const own = name === this.#site.overlay ? new OwnInterface(name, links, log) : undefined;
    const heard = (link: PortLink): void => {
      this.#heardPort(name, link);
    };
    const following = watch.followPort(name, heard, () => own?.used());
    this.#ports.set(name, { following, trouble: undefined });
  }

  /** It is closed, or is about to be. */
  forgetPort(name: string): void {
    this.#ports.get(name)?.following.stop();
    this.#ports.delete(name);
    this.#around.health.restore(`interface ${name}`);
  }

  /** What is the matter with the interface, in words. */
  portTrouble(name: string): string | undefined {
    return this.#ports.get(name)?.trouble;
  }

  #heardPort(name: string, link: PortLink): void {
    const { health, log, datapath } = this.#around;
    const { overlay, id } = this.#site;
    datapath.setPortDown(id, name, link.state === 'down');
    const port = this.#ports.get(name);
    const trouble =
      link.state === 'down' ? 'down' : link.state === 'renamed' ? `renamed to ${link.name}` : undefined;
    if (port !== undefined) port.trouble = trouble;
    if (trouble !== undefined) {
      health.degrade(`interface ${name}`, `port ${name}: its interface was ${setOr(trouble)}`);
      return;
    }
    // It works there as well as here; and if it was removed, its descriptor will say so.
    if (link.state === 'elsewhere')
      log.info(
        `interface ${overlay}`,
        `${overlay}: port ${name}: its interface has left this network namespace`,
      );
    health.restore(`interface ${name}`);
  }
}

function setOr(trouble: string): string {
  return trouble === 'down' ? 'set down' : trouble;
}
