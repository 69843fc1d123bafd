/**
 * Notices for the log about frames of one overlay that were refused or will have no answer. A notice names
 * the station or the VTEP, where a counter has only a number. At most one notice of each kind is made per
 * second.
 */
import { ADDRESS, type FrameBatch, OFFSET } from '../wire/descriptor.js';
import * as ethernet from '../wire/ethernet.js';
import { type IpAddress, readV6 } from '../wire/ip.js';
import { fromHalves, type MacAddress } from '../wire/mac.js';
import type { Port } from './port.js';
import { TICK_MS } from './tables/target-table.js';

export type Notice =
  /** A frame with this source came from a VTEP and was refused (`rx_bad_source`). */
  | {
      readonly kind: 'badSource';
      readonly overlay: number;
      readonly mac: MacAddress;
      readonly from: IpAddress;
    }
  /** A VNIC has sent a frame from a MAC that is not its own: answers do not come back to it. */
  | {
      readonly kind: 'otherSource';
      readonly overlay: number;
      readonly mac: MacAddress;
      readonly port: string;
    }
  /** ICMP says that the path to a VTEP carries less than any overlay needs. */
  | {
      readonly kind: 'narrowPath';
      readonly overlay: number;
      readonly to: IpAddress;
      readonly mtuBytes: number;
    };

const PAUSE_TICKS = 1000 / TICK_MS;

interface Listener {
  readonly notice: (notice: Notice) => void;
  readonly nowTick: number;
}

export class Notices {
  readonly #overlay: number;
  readonly #listener: Listener;
  #badSourceTick = NaN;
  #otherSourceTick = NaN;
  #narrowPathTick = NaN;

  constructor(overlay: number, listener: Listener) {
    this.#overlay = overlay;
    this.#listener = listener;
  }

  /** Reports the frame out of the tunnel with the descriptor at `at`. */
  badSource({ bytes, descriptors }: FrameBatch, at: number): void {
    const { nowTick } = this.#listener;
    if (((nowTick - this.#badSourceTick) | 0) < PAUSE_TICKS && !Number.isNaN(this.#badSourceTick)) return;
    this.#badSourceTick = nowTick;
    const octets = new Uint8Array(descriptors.buffer, descriptors.byteOffset);
    this.#listener.notice({
      kind: 'badSource',
      overlay: this.#overlay,
      mac: ethernet.source(bytes, descriptors[at + OFFSET]),
      from: readV6(octets, (at + ADDRESS) * Int32Array.BYTES_PER_ELEMENT),
    });
  }

  otherSource(port: Port, high: number, low: number): void {
    const { nowTick } = this.#listener;
    if (((nowTick - this.#otherSourceTick) | 0) < PAUSE_TICKS && !Number.isNaN(this.#otherSourceTick)) return;
    this.#otherSourceTick = nowTick;
    this.#listener.notice({
      kind: 'otherSource',
      overlay: this.#overlay,
      mac: fromHalves(high, low),
      port: port.name,
    });
  }

  narrowPath(to: IpAddress, mtuBytes: number): void {
    const { nowTick } = this.#listener;
    if (((nowTick - this.#narrowPathTick) | 0) < PAUSE_TICKS && !Number.isNaN(this.#narrowPathTick)) return;
    this.#narrowPathTick = nowTick;
    this.#listener.notice({ kind: 'narrowPath', overlay: this.#overlay, to, mtuBytes });
  }
}
