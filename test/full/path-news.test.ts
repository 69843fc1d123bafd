// ICMP that says how large packets may be, from routers and from who pretends to be one, with the kernel between:
// `unit/path-mtu.test.ts` has who is believed. `path-width.test.ts` has paths that really are narrow.
import t, { type Test } from 'tap';

import { Daemon, directOverlay } from '../helpers/daemon.js';
import { encapsulated, filler, udpFrame } from '../helpers/frames.js';
import { skipUnlessNetns } from '../helpers/need.js';
import { addKernelVxlan, Bed, type Namespace, UNDERLAY_DEVICE } from '../helpers/netns.js';
import { waitUntil } from '../helpers/process.js';
import { icmpError } from '../helpers/too-big.js';
import { ping, reaches, sendFrames } from '../helpers/traffic.js';
import { usual } from '../helpers/whole.js';
import { SteadyPing } from '../helpers/zlan.js';

const skip = skipUnlessNetns();
const VNETID = 42;
const OVERHEAD = { v4: 50, v6: 70 } as const;
/** Addresses that are no peers', in the network of the underlay. */
const STRANGER = { v4: '10.88.88.99', v6: 'fd88::99' } as const;
const FAMILIES = ['v4', 'v6'] as const;
type Family = (typeof FAMILIES)[number];
const BURST_FRAMES = 500;
/** RFC 6335 6. */
const PORTS = { least: 49152, count: 16384 } as const;

/** An inner packet that is larger than what is announced, as far as a router quotes it. */
const LARGE = encapsulated(VNETID, udpFrame({ payload: filler(1380) })).subarray(0, 500);

// Flows begin at b: `ping` hears every ICMP message of its namespace, and has room for few.

interface Site {
  readonly a: Namespace;
  readonly b: Namespace;
  readonly daemon: Daemon;
  readonly family: Family;
  /** Messages to a, about packets of these ports. */
  readonly forge: (ports: readonly number[], mtuBytes?: number, quoted?: Uint8Array) => Promise<void>;
  /** That varpd sends from. */
  readonly ports: () => Promise<number[]>;
  readonly passes: (packetBytes: number, count?: number) => Promise<number>;
  readonly create: () => Promise<void>;
}

/** varpd on a, the kernel on b. */
async function site(t: Test, family: Family, more = ''): Promise<Site> {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const [a, b] = await bed.twoHosts();
  // Flows are not steered to queues without root.
  const withoutRoot = !more.includes('queues');
  const daemon = (await Daemon.start(bed, a, { withoutRoot })).explain(t);
  const [from, to] = [a.underlay[family], b.underlay[family]];
  await addKernelVxlan(b, { vnetid: VNETID, local: to, remote: from });
  await b.plumb('vx0');
  const destinationMac = await a.macOf(UNDERLAY_DEVICE);
  const router = STRANGER[family];
  const create = async (): Promise<void> => {
    await daemon.ok(directOverlay({ from, to, vnetid: VNETID }, more));
    await a.plumb('overlay0');
    t.ok(await reaches(a, b.overlay.v4), `IP${family} ${more}: the tunnel is up`);
  };
  await create();
  return {
    a,
    b,
    daemon,
    family,
    forge: async (ports, mtuBytes, quoted) => {
      const error = {
        destinationMac,
        router,
        from,
        to,
        ...(mtuBytes !== undefined && { mtuBytes }),
        ...(quoted && { quoted }),
      };
      const frames = ports.map((sourcePort) => icmpError({ ...error, sourcePort }));
      // No more at once than the kernel queues (net.core.netdev_max_backlog).
      for (let first = 0; first < frames.length; first += BURST_FRAMES) {
        const { code, stderr } = await sendFrames(
          b,
          UNDERLAY_DEVICE,
          frames.slice(first, first + BURST_FRAMES),
        );
        t.equal(code, 0, stderr);
      }
    },
    ports: async () => {
      const text = await a.exec('ss -Hunl');
      return [...text.matchAll(/:(\d+)\s/g)].map((match) => Number(match[1])).filter((port) => port >= 4789);
    },
    passes: async (packetBytes, count = 5) => (await ping(a, b.overlay.v4, { packetBytes, count })).received,
    create,
  };
}

const counters = async (daemon: Daemon): Promise<Record<string, number>> =>
  (await daemon.overlays())[0].counters;

