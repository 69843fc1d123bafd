/** Looks at overlays by the account of varpd: their health, their VNICs, offloads, and the queues of sockets. */
import { linkOffloads, TUN_F } from '../../dgram-extra/index.js';
import { counted } from '../../model/sentences.js';
import { fail, firstOf, ok, type Plain, skip, warn } from './finding.js';
import type { OverlaySubject } from './subject.js';

export interface PortOffloads {
  readonly port: string;
  /** TUN_F flags that varpd wants, and of those the ones that are off. */
  readonly offFlags: number;
}

export interface OverlayFacts extends Pick<OverlaySubject, 'name' | 'vnics' | 'running'> {
  readonly ports: readonly PortOffloads[];
}

export function readOverlay({ name, vnics, running }: OverlaySubject): OverlayFacts {
  const ports = [name, ...vnics.map((vnic) => vnic.name)].flatMap((port): PortOffloads[] => {
    const offloads = linkOffloads(port);
    return offloads === undefined ? [] : [{ port, offFlags: wantedOf(running) & ~offloads.inForce }];
  });
  return { name, vnics, running, ports };
}

const TSO = TUN_F.TSO4 | TUN_F.TSO6;
const USO = TUN_F.USO4 | TUN_F.USO6;

/** Offloads that the overlay has, by the word that show-overlay has for them. */
const WANTED = { checksum: TUN_F.CSUM, tso: TSO, uso: USO } as const;

function wantedOf(running: OverlaySubject['running']): number {
  return Object.entries(WANTED)
    .filter(([name]) => running?.offloads.includes(name) === true)
    .reduce((flags, [, flag]) => flags | flag, 0);
}

export function checkOverlay(facts: OverlayFacts): Plain[] {
  const { running } = facts;
  if (running === undefined)
    return (['OVERLAY', 'VNIC', 'PORT-OFFLOADS', 'RECEIVE-QUEUE'] as const).map((code) =>
      skip(code, 'varpd does not answer'),
    );
  return [checkHealth(running.health), vnics(facts), offloads(facts), receiveQueue(running.counters)];
}

export function checkHealth({ status, details }: NonNullable<OverlaySubject['running']>['health']): Plain {
  const why = details ?? 'no reason is given';
  if (status === 'ONLINE') return ok('OVERLAY', 'it is ONLINE');
  return status === 'DEGRADED'
    ? warn('OVERLAY', `it is DEGRADED: ${why}`, 'docs/links.md and docs/troubleshooting.md have the sentence')
    : fail(
        'OVERLAY',
        `it is OFFLINE: ${why}`,
        'remove the reason; varpd tries again, dladm up-overlay at once',
      );
}

function vnics({ name: overlay, vnics: all }: OverlayFacts): Plain {
  const wrong = all.filter(({ state }) => state !== undefined && state !== 'up');
  if (wrong.length === 0)
    return ok('VNIC', all.length === 0 ? 'it has no VNIC' : `its ${counted(all.length, 'VNIC')} can be used`);
  const [{ name, state = '' }] = wrong;
  const more = wrong.length === 1 ? '' : `; and ${wrong.length - 1} more`;
  return warn(
    'VNIC',
    `${name}: ${state}${more}`,
    `${cureOf(name, state, overlay)}; dladm show-vnic has each state`,
  );
}

/** `state`: as `show-vnic` has it, but not `up`. */
function cureOf(vnic: string, state: string, overlay: string): string {
  if (state === 'down') return `ip link set ${vnic} up`;
  const name = /^renamed to (.+)$/.exec(state)?.[1];
  if (name !== undefined) return `ip link set ${name} name ${vnic}`;
  if (state.startsWith('has the MAC')) return 'docs/links.md has the rules of MACs';
  return `dladm up-overlay ${overlay} opens it again`;
}

/** ethtool(8) has these words for them. */
const KNOBS: readonly (readonly [flags: number, knob: string])[] = [
  [TUN_F.CSUM, 'tx-checksum-ip-generic'],
  [TUN_F.TSO4, 'tx-tcp-segmentation'],
  [TUN_F.TSO6, 'tx-tcp6-segmentation'],
  [USO, 'tx-udp-segmentation'],
];

function offloads({ ports }: OverlayFacts): Plain {
  if (ports.length === 0) return skip('PORT-OFFLOADS', 'none of its interfaces is in this network namespace');
  const wrong = ports.filter(({ offFlags }) => offFlags !== 0);
  if (wrong.length === 0) return ok('PORT-OFFLOADS', 'every offload of its interfaces is on');
  const [{ port, offFlags }] = wrong;
  const knobs = KNOBS.filter(([flags]) => (offFlags & flags) !== 0).map(([, knob]) => knob);
  return warn(
    'PORT-OFFLOADS',
    `${knobs.join(', ')} of ${firstOf(wrong.map((one) => one.port))} is switched off: it is slower`,
    `ethtool -K ${port} ${knobs.map((knob) => `${knob} on`).join(' ')}`,
  );
}

function receiveQueue(counters: Readonly<Record<string, number>>): Plain {
  const lost = counters['rx_queue_full'] ?? 0;
  return lost === 0
    ? ok('RECEIVE-QUEUE', 'no receive queue has overflowed')
    : warn(
        'RECEIVE-QUEUE',
        `${counted(lost, 'message')} lost since the socket was opened, for its queue was full or a checksum wrong`,
        'is the processor busy (top -H), or a sender hostile? docs/limits.md; several queues: docs/offloads.md',
      );
}
