/** A dropped frame in words, for dladm and for the log. */
import type { DroppedFrameInfo } from './messages.js';

const ETHER_TYPES: Readonly<Record<number, string>> = { 0x0800: 'IPv4', 0x0806: 'ARP', 0x86dd: 'IPv6' };

/**
 * `VNI 32 from 10.88.88.70:52011, 02:08:20:00:00:01 > ff:ff:ff:ff:ff:ff, ARP, 42 bytes`. Parts that are not
 * known are left out.
 */
export function droppedFrameText(frame: DroppedFrameInfo): string {
  const { vnetid, from, port, sourceMac, destinationMac, etherType, vlan, bytes } = frame;
  const place = from ?? port;
  const origin = [vnetid === null ? '' : `VNI ${vnetid}`, place === null ? '' : `from ${place}`];
  const parts = [
    origin.filter(Boolean).join(' '),
    sourceMac === null ? '' : `${sourceMac} > ${destinationMac}`,
    vlan === null ? '' : `VLAN ${vlan}`,
    etherType === null ? '' : (ETHER_TYPES[etherType] ?? `0x${etherType.toString(16).padStart(4, '0')}`),
    `${bytes} bytes`,
  ];
  return parts.filter(Boolean).join(', ');
}

/** `3 s`, `4 min`, `5 h`, `6 d`: whole units, rounded down. */
export function durationText(milliseconds: number): string {
  const seconds = Math.floor(Math.max(0, milliseconds) / 1000);
  if (seconds < 120) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 120) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h` : `${Math.floor(hours / 24)} d`;
}