const counted = (daemon: Daemon, name: string, count: number): Promise<void> =>
  waitUntil(async () => (await counters(daemon))[name] >= count, { what: `${name} to be ${count}` });

// Each has hosts of its own, and waits for them most of the time.
t.jobs = 2;

for (const family of FAMILIES) {
  for (const sourcePorts of usual([16, 1], (count) => (count === 1) === (family === 'v6'))) {
    const name = `16,384 messages from a stranger that say 68 bytes: IP${family}, ${sourcePorts} source ports`;
    t.test(name, { skip }, async (t) => {
      const { a, b, daemon, forge, passes } = await site(t, family, `-p vxlan/source_ports=${sourcePorts}`);
      const large = 1500 - OVERHEAD[family];
      const flow = await SteadyPing.start(b, a.overlay.v4);
      const all = Array.from({ length: PORTS.count }, (_, index) => PORTS.least + index);
      await forge(sourcePorts === 1 ? Array<number>(50).fill(4789) : all, 68);
      const expected = sourcePorts === 1 ? 50 : sourcePorts;
      await counted(daemon, 'path_mtu_refused', expected);
      if (family === 'v4') {
        const route = await a.ip(`route get ${b.underlay.v4}`);
        t.match(route, /mtu lock 552|mtu 552/, 'the kernel believes it');
      }
      t.equal(await passes(600), 5, 'and no packet of 600 bytes is lost');
      t.equal(await passes(large), 5, 'nor a larger one');
      const { sent, lost } = await flow.stop();
      t.ok(sent > 0);
      t.equal(lost, 0, 'nor one that was under way meanwhile');
      const { path_mtu_refused, path_mtu_learned, path_mtu_too_small, ...rest } = await counters(daemon);
      t.same([path_mtu_refused, path_mtu_learned, path_mtu_too_small], [expected, 0, 0], 'each is counted');
      const lostHere = Object.entries(rest).filter(
        ([key, count]) => count > 0 && /^tx_(path|queue|err|unr)/.test(key),
      );
      t.same(lostHere, [], 'nothing was lost');
      const [{ health }] = await daemon.overlays();
      t.equal(health.status, 'ONLINE');
      // What the kernel believes is not asked for either.
      await daemon.ok('delete-overlay overlay0');
      await daemon.ok(directOverlay({ from: a.underlay[family], to: b.underlay[family], vnetid: VNETID }));
      t.equal(await a.mtuOf('overlay0'), large, 'an overlay that comes later has the MTU of the route');
    });
  }
}

const LEAST = { v4: 626, v6: 1280 } as const;

for (const family of FAMILIES) {
  const all = ['', '-p vxlan/source_ports=1', '-p vxlan/source_ports=1 -p queues=2'];
  for (const more of usual(all, (more) => (more === all[1]) === (family === 'v4'))) {
    const name = `a message that quotes what was sent is believed, down to what an overlay needs: IP${family} ${more}`;
    t.test(name, { skip }, async (t) => {
      const { a, b, daemon, forge, passes, ports } = await site(t, family, more);
      const large = 1500 - OVERHEAD[family];
      // A socket for each source port, or for each queue: the same port then.
      const from = [...new Set(await ports())].filter((port) => more !== '' || port !== 4789);
      // Of so many at once, not each is looked at; and with two queues, the thread that hears it has to have sent to
      // that peer: each ping is another flow.
      const isHeard = async (): Promise<boolean> => {
        if (more.includes('queues')) await passes(100, 1);
        await forge(from, LEAST[family] - 1, LARGE);
        const { path_mtu_too_small, path_mtu_refused } = await counters(daemon);
        return path_mtu_too_small > 0 && path_mtu_too_small + path_mtu_refused >= from.length;
      };
      await waitUntil(isHeard, { what: 'all of them to be counted' });
      t.equal(await passes(large), 5, 'below that it is not obeyed');
      const [{ health }] = await daemon.overlays();
      t.equal(health.status, 'DEGRADED');
      t.equal(
        health.details,
        `ICMP says that the path to ${b.underlay[family]} carries ${LEAST[family] - 1} bytes a packet; an overlay needs ` +
          `${LEAST[family]}, so varpd ignores it (path_mtu_too_small): the path is too narrow, or the message is forged`,
      );
      t.match(daemon.log(), /degraded: ICMP says that the path to/);

      await forge(from, 1400, LARGE);
      await counted(daemon, 'path_mtu_learned', 1);
      const { received, text } = await ping(a, b.overlay.v4, { packetBytes: large, count: 2, waitMs: 200 });
      t.equal(received, 0, '1400 bytes are believed');
      t.match(
        text,
        new RegExp(`mtu[ =]+${1400 - OVERHEAD[family]}`),
        'and the sender of a larger packet is told',
      );
      t.equal(await passes(1400 - OVERHEAD[family]), 5, 'what fits passes');
      t.match(daemon.log(), /the path to .* carries packets of 1400 bytes, says ICMP/);
      const { path_mtu_learned, tx_path_mtu } = await counters(daemon);
      t.ok(path_mtu_learned <= (more.includes('queues=2') ? 2 : 1), 'once in each thread');
      t.ok(tx_path_mtu >= 1);

      // Learned again by whoever comes next, out of sockets that were handed on.
      await daemon.ok('restart');
      for (const version of ['-4', '-6']) await a.ip(`${version} route flush cache`);
      t.equal(await passes(large), 5, 'a restart forgets it');
      await forge(more === '' ? [...new Set(await ports())] : from, 1400, LARGE);
      await counted(daemon, 'path_mtu_learned', 1);
      t.pass('and hears it again');
    });
  }
}

