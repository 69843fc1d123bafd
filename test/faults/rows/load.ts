// More than varpd can carry, and more than it can remember.
import { setTimeout as sleep } from 'node:timers/promises';

import { udpFrame } from '../../helpers/frames.js';
import { fromRoot } from '../../helpers/need.js';
import { soak } from '../../soak/soak.js';
import { buildZlan, MappingFile, pacedFrames, plumb, SteadyPing } from '../../helpers/zlan.js';
import { answersWithin, check, checkTime, type Row, tunnel } from '../row.js';

const UNKNOWN = 100_000;

const unknown: Row = {
  name: 'F15',
  fault: '100,000 unknown destinations in 10 s',
  async run(bed) {
    const file = new MappingFile(bed);
    const [zlan, zlan2] = await buildZlan(bed, file);
    for (const station of [zlan, zlan2]) await plumb(station);
    await answersWithin(zlan.host, zlan2.v4, 10_000);
    // The known flow has a port of its own: what the burst takes of one TAP's queue is not varpd's doing.
    await zlan.daemon.ok('create-vnic -l overlay0 -m 2:0:0:0:0:c1 scan0');
    await zlan.host.ip('link set scan0 up');
    const flow = await SteadyPing.start(zlan.host, zlan2.v4);
    const frame = udpFrame({ sourceMac: '02:00:00:00:00:c1' });
    const frames = function* (): Generator<Uint8Array> {
      for (let n = 0; n < UNKNOWN; n++) {
        const one = Uint8Array.from(frame);
        one.set([0x02, 0x01, 0x00, n >> 16, (n >> 8) & 0xff, n & 0xff]);
        yield one;
      }
    };
    const before = zlan.daemon.residentKib();
    let peakKib = before;
    const timer = setInterval(() => {
      peakKib = Math.max(peakKib, zlan.daemon.residentKib());
    }, 50);
    const grown = await zlan.daemon.counted(async () => {
      await pacedFrames(zlan.host, 'scan0', frames());
      await sleep(1000);
    });
    clearInterval(timer);
    const { sent, lost } = await flow.stop();
    const mib = Math.round((peakKib - before) / 1024);
    // What the host itself asks for meanwhile is among them.
    check(grown['lookups'] <= UNKNOWN + 100, `at most one lookup each, not ${grown['lookups']}`);
    check(lost <= sent / 1000, `less than 0.1 % of the known flow is lost, not ${lost} of ${sent}`);
    check(mib < 50, `RSS grows by less than 50 MiB, not ${mib}`);
    return `${grown['lookups']} lookups, ${mib} MiB more at the peak, ${lost} of ${sent} known packets lost`;
  },
};

const UDP_LOAD = fromRoot('dist/test/bench/udp-load');
const BURST_SECONDS = 5;

const burst: Row = {
  name: 'F17',
  fault: 'a burst into the TAP, as fast as the host can',
  async run(bed) {
    const { a, b, daemon } = await tunnel(bed);
    const sink = b.spawn([UDP_LOAD, 'sink', '5304', `${BURST_SECONDS + 5}`]);
    await sink.waitForOutput(/ready/);
    const before = daemon.residentKib();
    let peakKib = before;
    const timer = setInterval(() => {
      peakKib = Math.max(peakKib, daemon.residentKib());
    }, 50);
    const load = a.spawn([UDP_LOAD, 'send', b.overlay.v4, '5304', `${BURST_SECONDS}`, '64', '0', '1']);
    const answersMs: number[] = [];
    while (!load.ended) {
      const startedMs = performance.now();
      await daemon.call('daemon.status', {});
      answersMs.push(performance.now() - startedMs);
      await sleep(20);
    }
    clearInterval(timer);
    await sink.exited;
    const { sent } = JSON.parse(load.stdout) as { sent: number };
    const { received } = JSON.parse(sink.stdout) as { received: number };
    const { stats64 } = (
      JSON.parse(await a.ip('-j -s link show dev overlay0')) as [{ stats64: { tx: { dropped: number } } }]
    )[0];
    const p99Ms = answersMs.sort((x, y) => x - y)[Math.floor(answersMs.length * 0.99)];
    const mib = Math.round((peakKib - before) / 1024);
    checkTime(p99Ms < 100, `the control socket answers within 100 ms (p99), not ${p99Ms}`);
    check(mib < 50, `no memory growth: ${mib} MiB`);
    await answersWithin(a, b.overlay.v4, 3000);
    return `${sent} sent, ${received} carried, ${stats64.tx.dropped} dropped at the TAP; status p99 ${p99Ms.toFixed(0)} ms, ${mib} MiB more`;
  },
};

const SOAK_SECONDS = 180;

const soaked: Row = {
  name: 'F19',
  fault: `soak of ${SOAK_SECONDS} s (npm run soak is the long one)`,
  async run(bed) {
    const result = await soak(bed, {
      seconds: SOAK_SECONDS,
      warmUpRounds: 0,
      warmUpSeconds: SOAK_SECONDS / 2,
    });
    const { descriptorsGrown, sent, received, slopeMbAnHour } = result;
    check(descriptorsGrown === 0, `descriptors are constant, not ${descriptorsGrown} more`);
    check(sent - received <= sent / 20, `traffic goes on: ${sent - received} of ${sent} are lost`);
    // A minute and a half says little about an hour: V8 is still settling, and a leak of two bytes a packet would still show.
    check(slopeMbAnHour < 60, `RSS does not run away: ${slopeMbAnHour.toFixed(0)} MB an hour`);
    return `${sent} packets, ${sent - received} lost, descriptors +0, RSS ${slopeMbAnHour.toFixed(1)} MB an hour`;
  },
};

export const loadRows: readonly Row[] = [unknown, burst, soaked];
