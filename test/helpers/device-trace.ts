/**
 * Trace: a device around a device that says each frame it sees in one line.
 *
 *   overlay0 in 42 bytes: Ethernet 02:00:00:00:00:0a > ff:ff:ff:ff:ff:ff | ARP who has 10.0.0.2, ...
 *   under0 out 1464 bytes (VNI 7 EMSGSIZE): Ethernet ...
 */
import { describe } from '../../src/wire/describe.js';
import type { FrameBatch } from '../../src/wire/descriptor.js';
import { crossings, type DeviceKind, type Direction, Onlooker } from './device-capture.js';
import type { Device } from '../../src/io/contract.js';

export interface TraceOptions {
  readonly kind: DeviceKind;
  readonly name: string;
  readonly print: (line: string) => void;
}

export class Trace extends Onlooker {
  readonly #options: TraceOptions;

  constructor(device: Device, options: TraceOptions) {
    super(device);
    this.#options = options;
  }

  protected saw(direction: Direction, batch: FrameBatch, index: number, argument: number): void {
    const { kind, name, print } = this.#options;
    for (const { bytes, note } of crossings(kind, direction, batch, index, argument)) {
      const about = note === '' ? '' : ` (${note})`;
      print(`${name} ${direction} ${bytes.length} bytes${about}: ${describe(bytes)}`);
    }
  }
}
