/** The control side of a probe: tells the threads, and hears their news. */
import { COUNTER_NAMES } from '../../../core/counts/counters.js';
import type { ProbeFrame, ProbeNews, ProbeRules } from '../../../core/probe/probe.js';
import type { DropReason } from '../../../model/drops.js';
import type { FrameProbe, ProbeListener } from '../../probe-contract.js';
import type { Link } from './thread.js';

/** The overlay that is probed. */
export interface ProbeSource {
  readonly overlay: number;
  readonly links: readonly Link[];
  readonly sourcePorts: readonly number[];
  readonly stopped: () => void;
}

export class OverlayProbe implements FrameProbe {
  readonly sourcePorts: readonly number[];
  /** Resolves when every thread hears replies. */
  readonly begun: Promise<unknown>;
  readonly #source: ProbeSource;
  readonly #listener: ProbeListener;

  constructor(source: ProbeSource, rules: ProbeRules, listener: ProbeListener) {
    const { overlay, links, sourcePorts } = source;
    this.#source = source;
    this.#listener = listener;
    this.sourcePorts = sourcePorts;
    for (const link of links) link.post({ kind: 'start-probe', overlay, rules });
    this.begun = Promise.all(links.map((link) => link.request({ kind: 'ping' })));
  }

  send(port: string, frames: readonly ProbeFrame[]): void {
    const { overlay, links } = this.#source;
    links[0]?.post({ kind: 'send-probe', overlay, port, frames });
  }

  async stop(): Promise<void> {
    const { overlay, links, stopped } = this.#source;
    await Promise.all(links.map((link) => link.request({ kind: 'stop-probe', overlay })));
    stopped();
  }

  heard(news: readonly ProbeNews[]): void {
    for (const one of news) {
      if (one.kind === 'sent') {
        const reason = one.dropped === undefined ? undefined : (COUNTER_NAMES[one.dropped] as DropReason);
        this.#listener.sent(one.id, one.atMs, reason);
      } else if (one.kind === 'reply') this.#listener.replied(one.id, one.atMs, one.mac, one.from);
      else this.#listener.neighbor(one.atMs, one.mac, one.from);
    }
  }
}
