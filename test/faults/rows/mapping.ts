// The file of the plugin `files` under way: replaced, broken, changed, and very large.
import { execFileSync } from 'node:child_process';
import { mkdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

import { Daemon, directOverlay } from '../../helpers/daemon.js';
import { HangingMount } from '../../helpers/hanging-mount.js';
import { LARGE_MAPPING_VTEPS, writeLargeMapping } from '../../helpers/mapping.js';
import type { Bed } from '../../helpers/netns.js';
import { waitUntil } from '../../helpers/process.js';
import { cpuSeconds, readersOf } from '../../helpers/procfs.js';
import {
  buildZlan,
  changed,
  type Entries,
  filesOverlay,
  MappingFile,
  neighbourMac,
  plumb,
  type Station,
  type Stations,
  SteadyPing,
} from '../../helpers/zlan.js';
import { answersNow, answersWithin, check, checkTime, type Row, untilHealth } from '../row.js';

/** For a change to be in force. */
const IN_FORCE_MS = 1000;

interface Site {
  readonly file: MappingFile;
  readonly stations: Stations;
}

async function site(bed: Bed): Promise<Site> {
  const file = new MappingFile(bed);
  const stations = await buildZlan(bed, file);
  for (const station of stations) await plumb(station);
  const [zlan, zlan2, zlan3] = stations;
  await answersWithin(zlan.host, zlan2.v4, 10_000);
  await answersWithin(zlan.host, zlan3.v4, 10_000);
  return { file, stations };
}

/** Milliseconds until it is so. */
async function untilSo(isSo: () => Promise<boolean>, what: string): Promise<number> {
  const startedMs = performance.now();
  await waitUntil(isSo, { timeoutMs: 20_000, what });
  return Math.round(performance.now() - startedMs);
}

/** Milliseconds until the latest news of the plugin match. */
const untilNews = ({ daemon }: Station, pattern: RegExp): Promise<number> =>
  untilSo(async () => {
    const { status, details } = (await daemon.overlays('overlay0'))[0].health;
    return pattern.test(`${status} ${details ?? ''}`);
  }, `overlay0 to be ${pattern}`);

const renamed: Row = {
  name: 'F4',
  fault: 'mapping replaced by rename 1,000 times under load',
  async run(bed) {
    const { file, stations } = await site(bed);
    const [zlan, zlan2, zlan3] = stations;
    const flows = [await SteadyPing.start(zlan.host, zlan2.v4), await SteadyPing.start(zlan3.host, zlan2.v4)];
    const stranger = (n: number): Entries =>
      changed(file.article, {
        [`02:00:00:00:00:${(n & 0xff).toString(16).padStart(2, '0')}`]: { ip: '10.88.88.70', port: 4789 },
      });
    const wrong = await zlan3.daemon.counted(async () => {
      for (let n = 1; n < 1000; n++) {
        file.replace(stranger(n));
        await sleep(2);
      }
      file.replace(changed(stranger(1), stranger(2)));
    });
    const tookMs = [await untilNews(zlan, /ONLINE .* 5 now/)];
    file.rewrite(file.article);
    tookMs.push(await untilNews(zlan, /ONLINE .* 3 now/));
    // A link is put over it; then that is switched.
    file.publish(stranger(1));
    tookMs.push(await untilNews(zlan, /ONLINE .* 4 now/));
    file.publish(file.article);
    tookMs.push(await untilNews(zlan, /ONLINE .* 3 now/));
    const inMs = tookMs.join(', ');
    check(
      Math.max(...tookMs) <= IN_FORCE_MS,
      `renamed, in place, linked, switched: in force after ${inMs} ms`,
    );
    const ended = await Promise.all(flows.map((flow) => flow.stop()));
    const [sent, lost] = [
      ended.reduce((sum, one) => sum + one.sent, 0),
      ended.reduce((sum, one) => sum + one.lost, 0),
    ];
    check(lost === 0, `no packet of a known flow is lost, not ${lost} of ${sent}`);
    check((wrong['rx_no_port'] ?? 0) === 0, 'no frame went to the wrong host');
    return `0 of ${sent} packets lost, 0 astray; renamed, in place, linked, switched: in force after ${inMs} ms`;
  },
};

const broken: Row = {
  name: 'F5',
  fault: 'mapping truncated, half written, invalid, deleted, unreadable, a directory, a FIFO',
  async run(bed) {
    const { file, stations } = await site(bed);
    const [zlan, zlan2] = stations;
    const good = `${JSON.stringify(file.article, undefined, 2)}\n`;
    const remove = (): void => {
      rmSync(file.path, { recursive: true, force: true });
    };
    const faults: Readonly<Record<string, () => void>> = {
      truncated: () => {
        file.rewrite('');
      },
      'half written': () => {
        file.rewrite(good.slice(0, good.length / 2));
      },
      invalid: () => {
        file.replace(good.replace('4789', '"4789"'));
      },
      deleted: remove,
      'a directory': () => {
        remove();
        mkdirSync(file.path);
      },
      'a FIFO': () => {
        remove();
        execFileSync('mkfifo', [file.path]);
      },
      'a symbolic link to itself': () => {
        remove();
        execFileSync('ln', ['-s', file.path, file.path]);
      },
    };
    const flow = await SteadyPing.start(zlan.host, zlan2.v4);
    let slowestMs = 0;
    for (const [what, spoil] of Object.entries(faults)) {
      const lines = (): number =>
        zlan.daemon
          .log()
          .split('\n')
          .filter((line) => / (?:warn|error) /.test(line)).length;
      const before = lines();
      spoil();
      slowestMs = Math.max(slowestMs, await untilHealth(zlan.daemon, 'DEGRADED'));
      await sleep(300);
      const said = lines() - before;
      check(said >= 1 && said <= 3, `${what}: one error a change, not ${said}`);
      await answersNow(zlan.host, zlan2.v4);
      remove();
      file.replace(good);
      slowestMs = Math.max(slowestMs, await untilHealth(zlan.daemon, 'ONLINE'));
    }
    check(
      slowestMs <= IN_FORCE_MS,
      `each is noticed, and its end, within ${IN_FORCE_MS} ms, not ${slowestMs}`,
    );
    const { sent, lost } = await flow.stop();
    check(lost === 0, `no packet of a known flow is lost, not ${lost} of ${sent}`);
    return `${Object.keys(faults).length} ways: degraded, and recovered by itself, within ${slowestMs} ms, 0 of ${sent} packets lost`;
  },
};

const moved: Row = {
  name: 'F6',
  fault: 'entry removed, address of a peer changed',
  async run(bed) {
    const { file, stations } = await site(bed);
    const [zlan, zlan2, zlan3] = stations;
    // Its IP address is at another MAC: whoever knows the old one is told.
    const tellsMs = async (content: Entries, mac: string): Promise<number> => {
      file.replace(content);
      const isTold = async (): Promise<boolean> => (await neighbourMac(zlan, zlan3.v4)) === mac;
      return untilSo(isTold, `${zlan3.v4} to be at ${mac}`);
    };
    const swapped = { [zlan2.mac]: { arp: [zlan2.v4, zlan3.v4] }, [zlan3.mac]: { arp: [] } };
    const toldMs = await tellsMs(changed(file.article, swapped), zlan2.mac);
    checkTime(toldMs <= IN_FORCE_MS, `neighbours are told within ${IN_FORCE_MS} ms, not ${toldMs}`);
    await tellsMs(file.article, zlan3.mac);

    zlan.host.spawn(['ping', '-q', '-i', '0.005', zlan3.v4]);
    const heardBy = async (work: () => Promise<unknown>): Promise<number> =>
      (await zlan3.daemon.counted(work))['rx_frames'] ?? 0;
    check((await heardBy(() => sleep(500))) > 50, 'the flow goes to the third host');
    // The MAC is at the second host now, and at nobody's after that; the third is not to hear of it any more.
    file.replace(changed(file.article, { [zlan3.mac]: { ip: '10.88.88.70' } }));
    await sleep(IN_FORCE_MS);
    check((await heardBy(() => sleep(1000))) === 0, 'no frame to the old peer after 1 s');
    file.replace(file.article);
    await sleep(IN_FORCE_MS);
    check((await heardBy(() => sleep(500))) > 50, 'and back');
    const without = Object.fromEntries(Object.entries(file.article).filter(([mac]) => mac !== zlan3.mac));
    file.replace(without);
    await sleep(IN_FORCE_MS);
    check((await heardBy(() => sleep(1000))) === 0, 'no frame to a peer whose entry was removed');
    return `within 1 s of either change no frame went to the old peer; neighbours were told after ${toldMs} ms`;
  },
};

const ENTRIES = 1_000_000;

const large: Row = {
  name: 'F14',
  fault: 'mapping of 1,000,000 entries loaded under load',
  async run(bed) {
    const { file, stations } = await site(bed);
    const [zlan, zlan2] = stations;
    await zlan.host.ip(`route add ${LARGE_MAPPING_VTEPS} via 10.88.88.70`);
    const before = zlan.daemon.residentKib();
    const fresh = `${file.path}.large`;
    writeLargeMapping(fresh, ENTRIES, Object.entries(file.article));
    const megabytes = Math.round(statSync(fresh).size / 1e6);
    let peakKib = before;
    const timer = setInterval(() => {
      peakKib = Math.max(peakKib, zlan.daemon.residentKib());
    }, 100);
    const flow = await SteadyPing.start(zlan.host, zlan2.v4);
    renameSync(fresh, file.path);
    const tookMs = await untilNews(zlan, new RegExp(`ONLINE .* ${ENTRIES + 3} now`)).finally(() => {
      clearInterval(timer);
    });
    const { rttUs } = flow;
    const { sent, lost } = await flow.stop();
    const p99Ms = rttUs.sort((x, y) => x - y)[Math.floor(rttUs.length * 0.99)] / 1000;
    check(lost === 0, `no packet is lost, not ${lost} of ${sent}`);
    checkTime(p99Ms < 50, `p99 of the known flow is below 50 ms, not ${p99Ms}`);
    const grownMib = Math.round((peakKib - before) / 1024);
    check(grownMib < 1024, `it takes less than 1 GiB more, not ${grownMib} MiB`);
    return `${megabytes} MB in force after ${tookMs} ms, ${grownMib} MiB more at the peak, p99 ${p99Ms.toFixed(1)} ms`;
  },
};

/** For a file system that does not answer to be called that: half a second until it is asked, two without an answer, half a
 * second until that is said, and what all this takes. */
const SILENT_MS = 3500;
/** For a command that has nothing to do with it. */
const COMMAND_MS = 1000;
/** For a restart meanwhile: the same two seconds, and the rest of it. */
const RESTART_MS = 10_000;
/** For what could not start in it: it is tried every second. */
const STARTED_MS = 3000;
const HUNG = ['hung0', 'hung1', 'hung2', 'hung3', 'hung4'];

const hanging: Row = {
  name: 'F22',
  fault: 'five mappings on a file system that hangs, and a restart meanwhile',
  programs: ['bindfs', 'mountpoint', 'setpriv'],
  async run(bed) {
    const [host, peer] = await bed.twoHosts();
    // Only this one does not even let go of who is killed.
    const mount = new HangingMount(bed, { underWay: true });
    const daemon = await Daemon.start(bed, host, { before: mount.before });
    const mapping = (port: number): object => ({ '02:00:00:00:00:b1': { ip: peer.underlay.v4, port } });
    const well = new MappingFile(bed);
    await daemon.ok(filesOverlay(host, well));
    await daemon.ok(
      directOverlay({ from: host.underlay.v4, to: peer.underlay.v4, vnetid: 99, name: 'other0' }),
    );
    for (const [index, name] of HUNG.entries()) {
      mount.write(name, mapping(1));
      await daemon.ok(filesOverlay(host, { path: mount.path(name) }, { name, vnetid: 1 + index }));
    }
    const reader = readersOf(daemon.pid)[0];
    const idleS = cpuSeconds(reader);
    await sleep(5000);
    const idlePercent = ((cpuSeconds(reader) - idleS) / 5) * 100;
    check(idlePercent < 2, `who reads them takes less than 2 % of a processor, not ${idlePercent}`);

    const areAll = (pattern: RegExp, names: readonly string[]): Promise<number> =>
      untilSo(async () => {
        const now = await daemon.overlays();
        return now
          .filter(({ name }) => names.includes(name))
          .every(({ health: { status, details } }) => pattern.test(`${status} ${details ?? ''}`));
      }, `${names.join()} to be ${pattern}`);
    mount.hang();
    const silentMs = await areAll(/^DEGRADED .* has not answered for/, HUNG);
    checkTime(silentMs <= SILENT_MS, `all five are degraded within ${SILENT_MS} ms, not ${silentMs}`);
    const commandMs = await timed(() =>
      daemon.call('vnic.create', { name: 'foo0', over: 'other0', temporary: false }),
    );
    checkTime(commandMs <= COMMAND_MS, `a VNIC of another is made within ${COMMAND_MS} ms, not ${commandMs}`);
    well.replace(changed(well.article, { '02:00:00:00:00:b1': { ip: peer.underlay.v4, port: 1 } }));
    const changedMs = await areAll(/^ONLINE .*\+1 -0/, ['overlay0']);
    checkTime(
      changedMs <= IN_FORCE_MS,
      `another file is in force within ${IN_FORCE_MS} ms, not ${changedMs}`,
    );
    for (const name of HUNG) mount.write(name, mapping(2));
    mount.goOn();
    const backMs = await areAll(/^ONLINE .*~1 entries/, HUNG);
    checkTime(backMs <= IN_FORCE_MS, `what it has is in force within ${IN_FORCE_MS} ms, not ${backMs}`);

    mount.hang();
    await areAll(/^DEGRADED/, HUNG);
    // It says which overlays are degraded, with its exit status too.
    const restartMs = await timed(() => daemon.dladm('restart'));
    checkTime(restartMs <= RESTART_MS, `a restart takes ${RESTART_MS} ms, not ${restartMs}`);
    const isThere = async (): Promise<boolean> => (await daemon.vnics()).some(({ name }) => name === 'foo0');
    await waitUntil(isThere, { what: 'what has no file there to be back' });
    mount.goOn();
    const startedMs = await areAll(/^ONLINE/, HUNG);
    checkTime(startedMs <= STARTED_MS, `they start within ${STARTED_MS} ms of its end, not ${startedMs}`);
    return (
      `degraded after ${silentMs} ms; meanwhile a command of another took ${commandMs} ms, a change ${changedMs} ms; ` +
      `in force ${backMs} ms after its end; a restart ${restartMs} ms, started ${startedMs} ms after its end; ${idlePercent.toFixed(1)} % of a processor at rest`
    );
  },
};

async function timed(work: () => Promise<unknown>): Promise<number> {
  const startedMs = performance.now();
  await work();
  return Math.round(performance.now() - startedMs);
}

export const mappingRows: readonly Row[] = [renamed, broken, moved, large, hanging];
