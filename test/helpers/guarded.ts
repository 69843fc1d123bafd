// A port under link protection, and the rules that it is under.
import type { ProtectionRules } from '../../src/core/protection/link-protection.js';
import { parsePrefix, type Protection } from '../../src/model/link-properties.js';
import { OWN_V4, OWN_V6 } from './guest-frames.js';
import { Lab, MAC } from './lab.js';

export const rules = (
  types: readonly Protection[],
  more: Partial<ProtectionRules> = {},
): ProtectionRules => ({
  types,
  addresses: [OWN_V4, OWN_V6].flatMap((text) => parsePrefix(text) ?? []),
  clientIds: [],
  ...more,
});

/** A port MAC.a under these rules, in an overlay with one destination for all. */
export function guarded(protection: ProtectionRules | undefined, vid = 0) {
  const lab = new Lab(65535);
  const vtep = lab.vtep('192.0.2.1');
  const peer = lab.peer('192.0.2.2');
  const net = vtep.overlay({ destination: peer.local, mtuBytes: 8900 });
  const port = net.port(MAC.a, { vid });
  port.protect(protection);
  return { lab, vtep, peer, net, port };
}