for (const family of FAMILIES) {
  for (const more of usual(['', '-p vxlan/source_ports=1'], (more) => (more === '') === (family === 'v6'))) {
    t.test(`what ICMP says of ports and hosts disturbs nothing: IP${family} ${more}`, { skip }, async (t) => {
      const { a, b, daemon, forge, ports } = await site(t, family, more);
      const flow = await SteadyPing.start(b, a.overlay.v4);
      const from = [...new Set(await ports())];
      // As many pings as there are rounds, on the fastest host too.
      for (let round = 0; round < 20 || flow.reached < 20; round++)
        await forge(Array(10).fill(from).flat() as number[]);
      const { lost } = await flow.stop();
      t.equal(lost, 0, 'no frame is lost to an error about another');
      const found = await counters(daemon);
      const troubles = Object.entries(found).filter(
        ([key, count]) => count > 0 && /^(tx_(path|queue|err|unr)|path_mtu|tx_segm)/.test(key),
      );
      t.same(troubles, [], 'and nothing is counted');
      t.equal((await daemon.overlays())[0].health.status, 'ONLINE');
    });
  }
}

for (const family of FAMILIES) {
  t.test(`a route that was told to carry less is held to that: IP${family}`, { skip }, async (t) => {
    const large = 1500 - OVERHEAD[family];
    // Given, since what is not follows the route when varpd starts.
    const { a, b, daemon, passes } = await site(t, family, `-p mtu=${large}`);
    t.equal(await passes(large), 5);
    const version = family === 'v4' ? '-4' : '-6';
    const length = family === 'v4' ? 32 : 128;
    const route = `${b.underlay[family]}/${length} dev ${UNDERLAY_DEVICE}`;
    await a.ip(`${version} route add ${route} mtu 1400`);
    const isTold = async (): Promise<boolean> =>
      new RegExp(`mtu[ =]+${1400 - OVERHEAD[family]}`).test(
        (await ping(a, b.overlay.v4, { packetBytes: large, count: 2, waitMs: 100 })).text,
      );
    await waitUntil(isTold, { what: 'the guest to be told' });
    t.equal(await passes(1400 - OVERHEAD[family]), 5, 'what fits passes');
    t.ok((await counters(daemon))['tx_path_mtu'] >= 1);
    await daemon.ok('restart');
    for (const version of ['-4', '-6']) await a.ip(`${version} route flush cache`);
    await waitUntil(isTold, { what: 'the guest to be told after a restart' });
    await a.ip(`${version} route del ${route}`);
    const passesAgain = async (): Promise<boolean> => {
      // The guest remembers what it was told before varpd heard of it.
      await a.ip('-4 route flush cache');
      return (await passes(large, 1)) === 1;
    };
    await waitUntil(passesAgain, { what: 'the larger packet to pass again' });
    t.pass('and when the route goes, so does that');
  });
}
