/** Looks at all overlays at an interval, for their statistics, and for the news of their drops, their ports and their peers. */
import type { Log } from '../log.js';
import { DropNews } from './drop-news.js';
import type { Observed, ObservedOverlay } from './observed.js';
import { PlaceNews } from './place-news.js';
import { Statistics } from './statistics.js';

/** Trouble is told within 5 s. */
const LOOK_MS = 2_000;
/** A silent peer is seen in four looks (underlay/peer-news.ts). */
const PEER_LOOK_MS = 1_000;

/** The news of peers (underlay/peer-news.ts). */
interface Looker {
  look(overlays: Iterable<ObservedOverlay>): void;
}

export class Observer {
  readonly statistics = new Statistics();
  readonly #timers: readonly NodeJS.Timeout[];

  constructor({ overlays }: Pick<Observed, 'overlays'>, log: Log, peers: Looker) {
    const drops = new DropNews(log);
    const places = new PlaceNews();
    const looks = setInterval(() => {
      this.statistics.look(overlays.values());
      drops.look(overlays.values(), this.statistics);
      places.look(overlays.values());
    }, LOOK_MS);
    const peerLooks = setInterval(() => {
      peers.look(overlays.values());
    }, PEER_LOOK_MS);
    this.#timers = [looks.unref(), peerLooks.unref()];
  }

  stop(): void {
    this.#timers.forEach(clearInterval);
  }
}
