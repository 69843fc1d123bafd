// What a plugin has told reaches a guest's kernel, and outlives the process of the plugin: announcements of a snapshot in the
// neighbour cache, and the addresses that VNICs may send from.
import { mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';

import { Daemon } from '../helpers/daemon.js';
import { skipUnlessNetns } from '../helpers/need.js';
import { addKernelVxlan, Bed } from '../helpers/netns.js';
import { waitUntil } from '../helpers/process.js';
import { ping, reaches } from '../helpers/traffic.js';
import { neighbourMac } from '../helpers/zlan.js';

/**
 * Pushes what the file state.json has, whenever it changes. `dies`: the process ends, and so does every other as soon as it is
 * told the ports, before it has pushed a list of addresses for them.
 */
const SOURCE = `
import { readFileSync } from 'node:fs';
import { parseMac } from 'varpd/plugin';
const state = () => JSON.parse(readFileSync(new URL('state.json', import.meta.url), 'utf8'));
export default {
  apiVersion: 2, name: 'teller', mode: 'dynamic', properties: [],
  create: (host) => {
    let told = '';
    let ports = [];
    const table = ({ places, addresses }) => ({
      targets: Object.entries(places).map(([mac, ip]) => ({ mac: parseMac(mac), to: { ip, port: 4789 } })),
      addresses: Object.entries(addresses).map(([ip, mac]) => ({ ip, mac: parseMac(mac) })),
    });
    const tell = async () => {
      const now = state();
      const text = JSON.stringify([now, ports]);
      if (now.dies) process.exit(7);
      if (text === told) return;
      if (now.changes && told !== '') await host.changeSnapshot({ ...table(now), revision: now.revision });
      else await host.replaceAll({ ...table(now), revision: now.revision });
      if (now.allowed !== undefined)
        host.setAllowedIps(ports.flatMap((mac) => {
          const ips = Object.entries(now.allowed).find(([text]) => parseMac(text) === mac)?.[1];
          return ips === undefined ? [] : [{ mac, ips }];
        }));
      told = text;
    };
    return {
      start: async () => {
        const { dies, ...now } = state();
        await host.replaceAll({ ...table(now), revision: now.revision });
        host.every(50, tell);
      },
      stop: async () => {},
      ports: (macs) => {
        if (state().dies) process.exit(7);
        ports = macs;
      },
    };
  },
};
`;

interface State {
  /** MAC -> VTEP */
  readonly places: Readonly<Record<string, string>>;
  /** IP address -> MAC */
  readonly addresses: Readonly<Record<string, string>>;
  readonly revision: string;
  /** Pushed by changeSnapshot; otherwise by replaceAll. */
  readonly changes?: boolean;
  /** MAC -> addresses */
  readonly allowed?: Readonly<Record<string, readonly string[]>>;
  readonly dies?: boolean;
}

const STATION = { first: '02:00:00:00:00:91', second: '02:00:00:00:00:92' } as const;
const STATION_IPS = ['10.55.55.9', 'fd55::9', '10.66.0.9'] as const;
const MAC = { foo0: '02:00:00:00:00:0a', bar0: '02:00:00:00:00:0b' } as const;
const OWN = '10.55.55.2';
const FORGED = '10.55.55.66';

await t.test('what a plugin has told', { skip: skipUnlessNetns() }, async (t) => {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const [a, b] = await bed.twoHosts();
  await addKernelVxlan(b, { vnetid: 42, local: b.underlay.v4, remote: a.underlay.v4 });
  const stationIs = async (mac: string): Promise<void> => {
    await b.ip(`link set vx0 address ${mac}`);
    // A change of the MAC empties the neighbour cache of a device.
    for (const [ip, guest] of [
      [OWN, MAC.foo0],
      [FORGED, MAC.foo0],
      ['fd55::2', MAC.foo0],
      ['10.66.0.3', MAC.bar0],
    ])
      await b.ip(`neigh replace ${ip} lladdr ${guest} dev vx0 nud permanent`);
  };
  await b.ipBatch(
    'link set vx0 up',
    ...['10.55.55.9/24', '10.66.0.9/24', 'fd55::9/64'].map(
      (ip) => `addr add ${ip} dev vx0${ip.includes(':') ? ' nodad' : ''}`,
    ),
  );
  await stationIs(STATION.first);

  const plugins = bed.directory();
  const own = path.join(plugins, 'teller');
  mkdirSync(own);
  writeFileSync(path.join(own, 'index.js'), SOURCE);
  const at = (mac: string, revision: string): State => ({
    places: { [mac]: b.underlay.v4 },
    addresses: Object.fromEntries(STATION_IPS.map((ip) => [ip, mac])),
    revision,
  });
  /** As a whole: the plugin may read it at any moment. */
  const tell = (state: State): void => {
    const file = path.join(own, 'state.json');
    writeFileSync(`${file}.new`, JSON.stringify(state));
    renameSync(`${file}.new`, file);
  };
  tell(at(STATION.first, 'one'));
  const daemon = (await Daemon.start(bed, a, { pluginPath: [plugins] })).explain(t);
  await daemon.ok(`create-overlay -e vxlan -s teller -v 42 -p vxlan/listen_ip=${a.underlay.v4} overlay0`);
  await daemon.ok(`create-vnic -m ${MAC.foo0} -l overlay0 foo0`);
  await a.ipBatch(
    `addr add ${OWN}/24 dev foo0`,
    `addr add ${FORGED}/24 dev foo0`,
    'addr add fd55::2/64 dev foo0 nodad',
    'link set foo0 up',
  );
  const foo = { host: a, device: 'foo0' };
  const healthBecomes = (status: 'ONLINE' | 'DEGRADED', details = /^/): Promise<void> =>
    waitUntil(
      async () => {
        const { health } = (await daemon.overlays('overlay0'))[0];
        return health.status === status && details.test(health.details ?? '');
      },
      { what: `${status} ${details}` },
    );
  /** Whether an echo request from this source is answered. A request that was lost on its way is sent again. */
  const answers = async (from: string, to = '10.55.55.9'): Promise<boolean> =>
    (await ping(a, to, { from, count: 3, waitMs: 300 })).received > 0;

  await t.test(
    'a snapshot that moves an address is in the neighbour cache of the guest at once',
    async (t) => {
      t.ok(await reaches(a, '10.55.55.9'));
      t.ok(await reaches(a, 'fd55::9'));
      const moves: [mac: string, changes: boolean][] = [
        [STATION.second, false],
        [STATION.first, true],
        [STATION.second, true],
      ];
      for (const [index, [mac, changes]] of moves.entries()) {
        const before = mac === STATION.first ? STATION.second : STATION.first;
        for (const ip of ['10.55.55.9', 'fd55::9'])
          t.equal(await neighbourMac(foo, ip), before, `${ip} is at ${before}`);
        await stationIs(mac);
        tell({ ...at(mac, `move ${index}`), changes });
        // Nothing is sent to these addresses meanwhile, so that the guest asks nobody.
        for (const ip of ['10.55.55.9', 'fd55::9'])
          await waitUntil(async () => (await neighbourMac(foo, ip)) === mac, {
            what: `${ip} to be at ${mac}`,
          });
        t.equal(
          (await ping(a, '10.55.55.9')).received,
          3,
          `${changes ? 'changeSnapshot' : 'replaceAll'}, IPv4`,
        );
        t.equal((await ping(a, 'fd55::9')).received, 3, 'IPv6');
      }
    },
  );

  const now = at(STATION.second, 'rest');
  tell(now);
  await t.test('a VNIC with protection of its own is as closed without its plugin', async (t) => {
    t.ok(await answers(FORGED), 'without protection any address is good');
    await daemon.ok(`set-linkprop -p protection=ip-nospoof,allowed-ips=${OWN} foo0`);
    t.notOk(await answers(FORGED));
    tell({ ...now, dies: true });
    await healthBecomes('DEGRADED', /its process has ended \(exit status 7\)/);
    t.notOk(await answers(FORGED), 'the plugin died before it has pushed any list');
    t.ok(await answers(OWN));
    tell(now);
    await healthBecomes('ONLINE');
    await daemon.ok('reset-linkprop foo0');
    t.ok(await answers(FORGED), 'it sets no rule');
  });

  const allowed = { [MAC.foo0]: [OWN, 'fd55::2'] };
  await t.test(
    'the last list stays in force when the plugin dies before it has pushed another',
    async (t) => {
      tell({ ...now, allowed });
      await waitUntil(async () => !(await answers(FORGED)), { what: 'the list to be in force' });
      t.ok(await answers(OWN));
      const withBar = { ...allowed, [MAC.bar0]: ['10.66.0.3'] };
      tell({ ...now, allowed: withBar, dies: true });
      await healthBecomes('DEGRADED', /its process has ended \(exit status 7\)/);
      t.notOk(await answers(FORGED), 'as before');
      t.ok(await answers(OWN), 'what is allowed goes on');

      await daemon.ok(`create-vnic -m ${MAC.bar0} -l overlay0 bar0`);
      await a.ipBatch('addr add 10.66.0.3/24 dev bar0', 'link set bar0 up');
      await a.ip(`neigh replace 10.66.0.9 lladdr ${STATION.second} dev bar0 nud permanent`);
      t.notOk(await answers('bar0', '10.66.0.9'), 'a VNIC that the list lacks may send nothing');
      t.notOk(await answers(FORGED));

      t.match(await daemon.dladm('restart'), {
        code: 1,
        stderr: /overlay0: DEGRADED: plugin teller: its process has ended/,
      });
      await healthBecomes('DEGRADED', /its process has ended \(exit status 7\)/);
      t.notOk(await answers(FORGED), 'after a restart too');
      t.notOk(await answers('bar0', '10.66.0.9'));
      t.ok(await answers(OWN));

      tell({ ...now, allowed: withBar });
      await healthBecomes('ONLINE');
      await waitUntil(() => answers('bar0', '10.66.0.9'), { what: 'the new list' });
      t.notOk(await answers(FORGED));
      t.ok(await answers(OWN));
    },
  );
  rmSync(own, { recursive: true });
});
