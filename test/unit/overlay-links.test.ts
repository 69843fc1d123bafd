// What an overlay makes of the news of the link watch.

import t from 'tap';

import { Health } from '../../src/daemon/health.js';
import { OverlayLinks } from '../../src/daemon/overlays/overlay-links.js';
import { type MacAddress, readMac } from '../../src/wire/mac.js';
import { FakeDatapath, type FakeOverlay, fakeOverlay, type FakePort } from '../helpers/fake-datapath.js';
import { FakeKernel } from '../helpers/fake-kernel.js';
import { waitUntil } from '../helpers/process.js';
import { LISTEN, TWO, THREE, UNDER, OVERLAY, newLog, newWatch } from '../helpers/link-watch.js';

// Each has a kernel of its own, and waits for it most of the time.
t.jobs = 4;

const SITE = { overlay: OVERLAY, listenIp: LISTEN, overheadBytes: 0 };

/** One whose device is as the kernel has it. */
function tapOf(kernel: FakeKernel, overlay: FakeOverlay, name: string): FakePort {
  const port = overlay.addPort({ name, mac: 0, temporary: false, vid: 0, mtuBytes: 1500, own: false });
  port.device = () => {
    const link = kernel.link(name);
    return link && { name, mac: readMac(link.mac, 0), isHere: true };
  };
  return port;
}

t.test('what an overlay makes of it', async (t) => {
  for (const mode of ['up', 'follow'] as const) {
    const { kernel, watch, log } = newWatch(t);
    const datapath = new FakeDatapath();
    const health = new Health('overlay0', log);
    const silent = {
      isSilent: () => false,
      allowAutomaticAddress: () => undefined,
      takesTunnels: () => false,
    };
    const around = { watch, datapath, links: silent, health, log, macChanged: () => undefined };
    const links = new OverlayLinks(SITE, around);
    const overlay = fakeOverlay(datapath);
    const { changes } = datapath;
    /** Of its ports, and how often it was told. */
    const carrier = () => [overlay.carrier, datapath.changes - changes];
    links.start(overlay, mode, TWO);
    const becomes = (details: string | null): Promise<void> =>
      waitUntil(() => health.report().details === details, { what: details ?? 'ONLINE' });
    links.peersChanged([THREE], []);
    await becomes('no route to 10.0.0.3: 1 of 2 destinations cannot be reached');
    t.match(links.info, { state: 'partly', losses: 1 });
    t.same(carrier(), [true, 0], 'ports serve for the others');
    kernel.setLink(UNDER, 'under0', { carrier: false });
    kernel.tell({ about: 'link', index: UNDER, name: 'under0', kind: 'tun' });
    await waitUntil(() => links.info.state === 'down', { what: 'down' });
    t.equal(links.info.losses, 1, 'it was not up in between');
    t.same(carrier(), mode === 'follow' ? [false, 1] : [true, 0]);
    kernel.setLink(UNDER, 'under0');
    kernel.tell({ about: 'link', index: UNDER, name: 'under0', kind: 'tun' });
    links.peersChanged([], [THREE]);
    await becomes(null);
    t.match(links.info, { state: 'up', losses: 1 });
    t.same(carrier(), [true, mode === 'follow' ? 2 : 0]);
    links.stop();
  }
});

