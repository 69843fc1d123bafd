/**
 * ICMP messages about paths that the sockets of a datapath thread receive (core/peers/path-news.ts). A turn reads a
 * limited number, and judges fewer: a flood of ICMP costs frames little, and the kernel drops the messages
 * that it has no room for.
 */
import { COUNTER, type Counters } from '../../../core/counts/counters.js';
import type { Mux } from '../../../core/mux.js';
import type { PathReport } from '../../../core/overlay-options.js';
import type { Shared } from '../../../core/overlay.js';
import { hearNews, hearOther, ignoreNews } from '../../../core/peers/path-news.js';
import { createPathNews, type PathNews } from '../../../wire/path-news.js';
import type { Command, Token } from '../protocol.js';

/** Messages read per turn, with two system calls; a message takes a quarter of a microsecond. */
const MESSAGES_A_TURN = 64;
/** Messages judged per JUDGE_MS, some 2 us each. Genuine routers send fewer to a host, and repeat them. */
const JUDGED = 16;
const JUDGE_MS = 10;
/** Messages per second that are passed to other threads although not believed here; a forger could cause
 * more. */
const UNUSED_A_SECOND = 16;
const SECOND_MS = 1000;

export interface PathPlatform {
  /** Reads at most `max` messages. Returns how many there were; negative = none. */
  readPathNews(fd: number, news: PathNews, max: number): number;
  /** Watches a descriptor: `pump` is called with this token when the descriptor is ready, and `hear` if it
   * has an error. */
  watch(fd: number, token: Token): void;
  unwatch(fd: number): void;
}

interface Listening {
  readonly fd: number;
  readonly mux: Mux;
}

type Kind = 'add-sender' | 'remove-sender' | 'paths';

export class PathListener {
  readonly #platform: PathPlatform;
  readonly #shared: Shared;
  readonly #news = createPathNews(MESSAGES_A_TURN);
  readonly #senders = new Map<Token, Listening>();
  #reports: (PathReport & { isBelieved: boolean })[] = [];
  #left = MESSAGES_A_TURN;
  #judgedLeft = JUDGED;
  #judgedMs = 0;
  #unusedLeft = UNUSED_A_SECOND;
  #secondMs = 0;

  constructor(platform: PathPlatform, shared: Shared) {
    this.#platform = platform;
    this.#shared = shared;
  }

  /** `listening`: the sockets that receive. `countersOf`: counters of an overlay of this thread. */
  obey(
    command: Extract<Command, { kind: Kind }>,
    listening: ReadonlyMap<Token, Listening>,
    countersOf: (overlay: number) => Counters | undefined,
  ): void {
    switch (command.kind) {
      case 'add-sender': {
        const { token, fd, socket } = command;
        const listener = listening.get(socket);
        if (listener === undefined) return;
        this.#senders.set(token, { fd, mux: listener.mux });
        if (token !== socket) this.#platform.watch(fd, token);
        return;
      }
      case 'remove-sender': {
        const { token } = command;
        const fd = this.#senders.get(token)?.fd;
        this.#senders.delete(token);
        if (fd !== undefined && !listening.has(token)) this.#platform.unwatch(fd);
        return;
      }
      case 'paths':
        for (const news of command.news) {
          const counters = news.overlay === undefined ? undefined : countersOf(news.overlay);
          if (hearOther(news, this.#shared) && counters !== undefined) counters[COUNTER.path_mtu_learned]++;
        }
    }
  }

  /** Begins a turn. */
  turn(nowMs: number): void {
    this.#left = MESSAGES_A_TURN;
    if (nowMs - this.#judgedMs >= JUDGE_MS) {
      this.#judgedMs = nowMs;
      this.#judgedLeft = JUDGED;
    }
    if (nowMs - this.#secondMs < SECOND_MS) return;
    this.#secondMs = nowMs;
    this.#unusedLeft = UNUSED_A_SECOND;
  }

  /** Reads the messages of a socket. `other`: the socket, if no frame is sent from it. It is read too, since
   * epoll would report it for ever. */
  hear(token: Token, other: Listening | undefined): boolean {
    const sender = this.#senders.get(token);
    const from = sender ?? other;
    if (from === undefined || this.#left === 0) return false;
    const count = this.#platform.readPathNews(from.fd, this.#news, this.#left);
    if (count <= 0) return false;
    this.#left -= count;
    const judged = Math.min(count, this.#judgedLeft);
    this.#judgedLeft -= judged;
    hearNews(from.mux, sender !== undefined, this.#news, judged, this.#shared);
    ignoreNews(from.mux, this.#news, judged, count);
    return true;
  }

  heard(report: PathReport, isBelieved: boolean): void {
    if (isBelieved || this.#unusedLeft-- > 0) this.#reports.push({ ...report, isBelieved });
  }

  /** Takes the reports since the last call; undefined = none. */
  take(): readonly (PathReport & { readonly isBelieved: boolean })[] | undefined {
    if (this.#reports.length === 0) return undefined;
    const reports = this.#reports;
    this.#reports = [];
    return reports;
  }
}
