// Large mapping files.
import { closeSync, openSync, writeSync } from 'node:fs';

const VTEPS = 1000;

export const FIRST_MAC = 0x0200_0000_0000;

const hex = (value: number, digits: number): string => value.toString(16).padStart(digits, '0');
export const bytesOf = (index: number): number[] => [index >> 16, (index >> 8) & 0xff, index & 0xff];
const macText = (index: number): string =>
  `02:00:00:${bytesOf(index)
    .map((byte) => hex(byte, 2))
    .join(':')}`;

/** One entry a line, with all members: 129 bytes each. `first`: more entries, before the others. */
export function writeMapping(
  file: string,
  entries: number,
  { first = {}, port = 4789 }: { first?: Readonly<Record<string, object>>; port?: number } = {},
): void {
  const descriptor = openSync(file, 'w');
  let separator = '{';
  const add = (mac: string, entry: object): void => {
    writeSync(descriptor, `${separator}\n"${mac}": ${JSON.stringify(entry)}`);
    separator = ',';
  };
  for (const [mac, entry] of Object.entries(first)) add(mac, entry);
  for (let index = 0; index < entries; index++) {
    const vtep = index % VTEPS;
    add(macText(index), {
      arp: `10.${bytesOf(index).join('.')}`,
      'dhcp-proxy': macText(0),
      ip: `192.0.${vtep >> 8}.${vtep & 0xff}`,
      ndp: `fd00::${hex(index >> 16, 1)}:${hex(index & 0xffff, 1)}`,
      port,
    });
  }
  writeSync(descriptor, '\n}\n');
  closeSync(descriptor);
}
