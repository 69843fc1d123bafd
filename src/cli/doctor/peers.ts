/** Asks peers for an answer, by a probe of one station at each. Nothing else of doctor sends anything. */
import { type Call, createClient } from '../../control/client.js';
import { counted } from '../../model/sentences.js';
import { parseEndpoint } from '../../wire/ip.js';
import { fail, firstOf, ok, type Plain, skip } from './finding.js';
import { runs, type OverlaySubject, type Subject } from './subject.js';

/** No probe of an overlay begins after this time: one without an answer takes two seconds. */
const BEGIN_WITHIN_MS = 1500;

export interface PeerAnswer {
  /** Underlay address. */
  readonly peer: string;
  readonly mac: string;
  /** Undefined: there was no time left to ask. */
  readonly isAnswered: boolean | undefined;
}

export interface PeersFacts {
  readonly overlay: string;
  /** The port that has asked. */
  readonly port: string;
  readonly answers: readonly PeerAnswer[];
  /** The reason why no peer could be asked. */
  readonly refusal: string | undefined;
}

/** Undefined: the overlay does not run. Never rejects. */
export async function readPeers(
  { name, listenIp, vnics, running }: OverlaySubject,
  { socket, varpd }: Pick<Subject, 'socket' | 'varpd'>,
): Promise<PeersFacts | undefined> {
  if (!runs(varpd) || running === undefined || running.health.status === 'OFFLINE') return undefined;
  // A VNIC is in the mapping of every host; the port of the overlay often is not, and gets no answer.
  const port = vnics.find(({ state }) => state === 'up')?.name ?? name;
  const call = createClient(socket);
  const answers: PeerAnswer[] = [];
  try {
    const untilMs = performance.now() + BEGIN_WITHIN_MS;
    for (const [peer, mac] of await stationsOf(call, name, listenIp)) {
      const isAnswered = performance.now() < untilMs ? await asks(call, name, port, mac) : undefined;
      answers.push({ peer, mac, isAnswered });
    }
    return { overlay: name, port, answers, refusal: undefined };
  } catch (error) {
    return { overlay: name, port, answers, refusal: (error as Error).message };
  }
}

/** Peer -> the MAC of a station that frames go to there. */
async function stationsOf(call: Call, name: string, listenIp: string): Promise<ReadonlyMap<string, string>> {
  const { rows } = await call('overlay.targets', { name });
  const stations = new Map<string, string>();
  for (const { mac, state, destinations } of rows) {
    const peer = parseEndpoint(destinations.at(0) ?? '')?.ip;
    const isStation = state === 'valid' && !mac.startsWith('*') && peer !== undefined && peer !== listenIp;
    if (isStation && !stations.has(peer)) stations.set(peer, mac);
  }
  return stations;
}

async function asks(call: Call, name: string, port: string, target: string): Promise<boolean> {
  const params = { name, target, port, count: 1, isMtuSought: false, isEachPath: false };
  return (await call('overlay.probe', params)).received > 0;
}

export function checkPeers(facts: PeersFacts | undefined): Plain {
  if (facts === undefined) return skip('PEER-ANSWERS', 'the overlay does not run');
  const { overlay, port, answers, refusal } = facts;
  const from = port === overlay ? '' : `-i ${port} `;
  const silent = answers.filter(({ isAnswered }) => isAnswered === false);
  const asked = answers.filter(({ isAnswered }) => isAnswered !== undefined);
  if (silent.length > 0)
    return fail(
      'PEER-ANSWERS',
      `no answer from ${firstOf(silent.map(({ peer, mac }) => `${peer} (${mac})`))}, of ${counted(asked.length, 'peer')} that were asked`,
      `dladm probe ${from}${overlay} ${silent[0].mac}, and dladm doctor there: docs/probe.md`,
    );
  if (refusal !== undefined) return skip('PEER-ANSWERS', `a probe was refused: ${refusal}`);
  if (asked.length === 0)
    return skip(
      'PEER-ANSWERS',
      'no station of a peer is known yet',
      `dladm probe ${from}${overlay} MAC or IP address of one`,
    );
  const left = answers.length - asked.length;
  const more = left === 0 ? '' : `; there was no time to ask ${left} more`;
  return ok('PEER-ANSWERS', `${counted(asked.length, 'peer')} answered${more}`);
}
