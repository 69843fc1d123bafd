/**
 * The connection of the live page to varpd: a watch for all pages, and the peers while a page is open. It begins again when varpd
 * does not answer.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { type Call, createClient } from '../control/client.js';
import type { Explanation } from '../control/explain-messages.js';
import { MAX_TARGET_ROWS, type TargetRow } from '../control/messages.js';
import type { Methods } from '../control/methods.js';
import type { PeerRow } from '../control/peer-messages.js';
import { createOpener, type Open } from '../control/stream-client.js';
import { openWatch, type Watch } from '../control/watch-client.js';
import type { WatchKind } from '../control/watch-messages.js';
import {
  MAX_TABLE_ROWS,
  type PageEvents,
  type PeerView,
  type Table,
  type TableRow,
  type TargetsNews,
} from './messages.js';
import { Model, peerViews } from './model.js';

const RETRY_MS = 1_000;
/** Pages get what has changed at this interval. */
const UPDATE_MS = 500;
/** A reading of the peers is a request for each overlay, and a walk over its table. */
const PEERS_MS = 5_000;
/** With many peers and targets, readings are further apart. */
const SHARE_OF_VARPD = 1 / 200;
const MAX_PEERS_MS = 60_000;

type Told = <E extends keyof PageEvents>(event: E, data: PageEvents[E], overlay?: string) => void;

export class Feed {
  readonly model: Model;
  readonly #call: Call;
  readonly #open: Open;
  readonly #tell: Told;
  readonly #bug: (error: unknown) => void;
  readonly #kinds: WatchKind[];
  #pages = 0;
  #targets: Watch | undefined;
  #isFollowing = false;
  #peerRows = new Map<string, PeerRow>();
  #readMs = 0;
  #isReading = false;

  /** `hasLog`: the pages may show the log. */
  constructor(
    { socket, hostName, hasLog }: { socket: string; hostName: string; hasLog: boolean },
    tell: Told,
    bug: (error: unknown) => void,
  ) {
    this.model = new Model(hostName, hasLog);
    this.#kinds = hasLog ? ['state', 'counters', 'log'] : ['state', 'counters'];
    this.#call = createClient(socket);
    this.#open = createOpener(socket);
    this.#tell = tell;
    this.#bug = bug;
  }

  start(): void {
    this.#follow().catch(this.#bug);
    setInterval(() => {
      const update = this.model.update();
      if (update !== undefined && this.#pages > 0) this.#tell('update', update);
    }, UPDATE_MS);
  }

  /** A page was opened. Returns a function to be called when it was closed. */
  opened(): () => void {
    this.#pages++;
    if (this.#pages === 1) {
      this.#followPeers().catch(this.#bug);
      this.#followTargets().catch(this.#bug);
    }
    return () => {
      this.#pages--;
      if (this.#pages === 0) this.#targets?.end();
    };
  }

  async #follow(): Promise<void> {
    for (;;) {
      try {
        const watch = await openWatch(this.#open, { kinds: this.#kinds });
        this.model.begin(watch.info);
        for await (const event of watch.events) this.model.take(event);
        this.model.lose('varpd has ended, or restarts');
      } catch (error) {
        this.model.lose(sentenceOf(error));
      }
      await sleep(RETRY_MS);
    }
  }

  /** While a page is open. */
  async #followTargets(): Promise<void> {
    if (this.#isFollowing) return;
    this.#isFollowing = true;
    try {
      while (this.#pages > 0) {
        try {
          this.#targets = await openWatch(this.#open, { kinds: ['targets'] });
          for await (const event of this.#targets.events) this.#targetsEvent(event);
        } catch {
          // The page says so already: the other watch has the same trouble.
        }
        if (this.#pages > 0) await sleep(RETRY_MS);
      }
    } finally {
      this.#isFollowing = false;
    }
  }

  #targetsEvent(event: Watch['events'] extends AsyncIterable<infer E> ? E : never): void {
    const tell = (news: TargetsNews): void => {
      this.#tell('targets', news, news.overlay);
    };
    if (event.kind === 'targets') tell({ overlay: event.overlay, rows: event.rows });
    else if (event.kind === 'missed') for (const overlay of this.model.names) tell({ overlay, rows: null });
  }

  /** While a page is open. */
  async #followPeers(): Promise<void> {
    if (this.#isReading) return;
    this.#isReading = true;
    try {
      while (this.#pages > 0) {
        const startedMs = performance.now();
        await this.#readPeers();
        const pauseMs = (performance.now() - startedMs) / SHARE_OF_VARPD;
        await sleep(Math.min(Math.max(pauseMs, PEERS_MS), MAX_PEERS_MS));
      }
    } finally {
      this.#isReading = false;
    }
  }

  async #readPeers(): Promise<void> {
    const nowMs = performance.now();
    const seconds = (nowMs - this.#readMs) / 1000;
    const views: PeerView[] = [];
    const rows = new Map<string, PeerRow>();
    for (const overlay of this.model.names) {
      const read = await this.#peersOf(overlay);
      views.push(...peerViews(overlay, read, this.#peerRows, seconds));
      for (const row of read) rows.set(`${overlay} ${row.ip}`, row);
    }
    this.#readMs = nowMs;
    this.#peerRows = rows;
    this.model.setPeers(views);
    this.#tell('peers', views);
  }

  /** None of an overlay that is offline, or gone, or while varpd does not answer. */
  async #peersOf(name: string): Promise<readonly PeerRow[]> {
    const rows: PeerRow[] = [];
    try {
      for (let after: string | null | undefined; after !== null;) {
        const page = await this.#call('overlay.peers', { name, ...(after !== undefined && { after }) });
        rows.push(...page.rows);
        after = page.next;
      }
    } catch {
      return [];
    }
    return rows;
  }

  /** The rows of a table with this text in them. Rejects as `call` does. */
  async table(name: string, text: string): Promise<Table> {
    const rows: TableRow[] = [];
    for (let after: string | null | undefined; after !== null;) {
      const page = await this.#call('overlay.targets', {
        name,
        limit: MAX_TARGET_ROWS,
        ...(after !== undefined && { after }),
      });
      for (const row of page.rows.map(tableRow))
        if (text === '' || row.join(' ').includes(text)) rows.push(row);
      if (rows.length > MAX_TABLE_ROWS)
        return { overlay: name, rows: rows.slice(0, MAX_TABLE_ROWS), isCut: true };
      after = page.next;
    }
    return { overlay: name, rows, isCut: false };
  }

  /** Rejects as `call` does. */
  explain(params: Methods['overlay.explain']['params']): Promise<Explanation> {
    return this.#call('overlay.explain', params);
  }
}

function tableRow({ mac, state, destinations, origin, ageMs }: TargetRow): TableRow {
  return [mac, state, destinations.join(' '), origin, ageMs === null ? null : Math.round(ageMs / 1000)];
}

function sentenceOf(error: unknown): string {
  return error instanceof Error ? error.message : 'varpd does not answer';
}
