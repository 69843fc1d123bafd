/**
 * A capture on its way to a client: takes frames, writes them as pcapng, and waits for the client. The traffic never waits.
 * While the client does not read, the rings become full. Frames without room are then lost to the capture, and counted.
 *
 * The stream ends with the statistics of each interface. Without them it was cut off: varpd has ended.
 */
import type { Duplex } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import type { FrameCapture } from '../../datapath/contract.js';
import * as pcapng from '../../wire/pcapng.js';
import { type PacketOptions, packetsOf, type WrittenPacket } from './capture-packets.js';

/** A slice of the control thread's time; a request of a datapath thread waits for one at most. */
const SLICE_MS = 2;
const SLICE_BYTES = 256 << 10;
/** Between two looks at rings that were empty. They fill in a multiple of it. */
const POLL_MS = 10;

export interface StreamOptions extends PacketOptions {
  /** Packets, after which it ends. */
  readonly count: number;
  readonly application: string;
  /** Names of the ports that are there now; others may come. */
  readonly ports: readonly string[];
  /** The tunnel: its name, and what it carries; undefined in a capture of one port. */
  readonly tunnel: { readonly name: string; readonly about: string } | undefined;
}

export interface CaptureResult {
  readonly packets: number;
  readonly lost: number;
}

export class PacketStream {
  readonly #capture: FrameCapture;
  readonly #options: StreamOptions;
  /** By link type and port. */
  readonly #interfaces = new Map<string, { readonly id: number; readonly port: string; packets: number }>();
  /** Blocks that are not written yet. */
  #blocks: Uint8Array[] = [];
  #bytes = 0;
  #packets = 0;
  #lastNs = 0n;

  constructor(capture: FrameCapture, options: StreamOptions) {
    this.#capture = capture;
    this.#options = options;
  }

  /** Runs until the client has enough packets, ends its side or is gone, or the overlay is gone. The stream has ended then. */
  async run(client: Duplex): Promise<CaptureResult> {
    const gone = new AbortController();
    client.once('end', () => {
      gone.abort();
    });
    client.once('close', () => {
      gone.abort();
    });
    if (client.destroyed) gone.abort();
    client.resume();
    this.#begin();
    while (!gone.signal.aborted && !this.#capture.isOver && !this.#isFull()) {
      const startedMs = performance.now();
      this.#fill();
      const tookMs = performance.now() - startedMs;
      const isIdle = this.#bytes === 0;
      await this.#send(client, gone.signal);
      // The control thread has other work: a capture takes half of its time at most.
      await delay(isIdle ? POLL_MS : Math.ceil(tookMs), undefined, { signal: gone.signal }).catch(
        () => undefined,
      );
    }
    await this.#capture.stop();
    await this.#end(client);
    return { packets: this.#packets, lost: this.#lost() };
  }

  #isFull(): boolean {
    return this.#packets >= this.#options.count;
  }

  #begin(): void {
    const { application, ports, tunnel, isOuter } = this.#options;
    this.#put({ kind: 'section', application });
    if (tunnel !== undefined) this.#interface(isOuter ? pcapng.LINK_TYPE_RAW : pcapng.LINK_TYPE_ETHERNET, '');
    for (const port of ports) this.#interface(pcapng.LINK_TYPE_ETHERNET, port);
  }

  /** Takes frames from the rings, for at most the time of a slice. */
  #fill(): void {
    const endMs = performance.now() + SLICE_MS;
    while (!this.#isFull() && this.#bytes < SLICE_BYTES && performance.now() < endMs) {
      const frame = this.#capture.next();
      if (frame === undefined) return;
      for (const packet of packetsOf(frame, this.#options)) {
        if (this.#isFull()) return;
        this.#putPacket(packet, frame.port);
      }
    }
  }

  #putPacket({ linkType, ...packet }: WrittenPacket, port: string): void {
    const source = this.#interface(linkType, port);
    source.packets++;
    this.#packets++;
    this.#lastNs = packet.timestampNs;
    this.#put({ kind: 'packet', interfaceId: source.id, ...packet });
  }

  #interface(linkType: number, port: string): { readonly id: number; packets: number } {
    const key = `${linkType} ${port}`;
    const known = this.#interfaces.get(key);
    if (known !== undefined) return known;
    const made = { id: this.#interfaces.size, port, packets: 0 };
    this.#interfaces.set(key, made);
    const { tunnel, snapBytes } = this.#options;
    const isRaw = linkType === pcapng.LINK_TYPE_RAW;
    const name = port !== '' ? port : `${tunnel?.name ?? ''} ${isRaw ? 'underlay' : 'tunnel'}`;
    const about = tunnel?.about ?? '';
    const description = port !== '' ? '' : isRaw ? `${about}, outer packets` : `${about}, inner frames`;
    this.#put({ kind: 'interface', linkType, snapBytes, name, description });
    return made;
  }

  #put(repr: pcapng.Repr): void {
    const block = new Uint8Array(pcapng.byteLength(repr));
    pcapng.write(repr, block, 0);
    this.#blocks.push(block);
    this.#bytes += block.length;
  }

  /** Resolves when the client takes more, or is gone. */
  async #send(client: Duplex, signal?: AbortSignal): Promise<void> {
    if (this.#bytes === 0) return;
    const chunk = Buffer.concat(this.#blocks);
    this.#blocks = [];
    this.#bytes = 0;
    if (client.destroyed || client.write(chunk)) return;
    await new Promise<void>((resolve) => {
      const done = (): void => {
        client.off('drain', done);
        client.off('close', done);
        signal?.removeEventListener('abort', done);
        resolve();
      };
      client.on('drain', done);
      client.on('close', done);
      signal?.addEventListener('abort', done);
    });
  }

  /** Sends the rest of the rings, and the statistics. */
  async #end(client: Duplex): Promise<void> {
    do {
      await this.#send(client);
      this.#fill();
    } while (this.#bytes > 0 && !client.destroyed);
    const lost = this.#capture.lost();
    const told = new Set<string>();
    for (const { id, port, packets } of this.#interfaces.values()) {
      // The tunnel may have two interfaces; what was lost there is told once.
      const lostHere = told.has(port) ? 0 : (lost.get(port) ?? 0);
      told.add(port);
      const about = {
        interfaceId: id,
        timestampNs: this.#lastNs,
        received: packets + lostHere,
        lost: lostHere,
      };
      this.#put({ kind: 'statistics', ...about });
    }
    await this.#send(client);
    client.end();
  }

  #lost(): number {
    return [...this.#capture.lost().values()].reduce((sum, lost) => sum + lost, 0);
  }
}
