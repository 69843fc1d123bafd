/** The outputs of `dladm capture`: a file, standard output, or lines for people and programs. */
import { once } from 'node:events';
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { describe, describeIp } from '../wire/describe.js';
import { type Interface, LINK_TYPE_RAW, type Packet } from '../wire/pcapng.js';
import { asOverlayError, errorText } from '../model/errors.js';
import { CommandError } from './command.js';
import type { Column } from './table.js';

export interface CaptureSink {
  /** Takes bytes of pcapng, and the packets that are whole with them. Resolves when it can take more. */
  write(bytes: Uint8Array, packets: readonly Packet[], interfaces: readonly Interface[]): Promise<void>;
  close(): Promise<void>;
}

/** A packet in the output. */
export interface CaptureRow {
  /** The version of this shape. */
  readonly v: 1;
  /** ISO 8601, UTC, with nanoseconds. */
  readonly time: string;
  readonly interface: string;
  readonly direction: 'in' | 'out' | null;
  /** Length of the whole packet, even if less was captured. */
  readonly bytes: number;
  /** `to 10.88.88.70:4789`, `dropped: tx_too_big`, both, or empty. */
  readonly note: string;
  /** The layers of the packet. */
  readonly text: string;
}

export const ROW_COLUMNS: readonly Column<CaptureRow>[] = [
  { name: 'TIME', width: 16, cell: ({ time }) => time.slice(11, 26) },
  { name: 'INTERFACE', width: 16, cell: (row) => row.interface },
  { name: 'DIR', width: 4, cell: ({ direction }) => direction ?? '--' },
  { name: 'BYTES', width: 6, cell: ({ bytes }) => String(bytes) },
  {
    name: 'FRAME',
    width: 60,
    sentence: true,
    cell: ({ text, note }) => (note === '' ? text : `${text} (${note})`),
  },
  { name: 'NOTE', width: 30, sentence: true, extra: true, cell: ({ note }) => note },
];

function rowOf(packet: Packet, { name, linkType }: Interface): CaptureRow {
  const { timestampNs, direction, originalBytes, comment, data } = packet;
  const seconds = new Date(Number(timestampNs / 1_000_000_000n) * 1000).toISOString().slice(0, -5);
  const nanoseconds = String(timestampNs % 1_000_000_000n).padStart(9, '0');
  return {
    v: 1,
    time: `${seconds}.${nanoseconds}Z`,
    interface: name,
    direction: direction ?? null,
    bytes: originalBytes,
    note: comment,
    text: linkType === LINK_TYPE_RAW ? describeIp(data) : describe(data),
  };
}

export function openText(format: (rows: readonly CaptureRow[]) => string): CaptureSink {
  return {
    write: async (_, packets, interfaces) => {
      const text = format(packets.map((packet) => rowOf(packet, interfaces[packet.interfaceId])));
      await print(text);
    },
    close: () => Promise.resolve(),
  };
}

export function openOutput(): CaptureSink {
  return { write: (bytes) => print(bytes), close: () => Promise.resolve() };
}

/** Opens the file with the rights of the user that started dladm. Its content before goes with the first bytes:
 * a capture that does not begin costs none of it. */
export async function openFile(file: string): Promise<CaptureSink> {
  const cannot = (error: unknown): CommandError =>
    new CommandError(`cannot write ${file}: ${errorText(error)}`, [], asOverlayError(error).code);
  const handle = await open(file, constants.O_WRONLY | constants.O_CREAT).catch((error: unknown) => {
    throw cannot(error);
  });
  let isBegun = false;
  return {
    write: async (bytes) => {
      try {
        if (!isBegun && (await handle.stat()).isFile()) await handle.truncate();
        isBegun = true;
        await handle.writeFile(bytes);
      } catch (error) {
        throw cannot(error);
      }
    },
    close: () => handle.close(),
  };
}

/** Waits while the reader of standard output is slow. */
async function print(output: string | Uint8Array): Promise<void> {
  if (output.length > 0 && !process.stdout.write(output)) await once(process.stdout, 'drain');
}
