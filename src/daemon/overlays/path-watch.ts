/**
 * Reports ICMP messages about the paths of one overlay. A path that carries less than full frames is a note: the
 * overlay keeps to it. A message about a path that is too narrow for any overlay is not obeyed. Either it is
 * true, and large packets are lost on the way, or it is forged.
 */
import type { Notice } from '../../core/notices.js';
import { leastPathMtuBytes } from '../../core/peers/path-news.js';
import type { Encapsulation } from '../../encap/index.js';
import { family, type IpAddress } from '../../wire/ip.js';
import type { Health } from '../health.js';

/** Time for which a path MTU out of ICMP is believed (RFC 1191 6.3). */
const LASTS_MS = 600_000;

export class PathWatch {
  readonly #encapsulation: Encapsulation;
  readonly #health: Health;
  #over: NodeJS.Timeout | undefined;
  #forgotten: NodeJS.Timeout | undefined;

  constructor(encapsulation: Encapsulation, health: Health) {
    this.#encapsulation = encapsulation;
    this.#health = health;
  }

  /** Larger packets to this address are dropped from now on. */
  learned(to: IpAddress, mtuBytes: number): void {
    const rule = 'larger frames are dropped and their senders told, for ten minutes';
    this.#health.tell('path', `the path to ${to} carries packets of ${mtuBytes} bytes, says ICMP: ${rule}`);
    clearTimeout(this.#forgotten);
    this.#forgotten = setTimeout(() => {
      this.#health.tell('path', undefined);
    }, LASTS_MS).unref();
  }

  heard({ to, mtuBytes }: Extract<Notice, { kind: 'narrowPath' }>): void {
    // Only the first message is shown, since a forger can name another size each time.
    if (this.#over === undefined)
      this.#health.degrade(
        'path',
        `ICMP says that the path to ${to} carries ${mtuBytes} bytes a packet; an overlay needs ` +
          `${leastPathMtuBytes(this.#encapsulation, family(to))}, so varpd ignores it (path_mtu_too_small): the path is too narrow, or the message is forged`,
      );
    clearTimeout(this.#over);
    this.#over = setTimeout(() => {
      this.#over = undefined;
      this.#health.restore('path');
    }, LASTS_MS);
    this.#over.unref();
  }

  stop(): void {
    clearTimeout(this.#over);
    clearTimeout(this.#forgotten);
  }
}
