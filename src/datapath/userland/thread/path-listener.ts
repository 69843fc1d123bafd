/**
 * What sockets of a datapath thread hear of paths (core/path-news.ts). So much a turn and no more is read, and less than that is
 * judged: a flood of ICMP costs frames little, and what there is no room for is lost in the kernel.
 */
import { COUNTER, type Counters } from '../../../core/counters.js';
import type { Mux } from '../../../core/mux.js';
import type { PathReport } from '../../../core/overlay-options.js';
import type { Shared } from '../../../core/overlay.js';
import { hearNews, hearOther, ignoreNews } from '../../../core/path-news.js';
import { createPathNews, type PathNews } from '../../../wire/path-news.js';
import type { Command, Token } from '../protocol.js';

/** Read in a turn: two system calls, a quarter of a microsecond each. */
const MESSAGES_A_TURN = 64;
/** Judged in JUDGE_MS, some 2 us each: honest routers tell a host less often, and tell it again. */
const JUDGED = 16;
const JUDGE_MS = 10;
/** Told to other threads though not believed here, in a second: who forges can make more of them. */
const UNUSED_A_SECOND = 16;
const SECOND_MS = 1000;

export interface PathPlatform {
  /** What there is to read, at most `max`: how many messages there were. Negative = none. */
  readPathNews(fd: number, news: PathNews, max: number): number;
  /** `pump` is to be called with this token whenever the descriptor has something; `hear`, if that is an error. */
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

  /** `listening`: the sockets that receive; `countersOf` an overlay of this thread. */
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

  /** A turn begins. */
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

  /** `other`: a socket that nothing was sent from. It is read all the same, since epoll would tell of it for ever. */
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

  /** What was heard since; undefined = nothing. */
  take(): readonly (PathReport & { readonly isBelieved: boolean })[] | undefined {
    if (this.#reports.length === 0) return undefined;
    const reports = this.#reports;
    this.#reports = [];
    return reports;
  }
}
