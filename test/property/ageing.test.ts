// Targets that age, against a model of the contract: random answers, failures, silence, time, invalidations.
import fc from 'fast-check';
import t from 'tap';

import type { Question } from '../../src/core/overlay.js';
import type { LookupAnswer } from '../../src/datapath/contract.js';
import { frame, MAC } from '../helpers/lab.js';
import { law } from '../helpers/law.js';
import { asking, remote } from '../helpers/scenes.js';

const MACS = 2;
const PEERS = ['192.0.2.2', '192.0.2.3'];
const TICK_MS = 10;
const KEPT_MS = 3_600_000;

const mac = fc.nat(MACS - 1);
const age = fc.record({
  ttlMs: fc.constantFrom(100, 1000, 5000, 60_000, Infinity),
  staleMs: fc.constantFrom(undefined, undefined, 0, 300, 4000),
});
const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('frame' as const), mac }) },
  {
    weight: 4,
    arbitrary: fc.record({ kind: fc.constant('answer' as const), mac, peer: fc.nat(1), age }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('refuse' as const),
      mac,
      reason: fc.constantFrom('lookup_failed' as const, 'lookup_timeout' as const, 'lookup_drop' as const),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('invalidate' as const), mac, isAll: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('push' as const), mac, peer: fc.nat(1), age }) },
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('pass' as const),
      ms: fc.constantFrom(10, 50, 400, 1000, 3000, 20_000, 2 * KEPT_MS),
    }),
  },
);

/** The last good answer about a MAC since it was forgotten. */
interface Known {
  readonly peer: number;
  readonly freshEndMs: number;
  /** Undefined without staleMs. */
  readonly staleEndMs: number | undefined;
  /** The last attempt that failed; undefined if the last attempt did not, or none was made. */
  failedMs: number | undefined;
}

class Model {
  readonly known = new Map<number, Known>();

  answered(mac: number, nowMs: number, peer: number, ttlMs: number, staleMs: number | undefined): void {
    const freshEndMs = nowMs + ttlMs;
    const staleEndMs = staleMs === undefined ? undefined : freshEndMs + staleMs;
    this.known.set(mac, { peer, freshEndMs, staleEndMs, failedMs: undefined });
  }

  /** Whether a frame may go to the place of the last answer: now at once, or after a question. */
  mayUse(mac: number, nowMs: number, isAsked: boolean): boolean {
    const known = this.known.get(mac);
    if (known === undefined) return false;
    if (nowMs < known.freshEndMs) return true;
    if (known.staleEndMs !== undefined) return nowMs < known.staleEndMs;
    return isAsked || known.failedMs !== undefined;
  }

  /** Whether a frame must go there at once. */
  mustUse(mac: number, nowMs: number): boolean {
    const known = this.known.get(mac);
    if (known === undefined) return false;
    if (nowMs < known.freshEndMs) return true;
    if (known.staleEndMs !== undefined) return nowMs < known.staleEndMs;
    return known.failedMs !== undefined && nowMs < known.failedMs + KEPT_MS;
  }
}

