/**
 * Joins a plugin instance and an overlay in memory. Messages between the two are obeyed later, as those between threads are,
 * and never in the middle of something else.
 */
import { setImmediate as turn } from 'node:timers/promises';

import { inBackground } from '../model/background.js';
import type { PluginDatapath } from '../daemon/plugins/knowledge.js';
import type { LookupAnswer } from '../datapath/contract.js';
import type { Command } from '../datapath/userland/protocol.js';
import type { MemorySocket } from '../io/memory.js';
import type { MacAddress } from '../wire/mac.js';
import type { Net } from './lab.js';

export class PluginLink implements PluginDatapath {
  /** Frames of `announce`. */
  readonly announced: Uint8Array[] = [];
  readonly #net: Net;
  /** Lookups that were not made by the datapath, and what gets their answers. */
  readonly #expected = new Map<number, (answer: LookupAnswer) => void>();
  readonly #peers = new Map<string, MemorySocket>();
  #moved = 0;

  constructor(net: Net) {
    this.#net = net;
  }

  /** Number of messages that were obeyed. */
  get moved(): number {
    return this.#moved;
  }

  /** The answer to this lookup goes to `take`, and not to the overlay. */
  expect(lookup: number, take: (answer: LookupAnswer) => void): void {
    this.#expected.set(lookup, take);
  }

  /** Sends a datagram to the overlay, from a VTEP with this address. */
  send(from: string, datagram: Uint8Array): void {
    const { vtep } = this.#net;
    const peer = this.#peers.get(from) ?? vtep.lab.peer(from);
    this.#peers.set(from, peer);
    peer.send(vtep.endpoint, datagram);
    vtep.lab.run();
  }

  answer(lookup: number, answer: LookupAnswer): void {
    const take = this.#expected.get(lookup);
    this.#expected.delete(lookup);
    if (take === undefined) this.#later({ kind: 'answer', overlay: this.#net.id, lookup, answer });
    else take(answer);
  }

  announce(frame: Uint8Array): void {
    this.announced.push(frame);
    this.#later({ kind: 'announce', overlay: this.#net.id, frame });
  }

  invalidate(macs?: readonly MacAddress[]): void {
    if (macs === undefined) this.#net.invalidate();
    for (const mac of macs ?? []) this.#net.invalidate(mac);
  }

  setTargets(rows: Parameters<PluginDatapath['setTargets']>[0]): void {
    this.#net.setTargets(rows);
  }

  setPeers(peers: Parameters<PluginDatapath['setPeers']>[0]): void {
    this.#net.setPeers(...peers);
  }

  #later(command: Command): void {
    const obey = async (): Promise<void> => {
      await turn();
      this.#moved++;
      this.#net.vtep.obey(command);
    };
    inBackground('a message to the overlay', obey());
  }
}
