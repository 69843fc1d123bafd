/**
 * The ports of all overlays. This class opens their TAPs (taps.ts), adds them to the threads, and knows which
 * of them are left to the next varpd. A single port is in tap-port.ts.
 */
import { createAskedLeases } from '../../../core/protection/asked-leases.js';
import { createCounters } from '../../../core/counts/counters.js';
import { createPresence } from '../../../core/presence.js';
import {
  closeTaps,
  errnoName,
  type Features,
  TAP_DEFAULTS,
  TUNNEL_HEADER_BYTES,
} from '../../../dgram-extra/index.js';
import type { Descriptor, Inherited, PortConfig } from '../../contract.js';
import type { Report, Token } from '../protocol.js';
import { isLasting, tapDescriptors } from './handover.js';
import { type PortContext, type PortOwner, TapPort } from './tap-port.js';
import { countRefused, flagsFor, offloadFlags } from './tap-settings.js';
import { dropIfElsewhere, openPortTap } from './taps.js';
import type { Link } from './thread.js';

export class Ports {
  readonly #context: PortContext;
  readonly #features: () => Features;
  readonly #nextToken: () => Token;

  /** `threads`: the threads of the datapath, a list that changes. */
  constructor(
    threads: readonly Link[],
    inherited: Inherited,
    features: () => Features,
    nextToken: () => Token,
  ) {
    this.#context = { threads, inherited, open: new Map(), isEnding: false };
    this.#features = features;
    this.#nextToken = nextToken;
  }

  /** Opens a port. Throws the system's error. */
  add(owner: PortOwner, config: PortConfig): TapPort {
    const { threads, inherited, open } = this.#context;
    const { name, mac, vid, own, protection, temporary } = config;
    const { id: overlay, queues: count, offload: wanted } = owner.config;
    const features = this.#features();
    const flags = offloadFlags(wanted, features);
    const size = features.tapTunnelSegmentation ? TUNNEL_HEADER_BYTES : TAP_DEFAULTS.headerBytes;
    const plan = { queues: count, carrier: owner.carrier, offload: flags, headerBytes: size };
    const { fds, isLeft, isPersistent, headerBytes } = openPortTap(config, plan, inherited);
    const offload = flagsFor(flags, headerBytes);
    const seen = { foreignQueues: 0, offOffload: 0, triedOffload: 0 };
    const { refusals } = owner;
    countRefused(refusals, flags & ~offload);
    const tap = { name, fds, isPersistent, offload, headerBytes, seen, refusals };
    const queues = fds.map((fd) => ({ token: this.#nextToken(), fd, counters: createCounters() }));
    const told = { overlay, name, headerBytes, mac, vid, own, protection };
    const presence = createPresence();
    const opened = { owner, queues, tap, presence, temporary, isLeft, config: told };
    const port = new TapPort(opened, this.#context);
    owner.ports.add(port);
    if (!temporary) inherited.keep(tapDescriptors([port]));
    const shared = { presence, ...(queues.length > 1 && { askedLeases: createAskedLeases() }) };
    queues.forEach(({ token, fd, counters }, queue) => {
      open.set(token, port);
      threads[queue].post({ kind: 'add-port', ...told, ...shared, token, fd, counters });
    });
    return port;
  }

  /** Puts the offloads in force that the overlay of a port wants now. */
  offload(port: TapPort): void {
    port.setOffload(offloadFlags(port.owner.config.offload, this.#features()));
  }

  /** Handles the fault that a thread reports. */
  fault({ token, errno }: Extract<Report, { kind: 'fault' }>): void {
    this.#context.open.get(token)?.fail(token, errnoName(-errno));
  }

  // ---- At the end

  /** The ports that outlive this varpd. */
  get lasting(): readonly TapPort[] {
    return this.#all.filter(isLasting);
  }

  /** The descriptors of all open ports. */
  get open(): readonly Descriptor[] {
    return tapDescriptors(this.#all.filter(({ closed }) => closed === undefined));
  }

  /** Closes temporary ports. No thread may use them any more. */
  closeTemporary(): void {
    this.#context.isEnding = true;
    const temporary = this.#all.filter((port) => port.temporary);
    closeTaps(temporary.flatMap(({ queues }) => queues.map(({ fd }) => fd)));
  }

  /** Makes devices that the next varpd could not reach end with this one. */
  dropElsewhere(): void {
    this.#context.isEnding = true;
    if (this.#context.inherited.persistTaps) tapDescriptors(this.lasting).forEach(dropIfElsewhere);
  }

  get #all(): TapPort[] {
    return [...new Set(this.#context.open.values())];
  }
}