t.test('what others have set on a port', async (t) => {
  const { kernel, watch, log } = newWatch(t);
  const datapath = new FakeDatapath();
  const overlay = fakeOverlay(datapath);
  const health = new Health(OVERLAY, log);
  const silent = { isSilent: () => false, allowAutomaticAddress: () => undefined, takesTunnels: () => false };
  const macChanged = (): void => undefined;
  const links = new OverlayLinks(SITE, { watch, datapath, links: silent, health, log, macChanged });
  t.teardown(() => {
    links.stop();
  });
  links.start(overlay, 'follow', TWO);
  const becomes = (details: string | null): Promise<void> =>
    waitUntil(() => health.report().details === details, { what: details ?? 'ONLINE' });
  const change = (...shape: Parameters<FakeKernel['setLink']>): void => {
    kernel.setLink(...shape);
    kernel.tell({ about: 'link', index: shape[0], name: shape[1], kind: 'tun' });
  };
  kernel.setLink(20, 'foo0');
  const foo = tapOf(kernel, overlay, 'foo0');
  links.followPort(foo, { name: 'foo0', configured: 20, mtuBytes: 1500, tagBytes: 0, isPinned: () => false });
  t.equal(health.report().details, null);
  foo.troubles = ['has a queue of another program', 'is odd'];
  await becomes('port foo0: its interface has a queue of another program, and is odd');
  foo.troubles = [];
  await becomes(null);
  foo.mended = ['the virtio-net header was 12 bytes'];
  const line = 'overlay0: port foo0: the virtio-net header was 12 bytes, changed by another program: reset';
  await waitUntil(() => log.lines.includes(line), { what: 'the log' });
  t.equal(health.report().details, null, 'what is right again is no trouble');

  change(20, 'foo0', { carrier: false });
  await becomes(
    'port foo0: its interface has no carrier: another program switched it off (switch it on: ip link set foo0 carrier on)',
  );
  change(20, 'foo0', { carrier: false, up: false });
  await becomes('port foo0: its interface was set down');
  t.ok(foo.isDown, 'nobody is behind it');
  change(20, 'foo0');
  await becomes(null);
  t.notOk(foo.isDown);
  // Of what varpd itself does to it, the kernel tells later.
  change(UNDER, 'under0', { carrier: false });
  await waitUntil(() => !links.carrier, { what: 'its underlay to be down' });
  t.notMatch(health.report().details, /port foo0/);
  kernel.setLink(20, 'foo0', { carrier: false });
  kernel.tell({ about: 'link', index: 20, name: 'foo0', kind: 'tun' });
  change(UNDER, 'under0');
  await becomes(null);
  change(20, 'foo0');
  change(UNDER, 'under0', { carrier: false });
  await waitUntil(() => !links.carrier, { what: 'its underlay to be down' });
  change(20, 'foo0', { mtuBytes: 1400 });
  await waitUntil(
    () => health.report().details?.includes('has a carrier, which another program switched on') ?? false,
    {
      what: 'a carrier that is not to be',
    },
  );
  datapath.features = {};
  change(20, 'foo0', { mtuBytes: 1401 });
  await waitUntil(() => !(health.report().details?.includes('port foo0') ?? false), {
    what: 'no word of a carrier that this kernel cannot set',
  });
});

