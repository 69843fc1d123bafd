// The file of the files plugin changes under traffic, and the traffic is what none of it is about.

import { rmSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

import t, { type Test } from 'tap';

import { formatMac } from '../../src/wire/mac.js';
import { BAD_MAPPINGS } from '../helpers/bad-mappings.js';
import { Capture } from '../helpers/capture.js';
import { udpFrame } from '../helpers/frames.js';
import { UNDERLAY_DEVICE } from '../helpers/netns.js';
import { waitUntil } from '../helpers/process.js';
import { ping, sendFrames } from '../helpers/traffic.js';
import { changed, type Entries, neighbourMac, plumb, settled, SteadyPing } from '../helpers/zlan.js';
import { globalOf, skip, IN_FORCE_MS, site, untilDetails } from '../helpers/files-site.js';
import { part } from '../helpers/whole.js';

await t.test('the file changes under traffic', { skip }, async (t) => {
  const { bed, file, stations } = await site(t);
  const [zlan, zlan2, zlan3] = stations;
  const more = stations.map(({ mac, linkLocal }, index) => [mac, { ndp: [linkLocal, globalOf(index)] }]);
  const base = changed(file.article, Object.fromEntries(more) as Entries);
  file.replace(base);
  await Promise.all(stations.map((station, index) => plumb(station, [globalOf(index)])));
  for (const station of stations) {
    await untilDetails(station, /~3/);
    t.equal(await settled(station, globalOf(stations.indexOf(station))), 'good');
  }
  const stranger = (n: number): Entries =>
    changed(base, { [formatMac(0x0200_0000_0000 + n)]: { ip: `10.88.88.${70 + (n & 1)}`, port: 4789 } });

  /** Two known flows at 200 Hz, one of each family, while something is done: none of it may be felt. */
  const undisturbed = async (t: Test, work: () => Promise<void>): Promise<void> => {
    const flows = await Promise.all([
      SteadyPing.start(zlan.host, zlan2.v4),
      SteadyPing.start(zlan3.host, globalOf(1)),
    ]);
    // Whether the work is done or has failed, the flows end.
    await work().finally(async () => {
      for (const { sent, lost, duplicates } of await Promise.all(flows.map((flow) => flow.stop())))
        t.same({ lost, duplicates }, { lost: 0, duplicates: 0 }, `0 of ${sent} known-flow packets lost`);
    });
  };

  await t.test('renamed over, in place, by command and by signal', async (t) => {
    await undisturbed(t, async () => {
      file.replace(stranger(1));
      await untilDetails(zlan, /ONLINE .*\+1 -0 ~0 entries, 4 now/);
      t.pass('a rename');
      file.rewrite(base);
      await untilDetails(zlan, /ONLINE .*\+0 -1 ~0 entries, 3 now/);
      t.pass('in place');

      const timesRead = (): number => zlan.daemon.log().split('read again: the same 3 entries').length - 1;
      // One write may be seen twice: until the watch has nothing more to say.
      let before = -1;
      while (before !== timesRead()) {
        before = timesRead();
        await sleep(IN_FORCE_MS);
      }
      const reload = await zlan.daemon.dladm('reload');
      t.match(reload, { code: 0, stderr: '' }, 'dladm reload');
      t.equal(timesRead(), before + 1, 'has read the file when it returns');
      zlan.daemon.signal('SIGHUP');
      await waitUntil(() => timesRead() === before + 2, { what: 'SIGHUP to have the file read' });
      t.pass('SIGHUP has it read too');

      file.publish(base);
      await waitUntil(() => timesRead() >= before + 3, { what: 'the link to be read' });
      file.publish(stranger(2));
      await untilDetails(zlan, /ONLINE .*\+1 -0 ~0 entries, 4 now/);
      t.pass('a link');
      file.replace(base);
      await untilDetails(zlan, /ONLINE .*\+0 -1 ~0 entries, 3 now/);
    });
  });

  await t.test('a bad file', async (t) => {
    const good = JSON.stringify(base, undefined, 2);
    const bad: [what: string, text: string, place: RegExp][] = [
      ['half of a file', good.slice(0, good.indexOf('"port"')), /:9:5: /],
      ['a MAC twice', good.replace('ef:00:01"', 'ef:0:0"'), /:11:3: .*de:ad:be:ef:0:0/],
      [
        'a port in quotes',
        good.replace('"port": 4789', '"port": "4789"'),
        /:9:13: at '"4789".*': found a string, expected/,
      ],
    ];
    await undisturbed(t, async () => {
      for (const [what, text, place] of bad) {
        file.replace(text);
        await untilDetails(zlan, /^DEGRADED/);
        t.pass(`${what} is noticed`);
        const shown = await zlan.daemon.ok('show-overlay -f overlay0');
        t.match(shown, place, 'with its line and column', { shown });
        t.match(shown, 'DEGRADED');
        t.equal((await ping(zlan2.host, zlan3.v4)).received, 3, 'the mapping in use stays');
        const reload = await zlan.daemon.dladm('reload');
        t.equal(reload.code, 1, 'dladm reload fails');
        t.match(reload.stderr, place, 'and says where');
        file.replace(base);
        await untilDetails(zlan, /^ONLINE/);
        t.pass('a good file ends it');
      }
      rmSync(file.path);
      await untilDetails(zlan, /^DEGRADED .*is not there/);
      file.replace(base);
      await untilDetails(zlan, /^ONLINE/);
      t.pass('so with a file that goes and comes back');
    });
  });

  await t.test(`${BAD_MAPPINGS.length} bad files, each with its place and its words`, async (t) => {
    t.ok(BAD_MAPPINGS.length >= 40);
    await undisturbed(t, async () => {
      for (const [what, text, [at, , , expected]] of BAD_MAPPINGS) {
        file.replace(text);
        const { failures } = await zlan.daemon.call('daemon.reload', {});
        const [{ health }] = await zlan.daemon.overlays('overlay0');
        const place = `${file.path}:${at}: found `;
        t.equal(failures.length, 1, what);
        const message = failures[0]?.message ?? '';
        t.ok(message.startsWith(`not reloaded: ${place}`), place, { failures });
        t.ok(message.includes(`, expected ${expected}`), expected, { failures });
        t.equal(health.status, 'DEGRADED');
        t.ok(health.details?.startsWith(place), 'show-overlay says so', { health });
      }
      for (const { host } of [zlan2, zlan3])
        t.equal((await ping(host, zlan.v4)).received, 3, 'the last good mapping stays in use');
      file.replace(base);
      for (const station of stations) await untilDetails(station, /^ONLINE/);
    });
  });

  const renames = part(1000);
  await t.test(`${renames} renames`, async (t) => {
    const wrong = await zlan3.daemon.counted(() =>
      undisturbed(t, async () => {
        for (let n = 1; n <= renames; n++) {
          file.replace(n === renames ? changed(stranger(1), stranger(2)) : stranger(n));
          await sleep(2);
        }
        for (const station of stations) {
          await untilDetails(station, /ONLINE .* 5 now/);
          t.pass('the last one is in force');
        }
      }),
    );
    const reloads = zlan.daemon.log().split('read again').length - 1;
    t.comment(`${reloads} reloads so far`);
    t.equal(wrong['rx_no_port'] ?? 0, 0, 'no frame went to the wrong host');
    file.replace(base);
    for (const station of stations) await untilDetails(station, /ONLINE .* 3 now/);
  });

  await t.test('5000 MACs come, move and go: each leaves the target table, no other does', async (t) => {
    const count = 5000;
    const macOfNumber = (n: number): string => formatMac(0x0200_0001_0000 + n);
    const many = (ip: string): Entries =>
      changed(
        base,
        Object.fromEntries(Array.from({ length: count }, (_, n) => [macOfNumber(n), { ip, port: 4789 }])),
      );
    // One of each end of the list, and one in the middle of it.
    const probed = [0, 2047, 2048, count - 1].map(macOfNumber);
    const probe = (): Promise<unknown> =>
      sendFrames(
        zlan.host,
        zlan.device,
        probed.map((destinationMac) => udpFrame({ sourceMac: zlan.mac, destinationMac })),
      );
    /** What `show-overlay -t` says of them. */
    const targets = async (): Promise<string[]> => {
      const text = await zlan.daemon.ok('show-overlay -t -p -o target,destination overlay0');
      const lines = text.split('\n').map((line) => line.replaceAll('\\', ''));
      return probed.map(
        (mac) => lines.find((line) => line.startsWith(`${mac}:`))?.slice(mac.length + 1) ?? '-',
      );
    };
    const become = async (what: Entries, news: RegExp, expected: string): Promise<void> => {
      file.replace(what);
      for (const station of stations) await untilDetails(station, news);
      const isSo = async (): Promise<boolean> => {
        await probe();
        return (await targets()).every((target) => target === expected);
      };
      await waitUntil(isSo, { stepMs: 100, what: `targets to be ${expected}` });
      t.pass(`they are at ${expected}`);
    };
    await probe();
    await undisturbed(t, async () => {
      await become(many('10.88.88.70'), /\+5000 -0 ~0/, '10.88.88.70:4789');
      await become(many('10.88.88.71'), /\+0 -0 ~5000/, '10.88.88.71:4789');
      await become(base, /\+0 -5000 ~0/, 'drop');
    });
  });

  await t.test('an address moves to another MAC', async (t) => {
    // zlan3's addresses go to zlan2, whose guest has them already. RFC 5227, RFC 4862: nobody else is asked.
    const [v4, v6] = [zlan3.v4, globalOf(2)];
    await zlan3.host.ip(`addr del ${v4}/24 dev ${zlan3.device}`);
    await zlan3.host.ip(`addr del ${v6}/64 dev ${zlan3.device}`);
    await zlan3.host.ip(`addr add ${v4}/24 dev ${zlan3.device}`);
    await zlan3.host.ip(`addr add ${v6}/64 dev ${zlan3.device} nodad`);
    t.equal((await ping(zlan.host, v4)).received, 3);
    t.equal((await ping(zlan.host, v6)).received, 3);
    t.same(
      [await neighbourMac(zlan, v4), await neighbourMac(zlan, v6)],
      [zlan3.mac, zlan3.mac],
      'the guest knows the old MAC',
    );
    await zlan2.host.ip(`addr add ${v4}/24 dev ${zlan2.device}`);
    await zlan2.host.ip(`addr add ${v6}/64 dev ${zlan2.device} nodad`);
    file.replace(
      changed(base, {
        [zlan2.mac]: { arp: [zlan2.v4, v4], ndp: [zlan2.linkLocal, globalOf(1), v6] },
        [zlan3.mac]: { arp: [], ndp: [zlan3.linkLocal] },
      }),
    );
    const hasNew = async (address: string): Promise<boolean> =>
      (await neighbourMac(zlan, address)) === zlan2.mac;
    for (const address of [v4, v6])
      await waitUntil(() => hasNew(address), { what: `${address} to be at ${zlan2.mac}` });
    t.pass('and is told the new one, unasked');
    t.equal((await ping(zlan.host, v4)).received, 3, 'which answers');
    t.equal((await ping(zlan.host, v6)).received, 3);
    await zlan2.host.ip(`addr del ${v4}/24 dev ${zlan2.device}`);
    await zlan2.host.ip(`addr del ${v6}/64 dev ${zlan2.device}`);
    file.replace(base);
    for (const station of stations) await untilDetails(station, /ONLINE .*~2 entries/);
  });

  await t.test('a MAC moves to another host', async (t) => {
    const steady = await SteadyPing.start(zlan.host, zlan3.v4);
    const capture = await Capture.start(bed, zlan.host, UNDERLAY_DEVICE, 'udp and src 10.88.88.69');
    await sleep(200);
    // Its VNIC moves first; the file follows.
    await zlan3.daemon.ok(`delete-vnic ${zlan3.device}`);
    await zlan2.daemon.ok(`create-vnic -m ${zlan3.mac} -l overlay0 ${zlan3.device}`);
    await plumb({ ...zlan3, host: zlan2.host });
    const renamedS = Date.now() / 1000;
    file.replace(changed(base, { [zlan3.mac]: { ip: '10.88.88.70' } }));
    await sleep(IN_FORCE_MS);
    const reached = steady.reached;
    await waitUntil(() => steady.reached > reached + 100, { what: 'replies from the new host' });
    t.pass('replies from the new host');
    const old = await zlan3.daemon.counted(() => sleep(500));
    t.equal(old['rx_frames'] ?? 0, 0, 'the old one gets nothing any more', { old });
    await steady.stop();
    const rows = await capture.fields('vxlan && icmp', ['frame.time_epoch', 'ip.dst']);
    const timesTo = (outer: string): number[] =>
      rows
        .filter((row) => row['ip.dst'][0] === outer && row['ip.dst'][1] === zlan3.v4)
        .map((row) => Number(row['frame.time_epoch'][0]) - renamedS);
    const last = Math.max(...timesTo('10.88.88.71'));
    const first = Math.min(...timesTo('10.88.88.70'));
    t.comment(`${first.toFixed(3)} s after the rename the first frame went to the new host`);
    t.ok(last <= first, 'and no frame went to the old host afterwards');
  });
});
