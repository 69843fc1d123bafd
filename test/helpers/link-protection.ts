// Whether link protection lets a frame pass, as rows of tables.

import { type Test } from 'tap';
import type { ProtectionRules } from '../../src/core/protection/link-protection.js';
import { WHOLE } from '../../src/io/memory.js';
import type { DropReason } from '../../src/model/drops.js';
import { type Protection, PROTECTIONS } from '../../src/model/link-properties.js';
import * as virtio from '../../src/wire/virtio-net.js';
import { guarded, rules } from './guarded.js';

export const ALL: readonly Protection[] = PROTECTIONS;
export type Verdict = DropReason | 'pass';

/** Of one frame, sent as it is or with a virtio-net header. */
export function verdict(
  protection: ProtectionRules,
  bytes: Uint8Array,
  header?: Partial<virtio.Repr>,
): Verdict {
  const { net, port, peer } = guarded(protection);
  if (header === undefined) port.send(bytes);
  else port.sendWith({ ...WHOLE, ...header }, bytes);
  const reasons = Object.keys(net.drops) as DropReason[];
  return peer.take().length > 0 ? 'pass' : (reasons[0] ?? 'pass');
}

export type Row = readonly [what: string, types: readonly Protection[], bytes: Uint8Array, expected: Verdict];

export function table(t: Test, rows: readonly Row[], more: Partial<ProtectionRules> = {}): void {
  for (const [what, types, bytes, expected] of rows)
    t.equal(verdict(rules(types, more), bytes), expected, `${what} under ${types.join() || 'nothing'}`);
}