t.test('what an overlay makes of its ports', async (t) => {
  const { kernel, watch, log } = newWatch(t);
  const datapath = new FakeDatapath();
  const overlay = fakeOverlay(datapath);
  const health = new Health(OVERLAY, log);
  const followed: string[] = [];
  const macChanged = (port: string, mac: MacAddress): void => {
    followed.push(`${port} ${mac.toString(16)}`);
  };
  const silent = { isSilent: () => false, allowAutomaticAddress: () => undefined, takesTunnels: () => false };
  const links = new OverlayLinks(SITE, { watch, datapath, links: silent, health, log, macChanged });
  t.teardown(() => {
    links.stop();
  });
  links.start(overlay, 'up', undefined);
  const pinned = new Set<string>();
  const isPinned = (name: string) => () => pinned.has(name);
  const becomes = (details: string | null): Promise<void> =>
    waitUntil(() => health.report().details === details, { what: details ?? 'ONLINE' });
  const change = (...shape: Parameters<FakeKernel['setLink']>): void => {
    kernel.setLink(...shape);
    kernel.tell({ about: 'link', index: shape[0], name: shape[1], kind: 'tun' });
  };
  // As after a restart: it was down before anybody asked.
  kernel.setLink(20, 'foo0', { up: false, mac: 0xa0 });
  links.followPort(tapOf(kernel, overlay, 'foo0'), {
    name: 'foo0',
    configured: 0xa0,
    mtuBytes: 1500,
    tagBytes: 0,
    isPinned: isPinned('foo0'),
  });
  t.equal(links.portTrouble('foo0'), 'down', 'what is so from the beginning');
  t.equal(health.report().details, 'port foo0: its interface was set down');
  kernel.setLink(21, 'bar0', { mac: 0xee, mtuBytes: 1400 });
  links.followPort(tapOf(kernel, overlay, 'bar0'), {
    name: 'bar0',
    configured: 0xb0,
    mtuBytes: 1500,
    tagBytes: 0,
    isPinned: isPinned('bar0'),
  });
  t.same(followed, ['bar0 ee'], 'a MAC that differs from the beginning');
  t.same([links.macOf('bar0'), links.mtuBytesOf('bar0')], [0xee, 1400], 'an MTU as well');

  change(20, 'foo0', { mac: 0xa0 });
  await becomes(null);
  t.equal(links.portTrouble('foo0'), undefined);
  change(20, 'foo0', { mac: 0xa0, mtuBytes: 9000 });
  await becomes('port foo0: its interface has an MTU of 9000: packets above 1500 will be dropped');
  t.equal(links.portTrouble('foo0'), undefined, 'which is no reason not to be up');
  change(20, 'foo0', { mac: 0xa0, mtuBytes: 1300 });
  await becomes(null);
  t.equal(links.mtuBytesOf('foo0'), 1300, 'a smaller one is shown');
  change(20, 'foo0', { mac: 0xee });
  await becomes('port foo0: its interface has the MAC 00:00:00:00:00:ee, which is that of port bar0');
  t.equal(links.portTrouble('foo0'), 'has the MAC 00:00:00:00:00:ee');
  pinned.add('foo0');
  links.protectionChanged('foo0');
  await becomes(
    'port foo0: its interface has the MAC 00:00:00:00:00:ee, and link protection keeps it to 00:00:00:00:00:a0',
  );
  change(20, 'foo0', { mac: 0xee, up: false });
  await becomes(
    'port foo0: its interface was set down, and has the MAC 00:00:00:00:00:ee, and link protection keeps it to ' +
      '00:00:00:00:00:a0',
  );
  pinned.clear();
  links.forgetPort('bar0');
  await becomes('port foo0: its interface was set down');
  t.same(followed, ['bar0 ee', 'foo0 ee'], 'once no port has it');
  links.forgetPort('foo0');
  await becomes(null);

  const destination = links.peersChanged.bind(links);
  kernel.routes.set(THREE, 22);
  kernel.setLink(22, 'baz0');
  const baz = tapOf(kernel, overlay, 'baz0');
  const { changes } = datapath;
  const loops = () => [overlay.loops, datapath.changes - changes];
  links.followPort(baz, { name: 'baz0', configured: 22, mtuBytes: 1500, tagBytes: 0, isPinned: () => false });
  destination([THREE], []);
  await becomes('the route to 10.0.0.3 leads into baz0, a port of this overlay');
  t.same(loops(), [[THREE], 1], 'the datapath is told, once');
  t.ok(links.carrier, 'and the port keeps its carrier, which the route would go with');
  kernel.routes.set(THREE, UNDER);
  kernel.tell({ about: 'route' });
  await becomes(null);
  t.same(loops(), [[], 2], 'and that it is over');
});

t.test('the most important trouble is said first', (t) => {
  const health = new Health('overlay0', newLog());
  health.degrade('interface foo0', 'port foo0: its interface was set down');
  health.degrade('lookup', 'plugin files: no answer');
  health.degrade('port bar0', 'port bar0: the device was removed');
  health.degrade('plugin', 'no mapping');
  health.degrade('underlay', 'link under0 is down');
  t.equal(
    health.report().details,
    'link under0 is down; no mapping; plugin files: no answer; port bar0: the device was removed; ' +
      'port foo0: its interface was set down',
  );
  health.restore('underlay');
  t.match(health.report().details, /^no mapping; .*; port bar0/, 'the others are still said');
  for (let index = 0; index < 100; index++)
    health.degrade(`port p${index}`, `port p${index}: the device was removed`);
  health.degrade('underlay', 'x'.repeat(256));
  const details = health.report().details ?? '';
  t.match(details, /^x{256}; no mapping; .*; and \d+ more \(see the log\)$/);
  t.ok(details.length < 600, 'as far as there is room');
  t.end();
});

