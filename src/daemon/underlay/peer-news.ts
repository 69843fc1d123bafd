/**
 * Tells of peers that cannot be reached, and of those that send nothing back. Such an overlay stays ONLINE: it
 * has a note with the address of the peer, and the log has one line for each. docs/peers.md has the rules.
 *
 * Unreachable: ICMP has come back at least twice over 2 s, and nothing was heard from the peer meanwhile. A
 * single message is no trouble: frames may leave before the varpd at the other end has started.
 *
 * Silent: frames that ask for an answer (core/peers/asks-for-answer.ts) went there in at least four looks, a second apart,
 * and nothing at all came back. One-way traffic asks for none, so it alone is no reason; and a guest that looks
 * for a station which was switched off sends its three requests (RFC 4861 10) within three looks.
 *
 * Both end when the peer is heard, and when there was no sign of the trouble, or no frame to the peer, for a
 * minute.
 */
import { durationText } from '../../control/drop-text.js';
import type { PeerTrouble } from '../../control/peer-messages.js';
import type { PeerReport } from '../../model/peer-report.js';
import { unreachableName, unreachableQuestion } from '../../model/unreachable.js';
import type { Log } from '../log.js';
import type { OverlayDatapath } from '../../datapath/contract.js';
import type { Endpoint } from '../../wire/ip.js';
import type { Health } from '../health.js';

const RUN_MS = 2_000;
const MIN_MESSAGES = 2;
const MIN_LOOKS = 4;
/** Looks that were late, and came at once, are no four seconds. */
const SILENCE_MS = 2_500;
const QUIET_MS = 60_000;
/** A peer that was heard in this time is not silent, though another thread has not heard it. */
const HEARD_NOW_MS = 1_000;
/** Peers named one by one in the log at a look; a switch that fails may take all of them. */
const MAX_LINES = 5;

type State = PeerTrouble['state'];

/** The parts of an overlay that are looked at. */
export interface WatchedOverlay {
  readonly id: number;
  readonly name: string;
  readonly listen: Endpoint;
  readonly health: Pick<Health, 'note' | 'endNote'>;
  readonly datapath: Pick<OverlayDatapath, 'recordedPeers'>;
}

interface Follow {
  /** `asked` of the last look. */
  readonly asked: number;
  /** The first ICMP message of those that came since the peer was heard. */
  readonly refusedMs: number | undefined;
  /** Looks that saw frames ask for an answer since the peer was heard: the first, the last, how many. */
  readonly askedMs: number | undefined;
  readonly askedLastMs: number;
  readonly looks: number;
  readonly trouble: PeerTrouble | undefined;
}

const STATES: readonly State[] = ['unreachable', 'silent'];

export class PeerNews {
  readonly #log: Log;
  readonly #nowMs: () => number;
  /** Id of the overlay -> peers with something to remember, by address. */
  #follows = new Map<number, ReadonlyMap<string, Follow>>();

  constructor(log: Log, nowMs: () => number = () => performance.now()) {
    this.#log = log;
    this.#nowMs = nowMs;
  }

  look(overlays: Iterable<WatchedOverlay>): void {
    const all = new Map<number, ReadonlyMap<string, Follow>>();
    for (const overlay of overlays) {
      const before = this.#follows.get(overlay.id) ?? new Map<string, Follow>();
      const follows = new Map<string, Follow>();
      for (const peer of overlay.datapath.recordedPeers()) {
        if (!peer.isPeer) continue;
        const follow = this.#follow(peer, overlay, before.get(peer.ip));
        if (follow !== undefined) follows.set(peer.ip, follow);
      }
      this.#tell(overlay, before, follows);
      all.set(overlay.id, follows);
    }
    this.#follows = all;
  }

  /** The peers of an overlay that are in trouble, by address. */
  troubles(id: number): ReadonlyMap<string, PeerTrouble> {
    const troubles = new Map<string, PeerTrouble>();
    for (const [ip, { trouble }] of this.#follows.get(id) ?? [])
      if (trouble !== undefined) troubles.set(ip, trouble);
    return troubles;
  }

  #follow(peer: PeerReport, overlay: WatchedOverlay, before: Follow | undefined): Follow | undefined {
    const { unreachable, asked } = peer;
    // Most peers are well, and nothing is remembered of them.
    if (before === undefined && unreachable === undefined && asked === 0) return undefined;
    const nowMs = this.#nowMs();
    const heardMs = nowMs - (peer.heardAgoMs ?? Infinity);
    const isAsked = asked !== (before?.asked ?? 0);
    const askedLastMs = isAsked ? nowMs : (before?.askedLastMs ?? -Infinity);
    const isOver =
      before?.askedMs === undefined || heardMs >= before.askedMs || nowMs - askedLastMs >= QUIET_MS;
    const isBegin = isOver && isAsked && heardMs < nowMs - HEARD_NOW_MS;
    const follow = {
      asked,
      refusedMs: firstRefused(peer, before, nowMs, heardMs),
      askedMs: isOver ? (isBegin ? nowMs : undefined) : before.askedMs,
      askedLastMs,
      looks: (isOver ? 0 : before.looks) + (isAsked ? 1 : 0),
    };
    const isUsed = (peer.sentAgoMs ?? Infinity) < QUIET_MS;
    const trouble = isUsed
      ? (unreachableTrouble(peer, follow, nowMs) ?? silentTrouble(peer, follow, overlay, nowMs))
      : undefined;
    return { ...follow, trouble };
  }