await t.test(
  'a frame goes where the contract allows, and is never dropped where a stale target may be used',
  (t) => {
    const seen = { stale: 0, kept: 0, ahead: 0, waited: 0 };
    law(fc.array(step, { minLength: 30, maxLength: 90, size: 'max' }), (steps) => {
      const { lab, vtep, net, port, peer } = asking({ negativeTtlMs: 50 });
      const peers = [peer, lab.peer(PEERS[1])];
      const model = new Model();
      const open = new Map<number, { readonly question: Question; readonly askedMs: number }>();
      /** Ticks begin at 0, so that the model's times are exact. */
      let nowMs = 0;
      let heard = 0;
      const fail = (what: string): never => {
        throw new Error(`${what} at ${nowMs} ms`);
      };
      /** Takes the questions that were asked since. A confirmation is one that no frame waits for. */
      const listen = (): void => {
        for (const question of vtep.questions.slice(heard)) {
          const about = question.destinationMac - remote(0);
          // The number of an invalidated question is not awaited any more.
          if (open.has(about)) fail(`two questions about ${about}`);
          open.set(about, { question, askedMs: nowMs });
          if (question.etherType === 0) {
            const known = model.known.get(about) ?? fail('a confirmation of nothing');
            if (known.failedMs !== undefined && nowMs - known.failedMs < 1000 - TICK_MS)
              fail('asked again too early');
            if (nowMs < known.freshEndMs) seen.ahead++;
          }
        }
        heard = vtep.questions.length;
      };
      const arrived = (): number[] => peers.map((one) => one.take().length);
      const settle = (about: number, answer: LookupAnswer): number[] => {
        net.answer(open.get(about)?.question, answer);
        open.delete(about);
        return arrived();
      };
      for (const each of steps) {
        listen();
        if (each.kind === 'pass') {
          // In steps, so that the alarms of the time are heard.
          for (let left = each.ms; left > 0;) {
            const some = Math.min(left, Math.max(TICK_MS, Math.floor(left / 40 / TICK_MS) * TICK_MS));
            nowMs += some;
            left -= some;
            vtep.engine.setTime(nowMs);
            listen();
          }
          continue;
        }
        const about = each.mac;
        const known = model.known.get(about);
        if (each.kind === 'frame') {
          const must = model.mustUse(about, nowMs);
          const may = model.mayUse(about, nowMs, open.has(about));
          port.send(frame(remote(about), MAC.a));
          const got = arrived();
          listen();
          if (must && got[known!.peer] !== 1) fail(`a frame to ${about} was not sent`);
          got.forEach((count, index) => {
            if (count > 0 && !(may && index === known?.peer))
              fail(`a frame to ${about} went to peer ${index}`);
          });
          if (must && nowMs >= known!.freshEndMs) seen.stale++;
        } else if (each.kind === 'answer') {
          if (!open.has(about)) continue;
          const { ttlMs, staleMs } = each.age;
          model.answered(about, nowMs, each.peer, ttlMs, staleMs);
          const to = [peers[each.peer].local];
          const got = settle(about, { kind: 'target', to, ttlMs, staleMs });
          seen.waited += got[each.peer];
          if (got[1 - each.peer] > 0) fail('what waited went elsewhere');
        } else if (each.kind === 'refuse') {
          if (!open.has(about)) continue;
          const isFailure = each.reason !== 'lookup_drop';
          const wasUsable =
            known !== undefined &&
            (known.staleEndMs === undefined
              ? known.failedMs !== undefined || open.get(about)!.askedMs < known.freshEndMs + KEPT_MS
              : nowMs < known.staleEndMs);
          const got = settle(about, { kind: 'drop', reason: each.reason });
          const sent = got[0] + got[1];
          if (sent > 0 && !(isFailure && wasUsable)) fail('what waited was sent, although nothing was known');
          if (sent > 0 && got[known!.peer] !== sent) fail('what waited went elsewhere');
          seen.kept += sent;
          const isKept = net.targets().some(({ mac, state }) => mac === remote(about) && state === 'valid');
          if (!isFailure && isKept) fail('a drop is an answer');
          if (isKept && !wasUsable) fail('a target out of nothing');
          if (known !== undefined && isFailure && isKept) known.failedMs = nowMs;
          else model.known.delete(about);
          const mustKeep = isFailure && known !== undefined && nowMs < known.freshEndMs;
          if (mustKeep && !isKept) fail('a fresh target was lost by a failure');
        } else if (each.kind === 'invalidate') {
          net.invalidate(each.isAll ? undefined : remote(about));
          for (const one of each.isAll ? [0, 1] : [about]) {
            model.known.delete(one);
            open.delete(one);
          }
        } else {
          const { ttlMs, staleMs } = each.age;
          open.delete(about);
          model.answered(about, nowMs, each.peer, ttlMs, staleMs);
          net.setTargets([{ mac: remote(about), to: [peers[each.peer].local], ttlMs, staleMs }]);
          if (arrived()[1 - each.peer] > 0) fail('what waited went elsewhere');
        }
      }
      net.remove();
    });
    for (const [what, count] of Object.entries(seen)) t.ok(count > 0, `${what}: ${count}`);
    t.end();
  },
);
