/** Looks at all overlays at an interval, for their statistics, and for the news of their drops, their ports and their peers. */
import type { Log } from '../log.js';
import { DropNews } from './drop-news.js';
import type { Observed, ObservedOverlay } from './observed.js';
import { PlaceNews } from './place-news.js';
import { Statistics } from './statistics.js';

/** Trouble is told within 5 s. */
const LOOK_MS = 2_000;

/** The news of peers (underlay/peer-news.ts). */
interface Looker {
  look(overlays: Iterable<ObservedOverlay>): void;
}

export class Observer {
  readonly statistics = new Statistics();
  readonly #timer: NodeJS.Timeout;

  constructor({ overlays }: Pick<Observed, 'overlays'>, log: Log, peers: Looker) {
    const drops = new DropNews(log);
    const places = new PlaceNews();
    this.#timer = setInterval(() => {
      this.statistics.look(overlays.values());
      drops.look(overlays.values(), this.statistics);
      places.look(overlays.values());
      peers.look(overlays.values());
    }, LOOK_MS).unref();
  }

  stop(): void {
    clearInterval(this.#timer);
  }
}
