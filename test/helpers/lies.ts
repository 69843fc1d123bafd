// What a guest with link protection could lie about, found in a frame that left: an opinion of its own, written from the
// RFCs, against which the checks of src/core/protection/link-protection.ts are held.
import { hex } from './lab.js';

/** Where the network header of a frame begins, and its type; a receiver that looks behind any number of tags. */
function networkOf(bytes: Uint8Array): [type: number, at: number] {
  const word = (at: number) => (bytes[at] << 8) | bytes[at + 1];
  let at = 14;
  while ([0x8100, 0x88a8, 0x9100].includes(word(at - 2))) at += 4;
  return [word(at - 2), at];
}

/**
 * What a receiver could take from a frame of a port with all four protections that it should not; undefined when there is
 * nothing. Reads as receivers do, leniently. MAC and addresses in hexadecimal digits.
 */
export function lieOf(
  bytes: Uint8Array,
  mac: string,
  isOwn: (address: string) => boolean,
): string | undefined {
  const text = (at: number, length: number) => hex(bytes.subarray(at, at + length));
  const mine = (at: number, length: number) => {
    const found = text(at, length);
    return /^0*$/.test(found) || isOwn(found);
  };
  const word = (at: number) => (bytes[at] << 8) | bytes[at + 1];
  if (text(6, 6) !== mac) return 'source MAC';
  const [type, ip] = networkOf(bytes);
  if (type === 0x0806) {
    if (text(ip + 8, 6) !== mac) return 'ARP sender MAC';
    const isProbe = /^0*$/.test(text(ip + 14, 4));
    return mine(ip + (isProbe ? 24 : 14), 4) ? undefined : 'ARP sender';
  }
  if (type !== 0x0800 && type !== 0x86dd) return 'EtherType';
  const is4 = type === 0x0800;
  if (!(is4 ? mine(ip + 12, 4) : mine(ip + 8, 16))) return 'source address';
  let protocol = is4 ? bytes[ip + 9] : bytes[ip + 6];
  let at = ip + (is4 ? (bytes[ip] & 15) * 4 : 40);
  if (is4 && ((bytes[ip + 6] & 0x1f) | bytes[ip + 7]) !== 0) return undefined;
  while (!is4 && [0, 43, 44, 60].includes(protocol)) {
    if (protocol === 44 && ((bytes[at + 2] << 8) | bytes[at + 3]) >> 3 !== 0) return undefined;
    const next = bytes[at];
    at += protocol === 44 ? 8 : (bytes[at + 1] + 1) * 8;
    protocol = next;
  }
  if (at >= bytes.length) return undefined;
  const end = Math.min(bytes.length, is4 ? ip + word(ip + 2) : ip + 40 + word(ip + 4));
  if (protocol === 1 && is4 && [5, 9, 10].includes(bytes[at])) return 'router message';
  if (protocol === 2 && is4 && [0x30, 0x32].includes(bytes[at])) return 'multicast router';
  if (protocol === 58 && !is4) {
    if ([134, 137, 138, 149, 151, 153, 154].includes(bytes[at])) return 'router message';
    if ([141, 142].includes(bytes[at])) return 'inverse discovery';
    if (bytes[at] === 136 && !mine(at + 8, 16)) return 'advertised target';
    const isAsking = bytes[at] === 135 && /^0*$/.test(text(ip + 8, 16));
    if (isAsking && !mine(at + 8, 16)) return 'asks whether an address of another is free';
    const options = { 133: 8, 135: 24, 136: 24 }[bytes[at]];
    for (let next = at + (options ?? bytes.length); next < end; next += bytes[next + 1] * 8) {
      if ((bytes[next] === 1 || bytes[next] === 2) && text(next + 2, 6) !== mac) return 'link-layer option';
      if ((bytes[next + 1] ?? 0) === 0) break;
    }
  }
  if (protocol !== 17) return undefined;
  const ports = [word(at), word(at + 2)];
  if (is4 && (ports[0] === 67 || ports[1] === 68)) return 'DHCP server';
  if (!is4 && (ports[0] === 547 || ports[1] === 546)) return 'DHCPv6 server';
  if (is4 && (ports[0] === 68 || ports[1] === 67)) return dhcpLieOf(bytes.subarray(at + 8, end), mac);
  if (!is4 && (ports[0] === 546 || ports[1] === 547)) return dhcpV6LieOf(bytes.subarray(at + 8, end));
  return undefined;
}

/** The same of a message to a DHCP server. */
function dhcpLieOf(message: Uint8Array, mac: string): string | undefined {
  if (hex(message.subarray(28, 34)) !== mac) return 'DHCP client';
  if (message[3] !== 0 || message.subarray(24, 28).some((byte) => byte !== 0)) return 'DHCP relay';
  for (let at = 240; at < message.length && message[at] !== 255;) {
    if (message[at] === 82) return 'DHCP relay option';
    if (message[at] === 53 && ![1, 3, 4, 7, 8].includes(message[at + 2])) return 'DHCP message type';
    at += message[at] === 0 ? 1 : 2 + message[at + 1];
  }
  return undefined;
}

function dhcpV6LieOf(message: Uint8Array): string | undefined {
  if (![1, 3, 4, 5, 6, 8, 9, 11].includes(message[0])) return 'DHCPv6 message type';
  const word = (at: number) => (message[at] << 8) | message[at + 1];
  for (let at = 4; at + 4 <= message.length; at += 4 + word(at + 2))
    if ([9, 18, 37, 38, 53, 66, 79, 135].includes(word(at))) return 'DHCPv6 relay option';
  return undefined;
}
