// Tools for calls of src/dgram-extra that a test makes itself, inside a namespace of its own (own-namespace.ts): two batches,
// frames put into them by hand, descriptors that are closed when their test ends.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

import t, { type Test } from 'tap';

import * as extra from '../../src/dgram-extra/index.js';
import { ruleWords } from '../../src/encap/contract.js';
import { VXLAN } from '../../src/encap/vxlan.js';
import * as d from '../../src/wire/descriptor.js';
import { addressBytes } from './frames.js';
import { fromRoot } from './need.js';
import { here, inOwnNamespace, isInside } from './own-namespace.js';
import { waitUntil } from './process.js';

export const { native } = extra;
export const ERRNO = { EIO: 5, EBADF: 9, EINVAL: 22, EBADFD: 77, EMSGSIZE: 90, ENETUNREACH: 101 } as const;
export const ETHERNET_MTU = 1500;
export const MODULE = fromRoot('dist/src/dgram-extra/index.js');
export const directory = isInside ? mkdtempSync(path.join(tmpdir(), `${here.name}-`)) : '';

/** The tests of the file with this URL, in a namespace whose loopback has the MTU of an Ethernet. */
export const nativeTests = (url: string, tests: () => Promise<void>): Promise<void> =>
  inOwnNamespace(url, async () => {
    t.teardown(() => {
      rmSync(directory, { recursive: true });
    });
    extra.setLink('lo', { mtuBytes: ETHERNET_MTU });
    await tests();
  });

/** A failed call says which errno, which system call, and what it was done to. */
export function fails(t: Test, call: () => unknown, code: string, syscall: string, device: string): void {
  const message = `${code}: ${syscall} on ${device}`;
  t.throws(call, { name: 'NativeError', code, syscall, device, message }, message);
}

/** Descriptors that pass through it are closed when the test ends, however it ends. */
export function closing(t: Test): (fd: number) => number {
  return (fd) => {
    t.teardown(() => {
      extra.closeDescriptor(fd);
    });
    return fd;
  };
}

export const field = (batch: extra.Batch, index: number, name: number): number =>
  batch.descriptors[index * d.DESCRIPTOR_WORDS + name];

/** Puts a frame into a batch by hand, each in 2 KiB of its own. */
export function put(
  batch: extra.Batch,
  index: number,
  bytes: Uint8Array,
  more: Readonly<Record<number, number>> = {},
): void {
  const at = index * d.DESCRIPTOR_WORDS;
  const offset = d.HEADROOM_BYTES + index * 2048;
  batch.descriptors.fill(0, at, at + d.DESCRIPTOR_WORDS);
  batch.bytes.set(bytes, offset);
  batch.descriptors[at + d.OFFSET] = offset;
  batch.descriptors[at + d.LENGTH] = bytes.length;
  for (const [name, value] of Object.entries(more)) batch.descriptors[at + Number(name)] = value;
}

export function frameOf(batch: extra.Batch, index: number): Uint8Array {
  const offset = field(batch, index, d.OFFSET);
  return batch.bytes.slice(offset, offset + field(batch, index, d.LENGTH));
}

export const list = (...entries: readonly (readonly [frame: number, argument: number])[]): Int32Array =>
  Int32Array.from(entries.flat());

/** The argument of each entry, which is a negated errno where the frame was refused. */
export const results = (entries: Int32Array): number[] => [...entries].filter((_, at) => at % 2 === 1);

/** Two batches for all: at most 16 a thread, and they are never given back. */
export const SLAB_BYTES = 8 * (d.HEADROOM_BYTES + d.MAX_FRAME_BYTES);
const batches = isInside ? [0, 1].map(() => extra.createBatch(8, SLAB_BYTES)) : [];
export const [outgoing, incoming] = batches as [extra.Batch, extra.Batch];

/** A TAP that is up, and on which nothing speaks of its own accord. */
export async function silentTap(t: Test, name: string): Promise<number> {
  const fd = closing(t)(extra.openTap(name, { exclusive: true }));
  await here.quietIpv6(name);
  extra.setLink(name, { up: true });
  return fd;
}

/** Reads until that many are there: a socket or device may still be about to be told. */
export async function receive(read: () => number, wanted: number): Promise<number> {
  let count = 0;
  const enough = (): boolean => {
    count = read();
    return count !== 0;
  };
  await waitUntil(enough, { what: `${wanted} frames`, stepMs: 5 });
  return count;
}

export const RULE = extra.headerRule(ruleWords(VXLAN.rule));
export const udpIn = (fd: number): number =>
  native.udpReceive(incoming.handle, fd, incoming.capacityFrames, RULE);

export function openUdp(address: string, port: number, options: Partial<extra.UdpOptions> = {}): number {
  return extra.openUdp({ address: addressBytes(address), port, label: `${address}:${port}`, ...options });
}
