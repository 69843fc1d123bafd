// What is said of peers that cannot be reached, and of those that send nothing back, by virtual time.
import t from 'tap';

import { Health } from '../../src/daemon/health.js';
import type { ObservedOverlay } from '../../src/daemon/observe/observed.js';
import { PeerNews } from '../../src/daemon/underlay/peer-news.js';
import type { PeerReport } from '../../src/model/peer-report.js';
import { unreachableName, unreachableQuestion } from '../../src/model/unreachable.js';
import { IS_V6 } from '../../src/wire/path-news.js';
import { address } from '../helpers/lab.js';
import { overlay as observed } from '../helpers/metric-sources.js';

const LOOK_MS = 2_000;
const FIRST_MS = 1_000_000;

/** One peer, with the times of what happened. */
class Peer {
  sentMs: number | undefined;
  heardMs: number | undefined;
  refused: { firstMs: number; lastMs: number; messages: number; kind: number } | undefined;
  asked = 0;
  isPeer = true;

  constructor(readonly ip: string) {}

  report(nowMs: number): PeerReport {
    const ago = (ms: number | undefined): number | undefined => (ms === undefined ? undefined : nowMs - ms);
    const { refused } = this;
    return {
      ip: address(this.ip),
      isPeer: this.isPeer,
      txFrames: 1,
      txBytes: 1,
      rxFrames: 1,
      rxBytes: 1,
      rxReads: 1,
      uncoalescedReads: 0,
      sentAgoMs: ago(this.sentMs),
      heardAgoMs: ago(this.heardMs),
      asked: this.asked,
      unreachable: refused && {
        kind: refused.kind,
        port: 4789,
        from: address('10.0.0.254'),
        messages: refused.messages,
        firstAgoMs: nowMs - refused.firstMs,
        lastAgoMs: nowMs - refused.lastMs,
      },
    };
  }
}

