/**
 * The ports as the control side has them: opens and closes their TAPs (taps.ts), and tells the threads of them. Queue 0 of
 * a port belongs to thread 0, and so on. The control side alone closes a descriptor, once the thread has let go of it.
 */
import { createAskedLeases } from '../../../core/asked-leases.js';
import { createCounters, readCounters } from '../../../core/counters.js';
import type { ProtectionRules } from '../../../core/link-protection.js';
import { createPresence, setDown } from '../../../core/presence.js';
import {
  closeDescriptor,
  closeTaps,
  errnoName,
  type Features,
  linkElsewhere,
  setTapCarrier,
  setTapPersistent,
  tapInfo,
  type TunInfo,
} from '../../../dgram-extra/index.js';
import { inBackground } from '../../../model/background.js';
import * as mac from '../../../wire/mac.js';
import type { Descriptor, Inherited, PortConfig, PortDeviceInfo, PortFindings } from '../../contract.js';
import type { Report, Token } from '../protocol.js';
import { isLasting, type OverlayState, type PortState, tapDescriptors } from './handover.js';
import { checkTap, offloadFlags } from './tap-settings.js';
import { discardTap, dropIfElsewhere, hasLeftTap, openPortTap } from './taps.js';
import type { Link } from './thread.js';

export interface PortEvents {
  nextToken(): Token;
  /** The device of a port no longer works, and is being closed. `code` is the errno name. */
  fault(overlay: number, port: string, code: string): void;
}

export const NOTHING_FOUND: PortFindings = { mended: [], noted: [], troubles: [] };

export class Ports {
  /** Those of the datapath, whichever these are at the moment. */
  readonly #threads: readonly Link[];
  readonly #inherited: Inherited;
  readonly #features: () => Features;
  readonly #events: PortEvents;
  /** Those that are open, by each of their queues. */
  readonly #ports = new Map<Token, PortState>();
  /** What they are is for the next daemon now. */
  #isEnding = false;

  constructor(threads: readonly Link[], inherited: Inherited, features: () => Features, events: PortEvents) {
    this.#threads = threads;
    this.#inherited = inherited;
    this.#features = features;
    this.#events = events;
  }

