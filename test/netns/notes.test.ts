// Notes of an overlay that works and should be looked at: mistakes of an operator, made for real over IPv4 and IPv6, are named
// with the culprit, in `show-overlay -f`, in `status` and in the log, and the notes end when the mistakes are mended.
import t, { type Test } from 'tap';

import { Daemon, directOverlay } from '../helpers/daemon.js';
import { skipUnlessNetns } from '../helpers/need.js';
import { Bed, type Namespace } from '../helpers/netns.js';
import { waitUntil } from '../helpers/process.js';
import { ping } from '../helpers/traffic.js';
import { isTried } from '../helpers/whole.js';
import { changed, type Entries, MappingFile } from '../helpers/zlan.js';

const skip = skipUnlessNetns(['ping']);

// Each has hosts of its own, and waits for them most of the time.
t.jobs = 3;

const FOO = 'de:ad:be:ef:00:00';
const BAR = 'de:ad:be:ef:00:01';
const BAZ = 'de:ad:be:ef:00:02';

async function twoHosts(t: Test) {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const [a, b] = await bed.twoHosts();
  const start = async (host: Namespace): Promise<Daemon> =>
    (await Daemon.start(bed, host, { withoutRoot: true })).explain(t);
  const [here, there] = await Promise.all([start(a), start(b)]);
  return { bed, a, b, here, there };
}

const notesOf = async (daemon: Daemon): Promise<string> =>
  (await daemon.overlays('overlay0'))[0].health.notes ?? '';

/** The note comes, `status` and the log have it too, the log once. */
async function says(t: Test, daemon: Daemon, expected: RegExp): Promise<void> {
  const startedMs = performance.now();
  let notes = '';
  const isSaid = async (): Promise<boolean> => {
    notes = await notesOf(daemon);
    return expected.test(notes);
  };
  await waitUntil(isSaid, { what: `the note ${expected}` }).catch((error: unknown) => {
    throw new Error(`${(error as Error).message}; the notes are: ${notes}`);
  });
  t.comment(`${expected} after ${Math.round(performance.now() - startedMs)} ms`);
  const { stdout: health } = await daemon.dladm(
    'show-overlay',
    '-f',
    '-p',
    '-o',
    'status,details',
    'overlay0',
  );
  t.match(health.replaceAll('\\:', ':'), expected);
  t.match(health, /^ONLINE:/, 'it works');
  const { stdout: status } = await daemon.dladm('status');
  t.match(status.replace(/\n */g, ' '), expected);
  const lines = (): string[] =>
    daemon
      .log()
      .split('\n')
      .filter((line) => / warn overlay0: /.test(line) && expected.test(line));
  await waitUntil(() => lines().length > 0, { what: `${expected} in the log` });
  t.equal(lines().length, 1, `once in the log: ${lines()[0]}`);
}

async function isQuiet(daemon: Daemon): Promise<void> {
  let notes = '';
  const isMended = async (): Promise<boolean> => {
    notes = await notesOf(daemon);
    return notes === '';
  };
  await waitUntil(isMended, { what: 'the end of the note' }).catch((error: unknown) => {
    throw new Error(`${(error as Error).message}; it is: ${notes}`);
  });
}

const endpointOf = (ip: string): string => (ip.includes(':') ? `[${ip}]:4789` : `${ip}:4789`);
const literally = (text: string): string => text.replace(/[.[\]]/g, '\\$&');

