/**
 * Trace: a device around a device that says each frame it sees in one line.
 *
 *   overlay0 in 42 bytes: Ethernet 02:00:00:00:00:0a > ff:ff:ff:ff:ff:ff | ARP who has 10.0.0.2, ...
 *   under0 out 1464 bytes (VNI 7 EMSGSIZE): Ethernet ...
 */
import { describe } from '../../src/wire/describe.js';
import type { FrameBatch } from '../../src/wire/descriptor.js';
import { crossings, type DeviceKind, type Direction } from './device-capture.js';
import type { Device } from '../../src/io/contract.js';

export interface TraceOptions {
  readonly kind: DeviceKind;
  readonly name: string;
  readonly print: (line: string) => void;
}

export class Trace implements Device {
  readonly #device: Device;
  readonly #options: TraceOptions;

  constructor(device: Device, options: TraceOptions) {
    this.#device = device;
    this.#options = options;
  }

  receive(batch: FrameBatch, mostFrames?: number): number {
    return this.#note(batch, this.#device.receive(batch, mostFrames));
  }

  rest(batch: FrameBatch): number {
    return this.#note(batch, this.#device.rest?.(batch) ?? 0);
  }

  deliver(batch: FrameBatch, entries: Int32Array, count: number): number {
    const delivered = this.#device.deliver(batch, entries, count);
    for (let at = 0; at < count * 2; at += 2) this.#print('out', batch, entries[at], entries[at + 1]);
    return delivered;
  }

  #note(batch: FrameBatch, count: number): number {
    for (let index = 0; index < count; index++) this.#print('in', batch, index, 0);
    return count;
  }

  #print(direction: Direction, batch: FrameBatch, index: number, argument: number): void {
    const { kind, name, print } = this.#options;
    for (const { bytes, note } of crossings(kind, direction, batch, index, argument)) {
      const about = note === '' ? '' : ` (${note})`;
      print(`${name} ${direction} ${bytes.length} bytes${about}: ${describe(bytes)}`);
    }
  }
}
