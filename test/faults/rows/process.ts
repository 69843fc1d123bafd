// varpd as a process: a disk that is full, signals, a clock that jumps, being stopped for a while.
import { existsSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { constants } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { directOverlay } from '../../helpers/daemon.js';
import { daemonUser } from '../../helpers/daemon-user.js';
import type { Bed, Namespace } from '../../helpers/netns.js';
import { type Exit, waitUntil } from '../../helpers/process.js';
import { transferTcp } from '../../helpers/traffic.js';
import { buildZlan, MappingFile, plumb, SteadyPing } from '../../helpers/zlan.js';
import { answersNow, answersWithin, check, checkTime, devicesOf, MISHAP, type Row, tunnel } from '../row.js';

/** Everything a failed create could have left behind. */
async function traces(host: Namespace, stateDir: string): Promise<string> {
  return JSON.stringify([await devicesOf(host), readdirSync(stateDir).sort()]);
}

const diskFull: Row = {
  name: 'F8',
  fault: 'disk full (small tmpfs), no inodes left, read-only, quota, I/O error',
  quick: true,
  async run(bed) {
    const order = path.join(bed.directory(), 'order');
    const env: Record<string, string> = { LD_PRELOAD: MISHAP, MISHAP: order };
    const { uid, gid } = daemonUser();
    const options = `size=64k,nr_inodes=8,mode=700,uid=${uid},gid=${gid}`;
    const { a, b, daemon } = await tunnel(bed, {
      env,
      before: `mkdir -p state && mount -t tmpfs -o ${options} none state && export MISHAP_DIR="$PWD/state"`,
    });
    const stateDir = daemon.inside(daemon.stateDir);
    const more = directOverlay({ from: a.underlay.v4, to: b.underlay.v4, name: 'more0', vnetid: 9 });
    const seen: string[] = [];
    const refuses = async (what: string, expected: RegExp): Promise<void> => {
      const before = await traces(a, stateDir);
      for (const line of [more, 'create-vnic -l overlay0 foo0']) {
        const { code, stderr } = await daemon.dladm(...line.split(/\s+/));
        check(
          code !== null && code !== 0 && expected.test(stderr),
          `${what}: a clear error, not: ${stderr.trim()}`,
        );
        if (line === more) seen.push(/[^:]*$/.exec(stderr.trim().split('\n')[0])?.[0].trim() ?? '');
      }
      check((await traces(a, stateDir)) === before, `${what}: nothing is left behind`);
      await answersNow(a, b.overlay.v4);
    };
    const filler = path.join(stateDir, 'filler');
    writeFileSync(filler, '');
    try {
      for (;;) writeFileSync(filler, Buffer.alloc(4096), { flag: 'a' });
    } catch {
      // It is full now.
    }
    await refuses('full', /state directory .*(no space|ENOSPC)/i);
    rmSync(filler);
    const files: string[] = [];
    try {
      for (;;) {
        const file = path.join(stateDir, `filler${files.length}`);
        writeFileSync(file, '');
        files.push(file);
      }
    } catch {
      // No inode is left now.
    }
    await refuses('no inodes', /state directory .*(no space|ENOSPC)/i);
    for (const file of files) rmSync(file);
    for (const [what, expected] of [
      ['EROFS', /state directory .*(read-only|EROFS)/i],
      ['EDQUOT', /state directory .*(quota|EDQUOT)/i],
      ['EIO', /state directory .*(i\/o|EIO)/i],
    ] as const) {
      writeFileSync(order, `fail disk ${constants.errno[what]}`);
      await refuses(what, expected).finally(() => {
        rmSync(order);
      });
    }
    await daemon.ok(more);
    return `${seen.join('; ')}: taken back; with room again it works`;
  },
};

const END_MS = 2000;

const signals: Row = {
  name: 'F9',
  fault: 'SIGTERM during traffic, twice; SIGHUP; SIGPIPE',
  async run(bed) {
    const { a, b, daemon } = await tunnel(bed);
    await daemon.ok('create-vnic -l overlay0 foo0');
    const flow = await SteadyPing.start(a, b.overlay.v4);
    for (const signal of ['SIGHUP', 'SIGPIPE', 'SIGHUP', 'SIGPIPE'] as const) {
      daemon.signal(signal);
      await sleep(100);
    }
    const { sent, lost } = await flow.stop();
    check(lost === 0, `SIGHUP and SIGPIPE: no packet is lost, not ${lost} of ${sent}`);
    const load = transferTcp(a, b, { bytes: 1 << 30, timeoutMs: 3000 }).catch(() => undefined);
    await sleep(500);
    const startedMs = performance.now();
    daemon.signal('SIGTERM');
    daemon.signal('SIGTERM');
    const exit = (await daemon.ended()) as Exit;
    const tookMs = Math.round(performance.now() - startedMs);
    check(exit.code === 0, `status 0, not ${exit.signal ?? exit.code ?? '?'}`);
    checkTime(tookMs <= END_MS, `ends within ${END_MS} ms, not ${tookMs}`);
    check((await devicesOf(a)).join() === 'lo,under0', 'no device is left');
    check(!existsSync(daemon.socket), 'no socket file is left');
    await load;
    return `0 of ${sent} packets lost to SIGHUP and SIGPIPE; SIGTERM: status 0 after ${tookMs} ms, nothing left`;
  },
};

// ---------------------------------------------------------------- a clock that jumps

const FAKETIME = ['/usr/lib/x86_64-linux-gnu', '/usr/lib/aarch64-linux-gnu', '/usr/lib']
  .map((directory) => path.join(directory, 'faketime/libfaketimeMT.so.1'))
  .find((file) => existsSync(file));

const clock: Row = {
  name: 'F13',
  fault: 'the clock jumps a year ahead and two back',
  quick: true,
  programs: ['faketime'],
  async run(bed) {
    check(FAKETIME !== undefined, 'libfaketime is installed');
    const rate = path.join(bed.directory(), 'clock');
    writeFileSync(rate, '+0');
    const env = {
      LD_PRELOAD: FAKETIME,
      FAKETIME_TIMESTAMP_FILE: rate,
      FAKETIME_NO_CACHE: '1',
      // As with date -s: the monotonic clock goes on.
      DONT_FAKE_MONOTONIC: '1',
      FAKETIME_DONT_FAKE_MONOTONIC: '1',
    };
    const file = new MappingFile(bed);
    // libfaketime has a semaphore that only the user who starts it may open.
    const stations = await buildZlan(bed, file, { firstDaemon: { env, config: { user: 'root' } } });
    for (const station of stations) await plumb(station);
    const [zlan, zlan2] = stations;
    await answersWithin(zlan.host, zlan2.v4, 10_000);
    const flow = await SteadyPing.start(zlan.host, zlan2.v4);
    const years: string[] = [];
    for (const jump of ['+1y', '-1y', '+0']) {
      const grown = await zlan.daemon.counted(async () => {
        writeFileSync(rate, jump);
        await sleep(500);
      });
      const late = (grown['lookup_timeout'] ?? 0) + (grown['lookup_failed'] ?? 0);
      check(late === 0, `${jump}: no question is too late, not ${late}`);
      // What is asked now has its deadline, and its answer its lifetime, by the monotonic clock.
      await zlan.host.run(['ping', '-c', '1', '-W', '1', '10.55.55.77']);
      const { length } = zlan.daemon.log();
      zlan.daemon.signal('SIGHUP');
      await waitUntil(() => zlan.daemon.log().length > length, {
        what: 'the log to say that the file was read',
      });
      years.push(/(\d{4})-\d\d-\d\dT[^\n]*\n*$/.exec(zlan.daemon.log())?.[1] ?? '?');
      await zlan.daemon.ok('show-overlay -f');
    }
    const { sent, lost } = await flow.stop();
    check(lost === 0, `no packet of a known flow is lost, not ${lost} of ${sent}`);
    check(new Set(years).size === 3, `varpd saw three years: ${years.join(', ')}`);
    return `the log says ${years.join(', ')}; 0 of ${sent} packets lost, no deadline missed`;
  },
};

// ---------------------------------------------------------------- stopped

/** TAP queue of 1,000 and a receive buffer of 4 MiB: what may come out in one burst. */
const QUEUE_CAP = 1000;

async function stopAndContinue(bed: Bed, ms: number): Promise<string> {
  const { a, b, daemon } = await tunnel(bed);
  const load = a.spawn(['ping', '-n', '-i', '0.01', b.overlay.v4]);
  await sleep(300);
  const before = daemon.residentKib();
  const framesSent = async (): Promise<number> =>
    (await daemon.overlays('overlay0'))[0].counters['tx_frames'];
  const sentBefore = await framesSent();
  daemon.signal('SIGSTOP');
  await sleep(ms);
  daemon.signal('SIGCONT');
  const burst = (await framesSent()) - sentBefore;
  const backMs = await answersWithin(a, b.overlay.v4, 3000);
  await load.stop('SIGINT');
  check(burst <= QUEUE_CAP + 200, `no burst older than the queue: ${burst} frames`);
  check(daemon.residentKib() - before < 50 << 10, 'nothing has piled up');
  await sleep(1000);
  check(daemon.running, 'nothing kills it afterwards');
  await answersNow(a, b.overlay.v4);
  return `stopped for ${ms / 1000} s; answers ${backMs} ms after it went on`;
}

const stopped: Row = {
  name: 'F20',
  fault: 'SIGSTOP for 30 s, SIGCONT',
  run: (bed) => stopAndContinue(bed, 30_000),
};

/** The part of it that `npm test` has. */
export const stoppedShortly: Row = {
  ...stopped,
  fault: 'SIGSTOP for 2 s, SIGCONT',
  run: (bed) => stopAndContinue(bed, 2000),
};

export const processRows: readonly Row[] = [diskFull, signals, clock, stopped];
