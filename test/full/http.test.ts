// Two hosts with the http plugin and a store on the underlay: pings, a VNIC that moves, a store that is away.
import path from 'node:path';

import t, { type Test } from 'tap';

import { Daemon } from '../helpers/daemon.js';
import { SERVER, VNETID } from '../helpers/http-store.js';
import { skipUnlessNetns } from '../helpers/need.js';
import { Bed, type Namespace } from '../helpers/netns.js';
import type { Child } from '../helpers/process.js';
import { healthBecomes } from '../helpers/site.js';
import { ping, reaches } from '../helpers/traffic.js';
import { SteadyPing } from '../helpers/zlan.js';

const skip = skipUnlessNetns(['python3']);
const PORT = 8080;
const MACS = { foo0: '02:00:00:00:00:01', bar0: '02:00:00:00:00:02', mov0: '02:00:00:00:00:03' } as const;
const MOVER = '10.55.55.9';

/** PUT, by a program that is there in any case: the store listens inside a namespace. */
const PUT = `import sys, urllib.request as r
r.urlopen(r.Request(sys.argv[1], sys.argv[2].encode(), method='PUT')).read()`;

class Site {
  readonly #database: string;
  #child: Child | undefined;

  constructor(
    bed: Bed,
    readonly a: Namespace,
    readonly b: Namespace,
  ) {
    this.#database = path.join(bed.directory(), 'net.db');
  }

  get url(): string {
    return `http://${this.a.underlay.v4}:${PORT}`;
  }

  async startStore(): Promise<void> {
    const where = ['--host', this.a.underlay.v4, '--port', `${PORT}`, '--database', this.#database];
    this.#child = this.a.spawn(['python3', SERVER, ...where, '--keep-alive', '1']);
    await this.#child.waitForOutput(/listening/);
  }

  async killStore(): Promise<void> {
    await this.#child?.stop('SIGKILL');
  }

  async put(mac: string, at: Namespace, arp: string): Promise<void> {
    const entry = JSON.stringify({ ip: at.underlay.v4, port: 4789, arp });
    await this.a.exec(['python3', '-c', PUT, `${this.url}/v1/networks/${VNETID}/macs/${mac}`, entry]);
  }
}

async function host(t: Test, bed: Bed, site: Site, at: Namespace, mode: string): Promise<Daemon> {
  const daemon = (await Daemon.start(bed, at, { withoutRoot: true })).explain(t);
  const properties = `-p vxlan/listen_ip=${at.underlay.v4},http/url=${site.url},http/mode=${mode}`;
  await daemon.ok(`create-overlay -v ${VNETID} -e vxlan -s http ${properties} overlay0`);
  return daemon;
}

for (const mode of ['watch', 'snapshot'])
  await t.test(`${mode}: pings, a VNIC that moves, a store that is away`, { skip }, async (t) => {
    const bed = new Bed();
    t.teardown(() => bed.cleanup());
    const [a, b] = await bed.twoHosts();
    const site = new Site(bed, a, b);
    await site.startStore();
    await site.put(MACS.foo0, a, a.overlay.v4);
    await site.put(MACS.bar0, b, b.overlay.v4);
    await site.put(MACS.mov0, b, MOVER);
    const [onA, onB] = await Promise.all([host(t, bed, site, a, mode), host(t, bed, site, b, mode)]);
    await onA.ok(`create-vnic -m ${MACS.foo0} -l overlay0 foo0`);
    await onB.ok(`create-vnic -m ${MACS.bar0} -l overlay0 bar0`);
    await Promise.all([a.plumb('foo0', { v6: false }), b.plumb('bar0', { v6: false })]);
    t.ok(await reaches(a, b.overlay.v4), 'the first ping');
    t.equal((await ping(b, a.overlay.v4)).received, 3);

    const properties = 'show-overlayprop -c -o property,perm -p http/timeout_ms,http/url,http/mode overlay0';
    t.match(await onA.ok(properties), /timeout_ms:rw\n.*url:rw\n.*mode:r-\n/);
    await onA.ok('set-overlayprop -p http/timeout_ms=900,http/ttl_ms=20000 overlay0');
    const refused = await onA.dladm(
      'set-overlayprop',
      '-p',
      `http/url=http://${b.underlay.v4}:9`,
      'overlay0',
    );
    t.match(refused, { code: 7, stderr: /cannot be reached/ });
    t.equal((await ping(b, a.overlay.v4)).received, 3, 'a change costs no known flow');

    const mover = async (at: Namespace, daemon: Daemon): Promise<void> => {
      await daemon.ok(`create-vnic -m ${MACS.mov0} -l overlay0 mov0`);
      await at.ip('link set mov0 up');
      await at.ip(`addr add ${MOVER}/32 dev mov0`);
    };
    await mover(b, onB);
    t.ok(await reaches(a, MOVER), 'where the VNIC is first');
    await onB.ok('delete-vnic mov0');
    await mover(a, onA);
    await site.put(MACS.mov0, a, MOVER);
    t.ok(await reaches(b, MOVER), 'and where it has moved to');

    const flow = await SteadyPing.start(a, b.overlay.v4);
    await site.killStore();
    await healthBecomes(t, onA, /10\.88\.88\.69:8080 (?:cannot be reached|has ended|has not answered)/);
    t.equal((await ping(b, a.overlay.v4)).received, 3, 'known targets go on');
    await site.startStore();
    await healthBecomes(t, onA, 'ONLINE');
    await healthBecomes(t, onB, 'ONLINE');
    const [{ mapping }] = await onA.overlays('overlay0');
    if (mode === 'snapshot') t.match(mapping, { revision: /^\d+$/, entries: 3 });
    else t.equal(mapping, null, 'on demand there is no mapping as a whole');
    const { lost, duplicates } = await flow.stop();
    t.same({ lost, duplicates }, { lost: 0, duplicates: 0 }, 'a known flow has felt nothing of it');
  });
