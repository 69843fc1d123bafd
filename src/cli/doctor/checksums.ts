/**
 * Looks for peers that send zero UDP checksums: the kernel never puts their datagrams together (UDP_GRO). No
 * socket is told the checksum, so it is inferred from what was received (core/peers/coalescing.ts).
 */
import { createClient } from '../../control/client.js';
import type { PeerRow } from '../../control/peer-messages.js';
import type { EncapsulationName } from '../../encap/index.js';
import { readPages } from '../../control/pages.js';
import { counted } from '../../model/sentences.js';
import { firstOf, ok, type Plain, skip, warn } from './finding.js';
import { runs, type OverlaySubject, type Subject } from './subject.js';
import type { WireFacts } from './wire.js';

export type PeerTraffic = Pick<PeerRow, 'ip' | 'rxFrames' | 'framesPerRead' | 'uncoalescedReads'>;

export interface ChecksumFacts {
  readonly encap: EncapsulationName;
  /** Whether the sockets ask the kernel to put datagrams together; undefined = the overlay does not run. */
  readonly isAsked: boolean | undefined;
  /** The text says why they are not known. */
  readonly peers: readonly PeerTraffic[] | string;
  /** The links that packets arrive by, without those upon them. */
  readonly wires: readonly Pick<WireFacts, 'name' | 'features'>[];
}

/** Never rejects. */
export async function readChecksums(
  { name, encap, running }: OverlaySubject,
  { socket, varpd }: Pick<Subject, 'socket' | 'varpd'>,
): Promise<Omit<ChecksumFacts, 'wires'>> {
  if (!runs(varpd) || running === undefined || running.health.status === 'OFFLINE')
    return { encap, isAsked: undefined, peers: [] };
  const peers = await readPages(createClient(socket), 'overlay.peers', { name }).then(
    (pages) => pages.flatMap(({ rows }) => rows),
    (error: unknown) => `varpd does not tell of its peers: ${(error as Error).message}`,
  );
  return { encap, isAsked: running.offloads.includes('coalesce'), peers };
}

/** So many reads are no accident. Each had eight messages or more, so they are 800 datagrams at least: 1 MB at
 * full speed, which any transfer of a file has. */
const ENOUGH_READS = 100;
/** A few trains of this many frames, from which the kernel is seen to put datagrams together. */
const ENOUGH_FRAMES = 100;

/** Frames that came without a read of their own. */
function coalescedFrames({ rxFrames, framesPerRead }: PeerTraffic): number {
  return framesPerRead === null ? 0 : Math.round(rxFrames - rxFrames / framesPerRead);
}

/**
 * Each such read has eight messages. If the kernel put datagrams together at all, they would bring dozens of
 * frames more than there are reads: fewer than one means that it nearly never does.
 */
const isSuspect = (peer: PeerTraffic): boolean =>
  peer.uncoalescedReads >= ENOUGH_READS && coalescedFrames(peer) < peer.uncoalescedReads;

export function checkChecksums({ encap, isAsked, peers, wires }: ChecksumFacts): Plain {
  if (isAsked === undefined) return skip('PEER-CHECKSUMS', 'the overlay does not run');
  if (!isAsked)
    return skip(
      'PEER-CHECKSUMS',
      'the overlay does not ask for receive coalescing (offload without coalesce, or Linux before 5.0)',
    );
  if (typeof peers === 'string') return skip('PEER-CHECKSUMS', peers);
  const suspects = peers.filter(isSuspect);
  const good = peers.filter((peer) => !isSuspect(peer) && coalescedFrames(peer) >= ENOUGH_FRAMES);
  if (suspects.length > 0) return whyNot(wires) ?? zeroChecksums(encap, suspects, good.length);
  if (good.length > 0)
    return ok('PEER-CHECKSUMS', `datagrams of ${counted(good.length, 'peer')} are put together`);
  return skip('PEER-CHECKSUMS', 'no peer has sent enough full-size datagrams at once to tell');
}

/** The reason why the links put nothing together, whatever a peer sends. */
function whyNot(wires: ChecksumFacts['wires']): Plain | undefined {
  if (wires.length === 0) return skip('PEER-CHECKSUMS', 'the link of the listen address is not known');
  for (const { name, features } of wires) {
    if (typeof features === 'string')
      return skip('PEER-CHECKSUMS', `whether ${name} puts datagrams together is not known: ${features}`);
    if (features.get('generic-receive-offload')?.isOn !== true)
      return skip('PEER-CHECKSUMS', `${name} puts nothing together: generic-receive-offload is off`);
  }
  return undefined;
}

function zeroChecksums(encap: EncapsulationName, suspects: readonly PeerTraffic[], good: number): Plain {
  const names = firstOf(suspects.map(({ ip }) => ip ?? 'addresses without a record'));
  const reads = suspects.reduce((sum, { uncoalescedReads }) => sum + uncoalescedReads, 0);
  // That others are put together shows that the link does so. Without them there is a second cause.
  const others =
    good === 0
      ? ' (or packets come too far apart for the link to do so)'
      : `, while those of ${counted(good, 'other peer')} are`;
  return warn(
    'PEER-CHECKSUMS',
    `${names} ${suspects.length === 1 ? 'seems' : 'seem'} to send zero UDP checksums (inferred): in ${counted(reads, 'read')} full-size datagrams waited side by side and were not put together${others}: receiving is slower`,
    `tcpdump -nv shows it (no cksum); at the peer: varpd: ${encap}/udp_checksum=full; Open vSwitch: options:csum=true; the kernel: delete its link and add it again with udpcsum, over IPv6 without udp6zerocsumtx (ip link set cannot change them): docs/doctor.md`,
  );
}
