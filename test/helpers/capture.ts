// What went over a device, as tshark sees it.
//
//   const capture = await Capture.start(bed, a, 'under0', 'udp port 4789');
//   ... traffic ...
//   for (const row of await capture.fields('vxlan', ['udp.srcport', 'vxlan.vni'])) ...
//
// On veth a checksum that the sender leaves to the hardware is never finished, and reads as bad. To judge checksums,
// switch that off first, at the sender: host.exec('ethtool -K under0 tx off').
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import * as pcapng from '../../src/wire/pcapng.js';

import type { Bed, Namespace } from './netns.js';
import { type Child, exec, isWaiting, waitUntil } from './process.js';

/** Of each field all occurrences in the packet, outermost first; none when the packet does not have it. */
export type Row<Field extends string> = Readonly<Record<Field, readonly string[]>>;

export interface FieldsOptions {
  /** `udp.port==8472,vxlan` */
  readonly decodeAs?: string;
  /** Preferences; checksums are verified unless said otherwise here. */
  readonly preferences?: readonly string[];
}

const CHECK_CHECKSUMS = ['ip.check_checksum:TRUE', 'udp.check_checksum:TRUE', 'tcp.check_checksum:TRUE'];
/** The kernel may hold a packet back this long before tcpdump sees it, even in immediate mode. */
const SETTLE_MS = 150;
/** Almost the largest packet, headers of the kernel included, in 64 KiB: immediate mode gives each a slot of that size. */
const SNAP_BYTES = 65_000;
/** A thousand slots; no longer burst is sent here before tcpdump runs again. */
const RING_KIB = 64 << 10;
/** tshark takes a second or two to start, and more on a busy machine. */
const TSHARK_TIMEOUT_MS = 60_000;
/**
 * Of TCP only headers are read: a port that the kernel chose may be one that tshark knows a protocol for, which finds
 * the payload of a test malformed.
 */
export const TCP_CARRIES_DATA = ['-d', 'tcp.port==1-65535,data'];
const ALL_OCCURRENCES = ['-E', 'separator=/t', '-E', 'occurrence=a', '-E', 'aggregator=|'];

/** Runs a display filter over a capture file. */
export async function fieldsOf<Field extends string>(
  file: string,
  filter: string,
  fields: readonly Field[],
  { decodeAs, preferences = CHECK_CHECKSUMS }: FieldsOptions = {},
): Promise<Row<Field>[]> {
  const options = [
    ...TCP_CARRIES_DATA,
    ...preferences.flatMap((preference) => ['-o', preference]),
    ...(decodeAs === undefined ? [] : ['-d', decodeAs]),
    ...(filter === '' ? [] : ['-Y', filter]),
    ...fields.flatMap((field) => ['-e', field]),
  ];
  const argv = ['tshark', '-n', '-r', file, '-T', 'fields', ...ALL_OCCURRENCES, ...options];
  const text = await exec(argv, { timeoutMs: TSHARK_TIMEOUT_MS });
  return text
    .split('\n')
    .slice(0, -1)
    .map((line) => {
      const cells = line.split('\t');
      const entries = fields.map((field, i) => [
        field,
        (cells[i] ?? '').split('|').filter((cell) => cell !== ''),
      ]);
      return Object.fromEntries(entries) as Row<Field>;
    });
}

/** How many packets pass each of these filters: tshark's statistics of one interval as long as the capture. */
async function countsOf(file: string, filters: readonly string[]): Promise<number[]> {
  const preferences = CHECK_CHECKSUMS.flatMap((preference) => ['-o', preference]);
  const statistics = ['-q', '-z', ['io', 'stat', '0', ...filters].join()];
  const argv = ['tshark', '-n', '-r', file, ...TCP_CARRIES_DATA, ...preferences, ...statistics];
  const text = await exec(argv, { timeoutMs: TSHARK_TIMEOUT_MS });
  // | 0.0 <> 1.5 | frames | bytes | frames | bytes |
  const cells = /^\|[^|]*<>[^|]*\|(.*)\|$/m.exec(text)?.[1].split('|').map(Number);
  if (cells?.length !== 2 * filters.length || cells.some(Number.isNaN))
    throw new Error(`tshark does not say how many packets pass ${filters.join(', ')}:\n${text}`);
  return cells.filter((_, index) => index % 2 === 0);
}

/** Frames that were never on a device, as a capture file: for tshark's opinion of them. */
export function writeCapture(file: string, frames: readonly Uint8Array[]): void {
  const { LINK_TYPE_ETHERNET: linkType } = pcapng;
  const about = { interfaceId: 0, timestampNs: 0n, direction: undefined, comment: '' } as const;
  const blocks: pcapng.Repr[] = [
    { kind: 'section' },
    { kind: 'interface', linkType, snapBytes: 0, name: '' },
    ...frames.map((data) => ({ kind: 'packet', ...about, originalBytes: data.length, data }) as const),
  ];
  const bytes = blocks.map((block) => {
    const written = new Uint8Array(pcapng.byteLength(block));
    pcapng.write(block, written, 0);
    return written;
  });
  writeFileSync(file, Buffer.concat(bytes));
}

export class Capture {
  #stopped = false;

  private constructor(
    readonly file: string,
    readonly child: Child,
  ) {}

  static async start(bed: Bed, host: Namespace, device: string, filter = ''): Promise<Capture> {
    const file = path.join(bed.directory(), `${device}.pcap`);
    // -Z root: without it tcpdump changes its user, who may not write here.
    const options = `-Z root -U --immediate-mode -s ${SNAP_BYTES} -B ${RING_KIB} -w ${file} -i ${device}`;
    const child = host.spawn(`tcpdump ${options} ${filter}`);
    await child.waitForOutput(/listening on/);
    return new Capture(file, child);
  }

  /** Packets that tcpdump was too slow for; known once it has stopped. */
  get lost(): number {
    return Number(/(\d+) packets? dropped by kernel/.exec(this.child.stderr)?.[1] ?? 0);
  }

  /** Ends the capture; fields() does it too. */
  async stop(): Promise<void> {
    if (this.#stopped) return;
    this.#stopped = true;
    await sleep(SETTLE_MS);
    await waitUntil(() => isWaiting(this.child.pid), { what: 'tcpdump to write what it has seen' });
    await this.child.stop('SIGINT');
  }

  async fields<Field extends string>(
    filter: string,
    fields: readonly Field[],
    options?: FieldsOptions,
  ): Promise<Row<Field>[]> {
    await this.stop();
    return fieldsOf(this.file, filter, fields, options);
  }

  /** How many packets of the capture pass a display filter. */
  async count(filter: string, options?: FieldsOptions): Promise<number> {
    return (await this.fields(filter, ['frame.number'], options)).length;
  }

  /** The same of several filters, which have no commas: tshark takes longer to start than to read. */
  async counts(...filters: readonly string[]): Promise<number[]> {
    await this.stop();
    return countsOf(this.file, filters);
  }
}