t.test('an underlay that carries less than the ports', async (t) => {
  const { kernel, watch, log } = newWatch(t);
  const datapath = new FakeDatapath();
  const overlay = fakeOverlay(datapath);
  const health = new Health(OVERLAY, log);
  const silent = { isSilent: () => false, allowAutomaticAddress: () => undefined, takesTunnels: () => false };
  const around = { watch, datapath, links: silent, health, log, macChanged: () => undefined };
  const links = new OverlayLinks({ ...SITE, overheadBytes: 50 }, around);
  t.teardown(() => {
    links.stop();
  });
  links.start(overlay, 'up', TWO);
  const becomes = (details: string | null): Promise<void> =>
    waitUntil(() => health.report().details === details, { what: details ?? 'no note' });
  const change = (...shape: Parameters<FakeKernel['setLink']>): void => {
    kernel.setLink(...shape);
    kernel.tell({ about: 'link', index: shape[0], name: shape[1], kind: 'tun' });
  };
  const follow = (index: number, name: string, tagBytes: number): void => {
    kernel.setLink(index, name, { mtuBytes: 1450 - tagBytes });
    const shape = { name, configured: index, mtuBytes: 1450 - tagBytes, tagBytes, isPinned: () => false };
    links.followPort(tapOf(kernel, overlay, name), shape);
  };
  follow(20, 'foo0', 0);
  follow(21, 'bar0', 4);
  t.equal(health.report().details, null, 'they fit');
  change(UNDER, 'under0', { mtuBytes: 1400 });
  await becomes(
    'the MTU of under0 is 1400, and full packets of foo0 and 1 more (MTU 1450) need 1500: larger ones are dropped; ' +
      'set the MTU of under0 to 1500, or that of foo0 to 1350',
  );
  t.match(health.report(), { status: 'ONLINE', notes: /^the MTU of under0/ });
  change(20, 'foo0', { mtuBytes: 1350 });
  await becomes(
    'the MTU of under0 is 1400, and full packets of bar0 (MTU 1446) need 1500: larger ones are dropped; ' +
      'set the MTU of under0 to 1500, or that of bar0 to 1346',
  );
  links.forgetPort('bar0');
  t.equal(health.report().details, null, 'the port is gone');
  kernel.routeMtus.set(TWO, 1300);
  kernel.tell({ about: 'route' });
  await becomes(
    'the route to 10.0.0.2 carries packets of 1300 bytes, and full packets of foo0 (MTU 1350) need 1400: ' +
      'larger ones are dropped; set that of the route to 1400, or that of foo0 to 1250',
  );
  kernel.routeMtus.delete(TWO);
  kernel.tell({ about: 'route' });
  await becomes(null);
  t.match(
    log.lines,
    [
      /foo0 and 1 more/,
      /bar0 \(/,
      /^overlay0: no longer so: .*bar0/,
      /1300/,
      /^overlay0: no longer so: .*1300/,
    ],
    'a line as each begins, changes or ends',
  );
});

t.test('links that take tunnel frames', async (t) => {
  const { kernel, watch, log } = newWatch(t);
  const datapath = new FakeDatapath();
  const overlay = fakeOverlay(datapath);
  const health = new Health(OVERLAY, log);
  const asked: string[] = [];
  let takes = false;
  const takesTunnels = (name: string, checksum: string): boolean => {
    asked.push(`${name} ${checksum}`);
    return takes;
  };
  const hostLinks = { isSilent: () => false, allowAutomaticAddress: () => undefined, takesTunnels };
  const macChanged = (): void => undefined;
  const links = new OverlayLinks(SITE, { watch, datapath, links: hostLinks, health, log, macChanged });
  t.teardown(() => {
    links.stop();
  });
  links.start(overlay, 'up', TWO);
  t.same(asked, [], 'nothing is asked for an overlay without the offload');
  overlay.config = { ...overlay.config, offload: ['checksum', 'tso', 'tunnel'] };
  links.change(LISTEN, 'up');
  t.same(asked.splice(0), ['under0 full']);
  t.same(overlay.routes, []);
  const features = async (isOn: boolean, index: number | undefined): Promise<void> => {
    takes = isOn;
    kernel.tell({ about: 'link', index: UNDER, name: 'under0', kind: '' });
    const indexOf = (): number | undefined => overlay.routes[0]?.tunnelLink?.index;
    await waitUntil(() => indexOf() === index, { what: `the link to be ${index}` });
  };
  await features(true, UNDER);
  t.match(overlay.routes, [{ to: TWO, tunnelLink: { index: UNDER, mtuBytes: 1500 } }]);
  kernel.setLink(UNDER, 'under0', { carrier: false });
  await features(true, undefined);
  kernel.setLink(UNDER, 'under0');
  await features(true, UNDER);
  await features(false, undefined);
  overlay.config = { ...overlay.config, offload: [] };
  links.change(LISTEN, 'up');
  t.same(overlay.routes, []);
});
