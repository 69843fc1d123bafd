/**
 * Reports frames of one overlay with a wrong sender: a MAC of this host that comes from elsewhere, and a VNIC
 * that sends from another station's MAC. The datapath counts all such frames, and reports one a second.
 */
import type { Notice } from '../../core/notices.js';
import { formatMac, isMulticast, ZERO } from '../../wire/mac.js';
import type { Health } from '../health.js';
import type { Log } from '../log.js';

/**
 * The overlay has a note at once. After this time the trouble is permanent: two stations with one MAC by
 * mistake, or a loop. A station that moves needs much less.
 */
const LASTS_MS = 10_000;
/** After this time without such a frame the trouble is over. */
const QUIET_MS = 30_000;
/** Pause between two lines about the same. */
const REPEAT_MS = 60_000;
/** Lines that are remembered; after more of them each may come again. */
const MAX_SAID = 256;

export type SourceNotice = Exclude<Notice, { kind: 'narrowPath' }>;

export class SourceWatch {
  readonly #health: Health;
  readonly #log: Log;
  readonly #nowMs: () => number;
  /** Line -> time when it was logged. */
  readonly #said = new Map<string, number>();
  #sinceMs: number | undefined;
  #quiet: NodeJS.Timeout | undefined;

  constructor(health: Health, log: Log, nowMs = () => performance.now()) {
    this.#health = health;
    this.#log = log;
    this.#nowMs = nowMs;
  }

  /** `port`: the port of this overlay that has the MAC. */
  heard(notice: SourceNotice, port: string | undefined): void {
    const mac = formatMac(notice.mac);
    if (notice.kind === 'otherSource') {
      this.#say(
        `port ${notice.port} sends from ${mac}, which is not its MAC: frames to ${mac} go to ` +
          `${this.#health.overlay}, not to ${notice.port} (tx_other_source)`,
      );
      return;
    }
    const whose =
      port !== undefined
        ? `which port ${port} of this host has just sent from: a loop, or the same MAC at two places`
        : notice.mac === ZERO || isMulticast(notice.mac)
          ? "which is no station's"
          : 'which a port of this host has just had';
    const sentence = `frames from ${notice.from} are refused: their source is ${mac}, ${whose} (rx_bad_source)`;
    this.#say(sentence);
    this.#sinceMs ??= this.#nowMs();
    this.#health.note('source', sentence);
    if (this.#nowMs() - this.#sinceMs >= LASTS_MS) this.#health.degrade('source', sentence);
    clearTimeout(this.#quiet);
    this.#quiet = setTimeout(() => {
      this.#sinceMs = undefined;
      this.#health.endNote('source');
      this.#health.restore('source');
    }, QUIET_MS);
    this.#quiet.unref();
  }

  stop(): void {
    clearTimeout(this.#quiet);
  }

  #say(sentence: string): void {
    const nowMs = this.#nowMs();
    const saidMs = this.#said.get(sentence) ?? -Infinity;
    if (nowMs - saidMs < REPEAT_MS) return;
    if (this.#said.size >= MAX_SAID) this.#said.clear();
    this.#said.set(sentence, nowMs);
    this.#log.warn(`source ${this.#health.overlay}`, `${this.#health.overlay}: ${sentence}`);
  }
}