  /** Throws the system's error. */
  add(state: OverlayState, config: PortConfig): mac.MacAddress {
    const { overlay, name, vid, own, protection, temporary } = config;
    const address = config.mac ?? mac.randomLocalMac(Math.random);
    const { queues: count, offload: mode } = state.config;
    const offload = offloadFlags(mode, this.#features());
    const plan = { queues: count, carrier: state.carrier, offload };
    const { fds, isLeft, isPersistent } = openPortTap(config, address, plan, this.#inherited);
    const seen = { foreignQueues: 0, offOffload: 0, triedOffload: 0 };
    const tap = { name, fds, isPersistent, offload, seen };
    const queues = fds.map((fd) => ({ token: this.#events.nextToken(), fd, counters: createCounters() }));
    const told = { overlay, name, mac: address, vid, own, protection };
    const presence = createPresence();
    const port: PortState = { name, overlay, temporary, isLeft, queues, tap, presence, config: told };
    state.ports.set(name, port);
    if (!temporary) this.#inherited.keep(tapDescriptors([port]));
    const shared = { presence, ...(queues.length > 1 && { askedLeases: createAskedLeases() }) };
    queues.forEach(({ token, fd, counters }, queue) => {
      this.#ports.set(token, port);
      this.#threads[queue].post({ kind: 'add-port', ...told, ...shared, token, fd, counters });
    });
    return address;
  }

  async remove({ ports }: OverlayState, name: string): Promise<void> {
    const port = ports.get(name);
    if (port === undefined) return;
    await this.#removeDevice(port);
    ports.delete(name);
  }

  /** Of an overlay that the threads have let go of. `isKept`: what an earlier daemon had left. */
  async removeAll({ ports }: OverlayState, isKept: boolean): Promise<void> {
    for (const port of ports.values()) {
      if (isKept && port.isLeft && isLasting(port)) this.#giveBack(port);
      else await this.#removeDevice(port, () => true);
    }
  }

  hasLeft(name: string): boolean {
    return hasLeftTap(name, this.#inherited);
  }

  discard(name: string): void {
    discardTap(name, this.#inherited);
  }

  device({ ports }: OverlayState, name: string): PortDeviceInfo | undefined {
    const port = ports.get(name);
    if (port === undefined || port.closed !== undefined) return undefined;
    const [{ fd }] = port.queues;
    const info = tapInfo(fd);
    if (info === undefined) return undefined;
    const { name: device, isHere } = info;
    const elsewhere = isHere ? undefined : () => linkElsewhere(fd, device);
    return { name: device, mac: mac.readMac(info.mac, 0), isHere, elsewhere };
  }

  check(
    { ports }: OverlayState,
    name: string,
    device: string | undefined,
    tun: TunInfo | undefined,
  ): PortFindings {
    const port = ports.get(name);
    const isOpen = port !== undefined && port.closed === undefined && !this.#isEnding;
    return isOpen ? checkTap(port.tap, device, tun) : NOTHING_FOUND;
  }

  counters({ ports }: OverlayState, name: string): Record<string, number> {
    const port = ports.get(name);
    return port === undefined ? {} : readCounters(...port.queues.map(({ counters }) => counters));
  }

  setCarrier(state: OverlayState, on: boolean): void {
    state.carrier = on;
    for (const { queues, name, closed } of state.ports.values()) {
      if (closed !== undefined) continue;
      try {
        setTapCarrier(queues[0].fd, on, name);
      } catch {
        // The device has just gone; the worker will say so.
      }
    }
  }

  setDown({ ports }: OverlayState, name: string, isDown: boolean): void {
    const port = ports.get(name);
    if (port !== undefined) setDown(port.presence, isDown);
  }

  setProtection({ ports }: OverlayState, name: string, protection: ProtectionRules | undefined): void {
    const port = ports.get(name);
    if (port === undefined) return;
    port.config = { ...port.config, protection };
    port.queues.forEach(({ token }, queue) => {
      this.#threads[queue].post({ kind: 'protect', token, protection });
    });
  }

  setMac(
    { ports }: OverlayState,
    name: string,
    mac: mac.MacAddress,
    protection: ProtectionRules | undefined,
  ): void {
    const port = ports.get(name);
    if (port === undefined) return;
    port.config = { ...port.config, mac, protection };
    port.queues.forEach(({ token }, queue) => {
      this.#threads[queue].post({ kind: 'set-mac', token, mac, protection });
    });
  }

  /** What a thread reports. The first queue to find out speaks for all. */
  fault({ token, errno }: Extract<Report, { kind: 'fault' }>): void {
    const port = this.#ports.get(token);
    if (port === undefined) return;
    inBackground(
      `closing ${port.name}`,
      this.#close(port, (each) => each === token),
    );
    this.#events.fault(port.overlay, port.name, errnoName(-errno));
  }

  // ---- At the end

  /** Those that outlive this daemon. */
  get lasting(): readonly PortState[] {
    return this.#all.filter(isLasting);
  }

  /** The descriptors of all that are open. */
  get open(): readonly Descriptor[] {
    return tapDescriptors(this.#all.filter(({ closed }) => closed === undefined));
  }

  /** No thread may use them any more. */
  closeTemporary(): void {
    this.#isEnding = true;
    const temporary = this.#all.filter((port) => port.temporary);
    closeTaps(temporary.flatMap(({ queues }) => queues.map(({ fd }) => fd)));
  }

  /** Devices that the next daemon could not reach do not outlive this one. */
  dropElsewhere(): void {
    this.#isEnding = true;
    if (this.#inherited.persistTaps) tapDescriptors(this.lasting).forEach(dropIfElsewhere);
  }

  get #all(): PortState[] {
    return [...new Set(this.#ports.values())];
  }

  /** Its threads have let go of it. */
  #giveBack(port: PortState): void {
    for (const { token } of port.queues) this.#ports.delete(token);
    this.#inherited.giveBack(tapDescriptors([port]));
  }

  /** Closes it, and whatever it was to outlive, it is gone. */
  async #removeDevice(port: PortState, hasLetGo?: (token: Token) => boolean): Promise<void> {
    const isOpen = port.closed === undefined;
    if (isOpen && this.#inherited.persistTaps && !port.temporary) {
      try {
        setTapPersistent(port.queues[0].fd, false, port.name);
      } catch {
        // the device is gone already
      }
      this.#inherited.links.forget(port.name);
    }
    await this.#close(port, hasLetGo);
    if (!isOpen) this.discard(port.name);
  }

  /** Each queue once its thread has let go of it; `hasLetGo` tells of those that have already. */
  #close(port: PortState, hasLetGo: (token: Token) => boolean = () => false): Promise<unknown> {
    port.closed ??= Promise.all(
      port.queues.map(async ({ token, fd }, queue) => {
        this.#ports.delete(token);
        if (!hasLetGo(token)) await this.#threads[queue].request({ kind: 'remove-port', token });
        closeDescriptor(fd);
      }),
    ).then(() =>
      this.#inherited.forget(port.temporary ? [] : tapDescriptors([port]).map(({ name }) => name)),
    );
    return port.closed;
  }
}