  /** Notes and log lines about the peers of an overlay. */
  #tell(
    overlay: WatchedOverlay,
    before: ReadonlyMap<string, Follow>,
    follows: ReadonlyMap<string, Follow>,
  ): void {
    const { health, name } = overlay;
    for (const state of STATES) {
      const sentences = [...follows.values()].flatMap(({ trouble }) =>
        trouble?.state === state ? [trouble.reason] : [],
      );
      const more = sentences.length > 1 ? `; and ${sentences.length - 1} more: dladm show-peers ${name}` : '';
      if (sentences.length > 0) health.note(`peers ${state}`, `${sentences[0]}${more}`);
      else health.endNote(`peers ${state}`);
    }
    const changed = [...follows].filter(
      ([ip, { trouble }]) => before.get(ip)?.trouble?.state !== trouble?.state,
    );
    for (const [ip, { trouble }] of changed.slice(0, MAX_LINES)) {
      if (trouble === undefined)
        this.#log.info(`peers ${name}`, `${name}: peer ${ip} is no longer ${before.get(ip)?.trouble?.state}`);
      else this.#log.warn(`peers ${name}`, `${name}: ${trouble.reason}`);
    }
    if (changed.length > MAX_LINES)
      this.#log.warn(
        `peers ${name}`,
        `${name}: ${changed.length - MAX_LINES} more peers have changed: dladm show-peers ${name}`,
      );
  }
}

/** Time of the first message since the peer was heard; undefined if there is none. */
function firstRefused(
  { unreachable }: PeerReport,
  before: Follow | undefined,
  nowMs: number,
  heardMs: number,
): number | undefined {
  if (unreachable === undefined) return undefined;
  const [firstMs, lastMs] = [nowMs - unreachable.firstAgoMs, nowMs - unreachable.lastAgoMs];
  if (heardMs >= lastMs) return undefined;
  if (heardMs < firstMs) return firstMs;
  // Another thread has heard it in between.
  return before?.refusedMs !== undefined && before.refusedMs > heardMs ? before.refusedMs : lastMs;
}

type Signs = Omit<Follow, 'trouble'>;

function unreachableTrouble(
  { ip, unreachable }: PeerReport,
  { refusedMs }: Signs,
  nowMs: number,
): PeerTrouble | undefined {
  if (unreachable === undefined || refusedMs === undefined) return undefined;
  const { kind, port, from, messages, lastAgoMs } = unreachable;
  const lastedMs = nowMs - lastAgoMs - refusedMs;
  if (messages < MIN_MESSAGES || lastedMs < RUN_MS || lastAgoMs >= QUIET_MS) return undefined;
  const sender = from === undefined || from === ip ? '' : ` from ${from}`;
  const when = `${durationText(lastAgoMs)} ago, for ${durationText(nowMs - refusedMs)}`;
  const reason = `peer ${ip} cannot be reached: ${unreachableName(kind)}${sender} (${when}): ${unreachableQuestion(kind, port)}`;
  return { state: 'unreachable', reason };
}

function silentTrouble(
  { ip, heardAgoMs }: PeerReport,
  { askedMs, askedLastMs, looks }: Signs,
  { listen }: WatchedOverlay,
  nowMs: number,
): PeerTrouble | undefined {
  if (askedMs === undefined || looks < MIN_LOOKS) return undefined;
  if (nowMs - askedMs < SILENCE_MS || nowMs - askedLastMs >= QUIET_MS) return undefined;
  const since =
    heardAgoMs === undefined ? 'it was never heard' : `last heard ${durationText(heardAgoMs)} ago`;
  const reason = `peer ${ip} sends nothing back (${since}): is varpd running there, is ${listen.ip} a peer there, does a firewall drop UDP? Or the stations that were asked are down`;
  return { state: 'silent', reason };
}
