// The http plugin with a snapshot of a million entries, in its process under varpd, beside the reference server over SQLite: in
// force, changed, read again, and put in force out of its state on disk; within its memory limit, and never blocked.
import path from 'node:path';

import t from 'tap';

import { Daemon } from '../helpers/daemon.js';
import { SERVER, VNETID } from '../helpers/http-store.js';
import {
  checkProcess,
  ENTRIES,
  makeTimed,
  mapping,
  seconds,
  timeoutMs,
  untilInForce,
  untilSaved,
} from '../helpers/million.js';
import { skipUnlessNetns } from '../helpers/need.js';
import { Bed, type Namespace } from '../helpers/netns.js';
import { type Child, waitUntil } from '../helpers/process.js';
import { healthBecomes } from '../helpers/site.js';

const PORT = 8080;

/** Fills the tables of the reference server, as its PUT does for one entry. */
const FILL = `import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
def mac(i): return '02:00:00:%02x:%02x:%02x' % (i >> 16, (i >> 8) & 255, i & 255)
def ip(i): return '10.%d.%d.%d' % (i >> 16, (i >> 8) & 255, i & 255)
n = int(sys.argv[2])
db.executemany('INSERT INTO entries VALUES (${VNETID}, ?, ?)', ((mac(i),
  '{"ip": "10.88.%d.%d", "port": 4789, "arp": "%s"}' % (i % 100, 1 + i % 250, ip(i))) for i in range(1, n + 1)))
db.executemany('INSERT INTO ips VALUES (${VNETID}, ?, ?)', ((ip(i), mac(i)) for i in range(1, n + 1)))
db.execute('INSERT INTO changes (revision, vnetid, mac, entry) VALUES (?, ${VNETID}, ?, NULL)', (n, mac(0)))
db.commit()`;

/** PUT and DELETE, by a program that is there in any case: the store listens inside a namespace. */
const CHANGE = `import sys, urllib.request as r
for index in range(int(sys.argv[2]), int(sys.argv[3])):
  url = sys.argv[1] + '02-00-00-%02x-%02x-%02x' % (index >> 16, (index >> 8) & 255, index & 255)
  r.urlopen(r.Request(url, sys.argv[4].encode() or None, method='PUT' if sys.argv[4] else 'DELETE')).read()`;

class Site {
  readonly #database: string;
  readonly #at: Namespace;
  #child: Child | undefined;

  constructor(bed: Bed, at: Namespace) {
    this.#database = path.join(bed.directory(), 'net.db');
    this.#at = at;
  }

  get url(): string {
    return `http://${this.#at.underlay.v4}:${PORT}`;
  }

  async start(): Promise<void> {
    const where = ['--host', this.#at.underlay.v4, '--port', `${PORT}`, '--database', this.#database];
    this.#child = this.#at.spawn(['python3', SERVER, ...where, '--keep-alive', '1']);
    await this.#child.waitForOutput(/listening/);
  }

  async kill(): Promise<void> {
    await this.#child?.stop('SIGKILL');
  }

  async fill(): Promise<void> {
    await this.#at.exec(['python3', '-c', FILL, this.#database, `${ENTRIES}`], { timeoutMs });
  }

  /** Puts an entry for each of these MACs, or removes them without one. */
  async change(from: number, end: number, entry?: object): Promise<void> {
    const macs = `${this.url}/v1/networks/${VNETID}/macs/`;
    const text = entry === undefined ? '' : JSON.stringify(entry);
    await this.#at.exec(['python3', '-c', CHANGE, macs, `${from}`, `${end}`, text], { timeoutMs });
  }
}

await t.test('a snapshot of a million entries', { skip: skipUnlessNetns(['python3']) }, async (t) => {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const [a, b] = await bed.twoHosts();
  await a.ip(`route add 10.88.0.0/16 via ${b.underlay.v4}`);
  const site = new Site(bed, a);
  await site.start();
  await site.fill();
  const plugins = bed.directory();
  makeTimed(plugins, 'http');
  const daemon = (await Daemon.start(bed, a, { withoutRoot: true, pluginPath: [plugins] })).explain(t);
  const properties = `-p vxlan/listen_ip=${a.underlay.v4},timed/url=${site.url},timed/mode=snapshot`;
  let beginMs = performance.now();
  await daemon.ok(`create-overlay -v ${VNETID} -e vxlan -s timed ${properties} overlay0`);
  t.comment(`create-overlay returned after ${seconds(beginMs)} s`);
  await untilInForce(daemon, ENTRIES, ENTRIES);
  t.comment(`cold start: ${ENTRIES} entries in force after ${seconds(beginMs)} s`);
  checkProcess(t, daemon, 'after the first snapshot');

  beginMs = performance.now();
  await site.change(1, 101, { ip: '10.88.99.99', port: 4789, arp: '10.200.0.1' });
  await untilInForce(daemon, ENTRIES + 100, ENTRIES);
  t.comment(`100 changes: ${seconds(beginMs)} s from the first PUT to the last in force`);
  await site.change(101, 111);
  await site.change(ENTRIES + 1, ENTRIES + 3, { ip: '10.88.99.99', port: 4789 });
  await untilInForce(daemon, ENTRIES + 112, ENTRIES - 8);

  beginMs = performance.now();
  await daemon.ok('reload');
  const isReadAgain = (): boolean => daemon.log().match(/snapshot of revision \d+: /g)?.length === 2;
  await waitUntil(isReadAgain, { what: 'a second snapshot', timeoutMs });
  t.comment(`read again after ${seconds(beginMs)} s`);
  t.match(daemon.log(), /snapshot of revision 1000112: \+0 -0 ~0, 999992 entries/);
  checkProcess(t, daemon, 'after the second one, beside the first');

  await site.change(1, 2, { ip: '10.88.99.98', port: 4789 });
  await untilInForce(daemon, ENTRIES + 113, ENTRIES - 8);
  await untilSaved(daemon);
  await site.kill();
  await daemon.stop();
  beginMs = performance.now();
  await daemon.start();
  await waitUntil(async () => ((await mapping(daemon).catch(() => undefined))?.entries ?? 0) > 0, {
    what: 'the state on disk in force',
    timeoutMs,
  });
  t.comment(
    `without the store: in force out of the state on disk ${seconds(beginMs)} s after the start of varpd`,
  );
  await healthBecomes(t, daemon, /changes do not arrive: .* cannot be reached/);
  await site.start();
  await site.change(2, 3, { ip: '10.88.99.98', port: 4789 });
  await untilInForce(daemon, ENTRIES + 114, ENTRIES - 8);
  await healthBecomes(t, daemon, 'ONLINE');
  t.equal(
    daemon.log().match(/snapshot of revision \d+: /g)?.length,
    2,
    'the stream has brought the changes, and nothing was read again',
  );
  checkProcess(t, daemon, 'after the restart');
});
