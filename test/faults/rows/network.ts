// What becomes of the underlay and of the devices while varpd runs: gone, back, refusing, unreachable.
import { rmSync, writeFileSync } from 'node:fs';
import { constants } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { Daemon, directOverlay } from '../../helpers/daemon.js';
import { limitFiles } from '../../helpers/daemon-user.js';
import { addKernelVxlan, type Namespace } from '../../helpers/netns.js';
import { exec, succeeds, waitUntil } from '../../helpers/process.js';
import { ping } from '../../helpers/traffic.js';
import { SteadyPing } from '../../helpers/zlan.js';
import {
  answersNow,
  answersWithin,
  check,
  devicesOf,
  idleCpuSeconds,
  MISHAP,
  type Row,
  tunnel,
  untilHealth,
} from '../row.js';

const DOWN_MS = 10_000;
/** Traffic is back this long after the underlay is. */
const BACK_MS = 1000;

/** Nothing passes while it is away, nothing spins or grows, and it comes back by itself. */
async function goesAndComes(ms: number, tun: Awaited<ReturnType<typeof tunnel>>): Promise<string> {
  const { a, b, daemon } = tun;
  const address = `${a.underlay.v4}/24 dev under0`;
  const ways: readonly (readonly [what: string, go: string, come: string])[] = [
    ['link down', 'link set under0 down', 'link set under0 up'],
    ['address removed', `addr delete ${address}`, `addr add ${address}`],
    [
      'route lost',
      'route delete 10.88.88.0/24 dev under0',
      `route add 10.88.88.0/24 dev under0 src ${a.underlay.v4}`,
    ],
  ];
  const back: string[] = [];
  const before = daemon.residentKib();
  for (const [what, go, come] of ways) {
    await a.ip(go);
    const load = a.spawn(['ping', '-q', '-i', '0.002', b.overlay.v4]);
    const grown = await daemon.counted(() => sleep(ms));
    await load.stop('SIGINT');
    check((grown['tx_unreachable'] ?? 0) > 0, `${what}: drops are counted as tx_unreachable`);
    check((await idleCpuSeconds(daemon)) < 0.5, `${what}: nothing spins`);
    await a.ip(come);
    back.push(`${what} ${await answersWithin(a, b.overlay.v4, BACK_MS)} ms`);
  }
  const grownMib = Math.round((daemon.residentKib() - before) / 1024);
  check(grownMib < 50, `nothing piles up: ${grownMib} MiB more`);
  return `back after: ${back.join(', ')}`;
}

const underlayGone: Row = {
  name: 'F7',
  fault: 'underlay down 10 s and up; address removed and added; route lost and added',
  run: async (bed) => goesAndComes(DOWN_MS, await tunnel(bed)),
};

const devicesGone: Row = {
  name: 'F10',
  fault: 'TAP deleted, set down, renamed, moved to another namespace',
  async run(bed) {
    const { a, b, daemon } = await tunnel(bed);
    const inside = await bed.host();
    await daemon.ok('create-vnic -l overlay0 foo0');
    await daemon.ok('create-vnic -l overlay0 bar0');
    await a.ip('link delete foo0');
    await untilHealth(daemon, 'DEGRADED');
    check((await idleCpuSeconds(daemon)) < 0.5, 'deleted: nothing spins');
    await answersNow(a, b.overlay.v4);
    await daemon.ok('up-overlay overlay0');
    await untilHealth(daemon, 'ONLINE');

    await a.ip('link set overlay0 down');
    const grown = await daemon.counted(() => ping(b, a.overlay.v4, { count: 3, waitMs: 200 }));
    check((grown['port_down'] ?? 0) > 0, 'set down: frames are counted as port_down');
    await a.plumb('overlay0');
    await answersWithin(a, b.overlay.v4, 3000);

    await a.ip('link set bar0 down');
    await a.ip('link set bar0 name other9');
    await answersNow(a, b.overlay.v4);
    await daemon.ok('delete-vnic bar0');
    const left = (await devicesOf(a)).join();
    check(left === 'foo0,lo,overlay0,under0', `renamed: delete-vnic removes it all the same: ${left}`);

    await a.ip(`link set foo0 netns ${inside.name}`);
    await inside.plumb('foo0');
    await answersWithin(inside, b.overlay.v4, 3000);
    await exec(['ip', 'netns', 'delete', inside.name]);
    await untilHealth(daemon, 'DEGRADED');
    check((await idleCpuSeconds(daemon)) < 0.5, 'moved, and its namespace deleted: nothing spins');
    await daemon.ok('delete-vnic foo0');
    await untilHealth(daemon, 'ONLINE');
    await answersNow(a, b.overlay.v4);
    return 'reported, nothing spins, the others go on, up-overlay mends';
  },
};

const REFUSALS = [
  ['EAGAIN', 'tx_queue_full'],
  ['ENOBUFS', 'tx_queue_full'],
  ['ENOMEM', 'tx_queue_full'],
  ['EPERM', 'tx_firewall'],
] as const;