for (const family of ['v4', 'v6'] as const) {
  if (isTried(family === 'v6'))
    t.test(`${family}: the mapping and the ports`, { skip }, async (t) => {
      const { bed, a, b, here, there } = await twoHosts(t);
      const file = new MappingFile(bed);
      const at = (host: Namespace, arp: string) => ({ ip: host.underlay[family], port: 4789, arp });
      const entries: Entries = {
        [FOO]: at(a, '10.55.55.2'),
        [BAR]: at(b, '10.55.55.3'),
        [BAZ]: at(b, '10.55.55.4'),
      };
      file.replace(entries);
      const make = async (host: Namespace, daemon: Daemon, mac: string, vnic: string, ip: string) => {
        const properties = `-p vxlan/listen_ip=${host.underlay[family]} -p files/config=${file.path}`;
        await daemon.ok(`create-overlay -v 23 -e vxlan -s files ${properties} overlay0`);
        await daemon.ok(`create-vnic -m ${mac} -l overlay0 ${vnic}`);
        await host.ip(`addr add ${ip}/24 dev ${vnic}`);
      };
      await make(a, here, FOO, 'foo0', '10.55.55.2');
      await make(b, there, BAR, 'bar0', '10.55.55.3');
      t.equal((await ping(a, '10.55.55.3')).received, 3);
      t.same(
        (await here.overlays('overlay0'))[0].health,
        { status: 'ONLINE', details: null },
        'nothing to say',
      );
      const listen = endpointOf(a.underlay[family]);

      await here.ok('create-vnic -m 2:0:0:0:0:1 -l overlay0 foo1');
      const unknown = `does not know foo1 \\(02:00:00:00:00:01\\): .* add it with ${literally(listen)}`;
      await says(t, here, new RegExp(unknown));
      file.replace({ ...entries, '02:00:00:00:00:01': at(a, '10.55.55.9') });
      await isQuiet(here);
      await here.ok('delete-vnic foo1');

      file.replace(changed(entries, { [FOO]: { ip: b.underlay[family] } }));
      const place = literally(endpointOf(b.underlay[family]));
      await says(
        t,
        here,
        new RegExp(`has foo0 \\(${FOO}\\) at ${place}, and it is here, at ${literally(listen)}`),
      );
      await here.restart();
      await waitUntil(async () => /has foo0 /.test(await notesOf(here)), {
        what: 'the note after a restart',
      });
      file.replace(entries);
      await isQuiet(here);

      // The own interface is a station once it has an address.
      await a.ip('addr add 10.55.55.8/24 dev overlay0');
      await says(t, here, /does not know overlay0 \(/);
      await a.ip('addr del 10.55.55.8/24 dev overlay0');
      await isQuiet(here);

      file.replace({});
      const lost = 'has lost most of its entries: 3 before, 0 now';
      await says(t, here, new RegExp(`hosts.json ${lost}`));
      await says(t, here, new RegExp(`does not know foo0 \\(${FOO}\\)`));
      file.replace(entries);
      await isQuiet(here);
      t.match((await here.overlays('overlay0'))[0].health.details, /read again: \+3/, 'news are no note');

      const overhead = family === 'v4' ? 50 : 70;
      const full = `(MTU ${1500 - overhead}) need 1500: larger ones are dropped; set`;
      await a.ip('link set under0 mtu 1400');
      const ends = literally(`${full} the MTU of under0 to 1500, or that of`).replace(/[()]/g, '\\$&');
      await says(
        t,
        here,
        new RegExp(`the MTU of under0 is 1400, and full packets of \\w+ and 1 more ${ends}`),
      );
      await a.ip('link set under0 mtu 1500');
      await isQuiet(here);
      const bits = family === 'v4' ? 32 : 128;
      await a.ip(`route add ${b.underlay[family]}/${bits} dev under0 mtu 1380`);
      await says(
        t,
        here,
        new RegExp(`the route to ${b.underlay[family]} carries packets of 1380 bytes, and full`),
      );
      // The ports may be made smaller instead.
      for (const port of ['overlay0', 'foo0']) await a.ip(`link set ${port} mtu ${1380 - overhead}`);
      await isQuiet(here);
      t.equal(await notesOf(there), '', 'the other host has none');
    });

  if (isTried(family === 'v4'))
    t.test(`${family}: the own MAC at another host`, { skip }, async (t) => {
      const { a, b, here, there } = await twoHosts(t);
      const [from, to] = [a.underlay[family], b.underlay[family]];
      await here.ok(directOverlay({ from, to }));
      await there.ok(directOverlay({ from: to, to: from }));
      const speak = async (host: Namespace, daemon: Daemon, vnic: string, ip: string): Promise<void> => {
        await daemon.ok(`create-vnic -m ${FOO} -l overlay0 ${vnic}`);
        await host.ip(`addr add ${ip}/24 dev ${vnic}`);
        // Each sends all the time: only what has just sent takes the other's frames for its own (presence.ts).
        await host.ip(`neigh add 10.55.55.99 lladdr 02:00:00:00:00:99 dev ${vnic}`);
        const child = host.spawn(['ping', '-i', '0.05', '10.55.55.99']);
        t.teardown(() => {
          child.signal('SIGKILL');
        });
      };
      await speak(a, here, 'foo0', '10.55.55.2');
      await speak(b, there, 'bar0', '10.55.55.3');
      const expected = new RegExp(`frames from ${to} are refused: their source is ${FOO}, which port foo0`);
      const details = async (): Promise<string> => (await here.overlays('overlay0'))[0].health.details ?? '';
      await waitUntil(async () => expected.test(await details()), { what: `${expected}` });
      t.match(here.log(), expected);
      await waitUntil(async () => (await here.overlays('overlay0'))[0].health.status === 'DEGRADED', {
        what: 'a trouble that lasts',
      });
    });

  if (isTried(family === 'v6'))
    t.test(`${family}: another VNI, and a peer not in the list`, { skip }, async (t) => {
      const { a, b, here, there } = await twoHosts(t);
      const [from, to] = [a.underlay[family], b.underlay[family]];
      const speak = async (port: number, vnetid: number, dest: string): Promise<void> => {
        const at = `-p vxlan/listen_port=${port}`;
        const mine = directOverlay({ from, to: dest }, at).replace('dest_port=4789', `dest_port=${port}`);
        const theirs = directOverlay({ from: to, to: from, vnetid }, at);
        await here.ok(mine);
        await there.ok(theirs.replace('dest_port=4789', `dest_port=${port}`));
        await b.ip('addr add 10.55.55.3/24 dev overlay0');
        const child = b.spawn(['ping', '-i', '0.3', '10.55.55.2']);
        t.teardown(() => {
          child.signal('SIGKILL');
        });
      };
      const sender = literally(endpointOf(to).replace(/:4789$/, ':'));
      await speak(4789, 32, to);
      await says(t, here, new RegExp(`dropped as rx_unknown_vni \\(VNI 32 from ${sender}\\d+, `));
      for (const daemon of [here, there]) await daemon.ok('delete-overlay overlay0');
      await speak(4790, 42, family === 'v4' ? '10.88.88.99' : 'fd88::99');
      await says(t, here, new RegExp(`dropped as rx_unknown_peer \\(from ${sender}\\d+, `));
    });
}