class Scene {
  nowMs = FIRST_MS;
  lookMs = LOOK_MS;
  readonly log: string[] = [];
  readonly peers = [new Peer('10.0.0.2')];
  readonly #keep = (_kind: string, line: string): void => void this.log.push(line);
  readonly logger = { debug: this.#keep, info: this.#keep, warn: this.#keep, error: this.#keep };
  readonly health = new Health('overlay0', this.logger);
  readonly news = new PeerNews(this.logger, () => this.nowMs);

  get peer(): Peer {
    return this.peers[0];
  }

  get overlay(): ObservedOverlay {
    const one = observed('overlay0');
    const peers = this.peers.map((peer) => peer.report(this.nowMs));
    return {
      ...one,
      health: this.health,
      datapath: { ...one.datapath, recordedPeers: () => peers },
    };
  }

  get said(): string | null {
    return this.health.report().details;
  }

  get states(): string[] {
    return [...this.news.troubles(this.overlay.id).values()].map(({ state }) => state);
  }

  /** Looks so many times; `each` happens before every look. Returns the states after each. */
  look(times: number, each: () => void = () => undefined): (string | undefined)[] {
    return Array.from({ length: times }, () => {
      this.nowMs += this.lookMs;
      each();
      this.news.look([this.overlay]);
      return this.states.at(0);
    });
  }

  refuse(peer = this.peer, kind = 0x303): void {
    peer.sentMs = this.nowMs - 100;
    const lastMs = this.nowMs - 90;
    const { firstMs = lastMs, messages = 0 } = peer.refused ?? {};
    peer.refused = { firstMs, lastMs, messages: messages + 1, kind };
  }

  ask(peer = this.peer): void {
    peer.sentMs = this.nowMs - 100;
    peer.asked++;
  }
}

await t.test('one message is no trouble, two over two seconds are', (t) => {
  const scene = new Scene();
  scene.refuse();
  t.strictSame(scene.look(3), [undefined, undefined, undefined], 'a single one');
  t.equal(scene.said, null);
  t.strictSame(
    scene.look(1, () => {
      scene.refuse();
    }),
    ['unreachable'],
  );
  t.equal(
    scene.said,
    'peer 10.0.0.2 cannot be reached: port unreachable from 10.0.0.254 (0 s ago, for 8 s): ' +
      'is varpd stopped there, or does a firewall reject UDP port 4789?',
  );
  t.equal(scene.health.report().status, 'ONLINE');
  scene.look(5, () => {
    scene.refuse();
  });
  t.equal(scene.log.length, 1, 'one line while it goes on');
  scene.peer.heardMs = scene.nowMs;
  t.strictSame(scene.look(1), [undefined], 'it was heard');
  t.equal(scene.said, null);
  t.strictSame(scene.log.slice(1), ['overlay0: peer 10.0.0.2 is no longer unreachable']);
  t.end();
});

await t.test('a burst at one moment is no trouble', (t) => {
  const scene = new Scene();
  for (let count = 0; count < 10; count++) scene.refuse();
  t.strictSame(scene.look(4), [undefined, undefined, undefined, undefined]);
  t.end();
});

await t.test('within five seconds', (t) => {
  const scene = new Scene();
  const beginMs = scene.nowMs + 1;
  // Three a second, as ping -i 0.3 causes them.
  const refuse = (): void => {
    scene.refuse();
    scene.peer.refused!.firstMs = beginMs;
  };
  const states = scene.look(2, refuse);
  t.equal(states.at(1), 'unreachable', `${scene.nowMs - beginMs} ms`);
  t.end();
});

await t.test('messages while the peer is heard are no trouble', (t) => {
  const scene = new Scene();
  const states = scene.look(10, () => {
    scene.refuse();
    scene.peer.heardMs = scene.nowMs - 50;
  });
  t.ok(states.every((state) => state === undefined));
  const after = scene.look(3, () => {
    scene.refuse();
  });
  t.strictSame(after, [undefined, 'unreachable', 'unreachable'], 'counted from when it was heard last');
  t.end();
});

await t.test('nothing is sent there any longer, or nothing comes back', (t) => {
  const scene = new Scene();
  scene.look(5, () => {
    scene.refuse();
  });
  t.strictSame(scene.states, ['unreachable']);
  scene.look(29);
  t.strictSame(scene.states, ['unreachable'], 'a minute of grace');
  scene.look(2);
  t.strictSame(scene.states, []);
  t.equal(scene.said, null);
  const other = new Scene();
  other.look(5, () => {
    other.refuse();
  });
  other.look(31, () => (other.peer.sentMs = other.nowMs));
  t.strictSame(other.states, [], 'no message for a minute');
  other.peer.isPeer = false;
  other.look(1, () => {
    other.refuse();
  });
  t.strictSame(other.states, [], 'it is no peer any more');
  t.end();
});

await t.test('silent: asked in several looks', (t) => {
  const scene = new Scene();
  t.strictSame(
    scene.look(5, () => {
      scene.ask();
    }),
    [undefined, undefined, undefined, 'silent', 'silent'],
  );
  t.match(
    scene.said,
    /^peer 10\.0\.0\.2 sends nothing back \(it was never heard\): is varpd running there, /,
  );
  t.ok((scene.said ?? '').length < 256);
  t.equal(scene.log.length, 1);
  scene.peer.heardMs = scene.nowMs - 1;
  t.strictSame(scene.look(1), [undefined]);
  t.equal(scene.said, null);
  t.strictSame(
    scene.look(4, () => {
      scene.ask();
    }),
    [undefined, undefined, undefined, 'silent'],
    'and from the beginning again',
  );
  t.match(scene.said, 'last heard 10 s ago');
  scene.look(31);
  t.strictSame(scene.states, [], 'no longer asked');
  t.end();
});

await t.test('silent within five seconds, and not by the requests for one station', (t) => {
  const cut = new Scene();
  cut.lookMs = 1000;
  cut.peer.heardMs = cut.nowMs + 990;
  const states = cut.look(5, () => {
    cut.ask();
  });
  t.strictSame(states, [undefined, undefined, undefined, undefined, 'silent']);
  const station = new Scene();
  station.lookMs = 1000;
  station.look(3, () => {
    station.ask();
  });
  t.strictSame(station.look(60), Array(60).fill(undefined));
  t.end();
});

await t.test('not silent: one-way traffic, a question now and then, another thread hears it', (t) => {
  const oneWay = new Scene();
  const states = oneWay.look(100, () => (oneWay.peer.sentMs = oneWay.nowMs));
  t.ok(states.every((state) => state === undefined));
  const once = new Scene();
  once.ask();
  once.look(50, () => (once.peer.sentMs = once.nowMs));
  t.strictSame(once.states, []);
  const threads = new Scene();
  const heard = threads.look(20, () => {
    threads.ask();
    threads.peer.heardMs = threads.nowMs - 500;
  });
  t.ok(heard.every((state) => state === undefined));
  t.end();
});

await t.test('unreachable says more than silent; several peers', (t) => {
  const scene = new Scene();
  for (let last = 3; last < 20; last++) scene.peers.push(new Peer(`10.0.0.${last}`));
  scene.look(6, () => {
    for (const peer of scene.peers) {
      scene.ask(peer);
      scene.refuse(peer);
    }
  });
  t.strictSame([...new Set(scene.states)], ['unreachable']);
  t.match(scene.said, /^peer 10\.0\.0\.2 cannot .*; and 17 more: dladm show-peers overlay0$/);
  t.equal(scene.log.length, 6);
  t.match(scene.log.at(-1), '13 more peers');
  t.end();
});

await t.test('an overlay that is gone is forgotten', (t) => {
  const scene = new Scene();
  scene.look(5, () => {
    scene.refuse();
  });
  scene.news.look([]);
  t.equal(scene.news.troubles(scene.overlay.id).size, 0);
  t.end();
});

await t.test('every kind of message has words', (t) => {
  t.equal(unreachableName(0x303), 'port unreachable');
  t.equal(unreachableName(0x301), 'host unreachable');
  t.equal(unreachableName(IS_V6 | 0x103), 'address unreachable');
  t.equal(unreachableName(IS_V6 | 0x104), 'port unreachable');
  t.equal(unreachableName(0x30d), 'administratively prohibited');
  t.equal(unreachableName(IS_V6 | 0x300), 'time exceeded');
  for (const kind of [0x30f, IS_V6 | 0x1ff, 0xb01]) t.equal(unreachableName(kind), 'destination unreachable');
  t.match(unreachableQuestion(0x303, 6081), 'UDP port 6081?');
  t.end();
});