const refused: Row = {
  name: 'F11',
  fault: 'EAGAIN, ENOBUFS, ENOMEM, EPERM from send; EIO at a TAP; EMFILE at accept',
  quick: true,
  async run(bed) {
    const order = path.join(bed.directory(), 'order');
    const { a, b, daemon } = await tunnel(bed, { env: { LD_PRELOAD: MISHAP, MISHAP: order } });
    const seen: string[] = [];
    for (const [name, counter] of REFUSALS) {
      writeFileSync(order, `fail sendmmsg ${constants.errno[name]}`);
      const grown = await daemon.counted(() => ping(a, b.overlay.v4, { count: 5, waitMs: 200 }));
      rmSync(order);
      const counted = (grown[counter] ?? 0) + (grown['tx_error'] ?? 0);
      check(counted >= 5, `${name}: counted as ${counter}: ${JSON.stringify(grown)}`);
      await answersWithin(a, b.overlay.v4, 5000);
      seen.push(name);
    }
    writeFileSync(order, `fail writev ${constants.errno.EIO}`);
    const grown = await daemon.counted(() => ping(b, a.overlay.v4, { count: 5, waitMs: 200 }));
    rmSync(order);
    const counted = Object.entries(grown).filter(([name]) => name.startsWith('port_'));
    check(counted.length > 0, `EIO: counted for the port: ${JSON.stringify(grown)}`);
    await answersWithin(b, a.overlay.v4, 5000);

    const limit = daemon.descriptors;
    await limitFiles(daemon.pid, `${limit}:4096`);
    const asked = await daemon.call('daemon.status', {}).catch((error: unknown) => error);
    await answersNow(a, b.overlay.v4);
    check((await idleCpuSeconds(daemon)) < 0.5, 'EMFILE: nothing spins');
    await limitFiles(daemon.pid, '4096:4096');
    const answers = (): Promise<boolean> => succeeds(daemon.call('daemon.status', {}));
    await waitUntil(answers, { what: 'clients to be served again' });
    const how = asked instanceof Error ? 'refused' : 'served';
    return `${seen.join(', ')}, EIO: dropped and counted, back at once; EMFILE: a client is ${how}, traffic goes on`;
  },
};

/** a -- router -- b and c: two overlays from a, one to each. */
const unreachable: Row = {
  name: 'F12',
  fault: 'ICMP: port unreachable, host unreachable, admin prohibited, fragmentation needed',
  quick: true,
  async run(bed) {
    const [a, b, c, router] = [await bed.host(), await bed.host(), await bed.host(), await bed.host()];
    const hosts: readonly Namespace[] = [a, b, c];
    for (const [index, host] of hosts.entries()) {
      await exec(
        `ip link add name under0 netns ${host.name} type veth peer name to${index} netns ${router.name}`,
      );
      await host.ip(`addr add 10.${80 + index}.0.2/24 dev under0`);
      await router.ip(`addr add 10.${80 + index}.0.1/24 dev to${index}`);
      await host.ip('link set under0 up');
      await router.ip(`link set to${index} up`);
      await host.ip(`route add default via 10.${80 + index}.0.1`);
    }
    await router.sysctl('net.ipv4.ip_forward', 1);
    // ICMP errors are limited to one a second a destination otherwise.
    await router.sysctl('net.ipv4.icmp_ratemask', 0);
    await b.sysctl('net.ipv4.icmp_ratemask', 0);
    const daemon = await Daemon.start(bed, a);
    const peers = [
      { host: b, ip: '10.81.0.2', vnetid: 1, inner: '10.61.0' },
      { host: c, ip: '10.82.0.2', vnetid: 2, inner: '10.62.0' },
    ];
    for (const { host, ip, vnetid, inner } of peers) {
      await daemon.ok(directOverlay({ from: '10.80.0.2', to: ip, vnetid, name: `overlay${vnetid}` }));
      await addKernelVxlan(host, { vnetid, local: ip, remote: '10.80.0.2' });
      await host.ip(`addr add ${inner}.2/24 dev vx0`);
      await host.ip('link set vx0 up');
      await a.ip(`addr add ${inner}.1/24 dev overlay${vnetid}`);
      await a.ip(`link set overlay${vnetid} up`);
      check((await answersWithin(a, `${inner}.2`, 5000)) >= 0, 'both work');
    }
    const icmp = async (): Promise<number> =>
      Number(/IcmpInDestUnreachs\s+(\d+)/.exec(await a.exec('nstat -az IcmpInDestUnreachs'))?.[1] ?? 0);
    const faults: readonly (readonly [string, () => Promise<unknown>, () => Promise<unknown>])[] = [
      ['port unreachable', () => b.ip('link set vx0 down'), () => b.ip('link set vx0 up')],
      [
        'host unreachable',
        () => router.ip('route add unreachable 10.81.0.2'),
        () => router.ip('route delete unreachable 10.81.0.2'),
      ],
      [
        'admin prohibited',
        () => router.ip('route add prohibit 10.81.0.2'),
        () => router.ip('route delete prohibit 10.81.0.2'),
      ],
      [
        'fragmentation needed',
        () => router.ip('link set to1 mtu 1300'),
        () => router.ip('link set to1 mtu 1500'),
      ],
    ];
    const heard: string[] = [];
    for (const [what, go, come] of faults) {
      const before = await icmp();
      await go();
      const flow = await SteadyPing.start(a, '10.62.0.2');
      await ping(a, '10.61.0.2', { count: 20, intervalMs: 20, packetBytes: 1400, waitMs: 200 });
      await waitUntil(() => flow.reached >= 20, { what: 'replies of the other peer' });
      const { sent, lost } = await flow.stop();
      check(lost === 0, `${what}: the other peer loses nothing: ${lost} of ${sent}`);
      const count = (await icmp()) - before;
      check(count > 0, `${what}: the kernel was told by ICMP`);
      heard.push(`${what} ${count}`);
      await come();
      await a.ip('neigh flush dev overlay1');
      await answersWithin(a, '10.61.0.2', 5000);
    }
    return `no crash, the other peer lost 0; ICMP heard: ${heard.join(', ')}`;
  },
};

export const networkRows: readonly Row[] = [underlayGone, devicesGone, refused, unreachable];
