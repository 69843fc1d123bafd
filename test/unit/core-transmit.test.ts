// Frames from ports: between local ports, tags and access ports, loops, devices that fail.
import t from 'tap';
import { endpoint, frame, hex, Lab, MAC, type Tag } from '../helpers/lab.js';
import { facing, inner, remote, same } from '../helpers/scenes.js';

const EBADFD = 77;

await t.test('frames between local ports do not leave the host', (t) => {
  const { lab, net, port, peer } = facing();
  const other = net.port(MAC.c);
  port.send(frame(MAC.c, MAC.a));
  same(t, other.take(), [frame(MAC.c, MAC.a)], 'switched by destination MAC');
  other.send(frame(MAC.a, MAC.c));
  t.equal(port.take().length, 1);
  t.strictSame([lab.datagrams, net.drops], [[], {}]);
  t.match(net.counters, { local_frames: 2, tx_frames: 0, rx_frames: 0 });
  other.send(frame(MAC.all, MAC.c), frame(MAC.group, MAC.c));
  t.strictSame(
    [port.take().length, inner(peer).length, other.take()],
    [2, 2, []],
    'groups: all ports and the tunnel',
  );
  t.match(net.counters, { local_frames: 4, tx_frames: 2 });
  t.match(port.counters, { rx_frames: 3, rx_bytes: 180, tx_frames: 1 });

  const elsewhere = lab.vtep('192.0.2.3').overlay({ destination: peer.local });
  elsewhere.port(MAC.d).send(frame(MAC.all, MAC.d));
  t.strictSame([port.take(), inner(peer).length], [[], 1], 'another overlay is another network');
  t.end();
});

await t.test('the own port takes unicast that nobody claims; others do not', (t) => {
  const { net, port, inject } = facing();
  const vnic = net.port(MAC.c);
  inject(frame(MAC.d, MAC.b));
  t.strictSame([port.take().length, vnic.take().length], [1, 0]);
  inject(frame(MAC.c, MAC.b));
  t.strictSame([port.take().length, vnic.take().length], [0, 1]);
  port.remove();
  inject(frame(MAC.d, MAC.b));
  t.strictSame([vnic.take().length, net.drops], [0, { rx_no_port: 1 }]);
  inject(frame(MAC.all, MAC.b));
  t.equal(vnic.take().length, 1);
  vnic.remove();
  inject(frame(MAC.all, MAC.b));
  t.strictSame(net.drops, { rx_no_port: 2 });
  t.end();
});

await t.test('a port whose MAC is changed', (t) => {
  const { net, port, peer, inject } = facing();
  const [local, other] = [net.port(MAC.c), net.port(MAC.d)];
  const moved = frame(MAC.e, MAC.a);
  local.setMac(MAC.e);
  port.send(moved, frame(MAC.c, MAC.a));
  same(t, local.take(), [moved], 'has what is for its new one');
  same(t, inner(peer), [frame(MAC.c, MAC.a)], 'and no longer what is for the old one, nor does the host');
  inject(frame(MAC.e, MAC.b));
  same(t, local.take(), [frame(MAC.e, MAC.b)], 'from the tunnel too');
  local.send(frame(MAC.a, MAC.e));
  same(t, port.take(), [frame(MAC.a, MAC.e)], 'it has sent');
  inject(frame(MAC.a, MAC.e));
  t.strictSame(net.drops, { rx_bad_source: 1 }, 'what comes from it elsewhere is a loop');
  inject(frame(MAC.a, MAC.c));
  same(t, port.take(), [frame(MAC.a, MAC.c)], 'and what comes from the old one is not');
  const announcement = frame(MAC.all, MAC.e);
  net.vtep.obey({ kind: 'announce', overlay: net.id, frame: announcement });
  same(t, other.take(), [announcement], 'what is announced of it');
  same(t, local.take(), [], 'is not for itself');
  same(t, port.take(), [announcement], 'but for all others');
  local.setMac(MAC.c);
  port.send(moved, frame(MAC.c, MAC.a));
  same(t, local.take(), [frame(MAC.c, MAC.a)], 'back as it was');
  const rules = { types: ['mac-nospoof'] as const, addresses: [], clientIds: [] };
  local.setMac(MAC.e, rules);
  local.send(frame(MAC.a, MAC.e), frame(MAC.a, MAC.c));
  same(t, port.take(), [frame(MAC.a, MAC.e)], 'its rules are judged by the new one');
  net.vtep.obey({ kind: 'set-mac', token: 9999, mac: MAC.e, protection: undefined });
  port.setMac(MAC.b);
  inject(frame(MAC.d + 1, MAC.d + 2));
  same(
    t,
    port.take(),
    [frame(MAC.d + 1, MAC.d + 2)],
    'the own port has what nobody claims, whatever its MAC',
  );
  t.end();
});

await t.test('destinations that lead back into the overlay', (t) => {
  const lab = new Lab();
  const vtep = lab.vtep('192.0.2.1');
  const net = vtep.overlay();
  const port = net.port(MAC.a);
  const [good, bad] = [lab.peer('192.0.2.2'), lab.peer('192.0.2.3')];
  const [toGood, toBad] = [frame(MAC.b, MAC.a), frame(MAC.c, MAC.a)];
  net.setTarget(MAC.b, [good.local]);
  net.setTarget(MAC.c, [bad.local]);
  net.setLoops(bad.local.ip);
  port.send(toGood, toBad);
  same(t, inner(good), [toGood], 'the others are sent to');
  same(t, inner(bad), [], 'they are not');
  t.strictSame(net.drops, { tx_loop: 1 });
  t.equal(net.counters.tx_frames, 1, 'what is dropped was not sent');

  // The slot of one that is forgotten is another's, and one that is new is known as well.
  net.deleteTarget(MAC.c);
  net.setTarget(MAC.c, [good.local]);
  for (let index = 0; index < 200; index++) net.setTarget(remote(index), [endpoint(`198.51.100.${index}`)]);
  net.setTarget(MAC.d, [bad.local]);
  net.setTarget(MAC.e, [good.local, bad.local]);
  port.send(toBad, frame(MAC.d, MAC.a), frame(MAC.e, MAC.a));
  same(t, inner(good), [toBad, frame(MAC.e, MAC.a)], 'also of a flood');
  t.strictSame(net.drops, { tx_loop: 3 });
  const twin = vtep.overlay({ vnetid: 101 });
  twin.setTarget(MAC.d, [bad.local]);
  twin.port(MAC.a).send(frame(MAC.d, MAC.a));
  same(t, inner(bad), [frame(MAC.d, MAC.a)], 'another overlay may have another way there');
  net.setLoops();
  port.send(frame(MAC.d, MAC.a));
  same(t, inner(bad), [frame(MAC.d, MAC.a)], 'until the route is another');
  t.end();
});

await t.test('a frame to the port it came from is dropped', (t) => {
  const { lab, net, port } = facing();
  port.send(frame(MAC.a, MAC.a), frame(MAC.a, MAC.b));
  t.strictSame([port.take(), lab.datagrams, net.drops], [[], [], { tx_hairpin: 2 }]);
  t.end();
});

await t.test('tags are carried, or dropped where vxlan/vlan is drop (V14, V15, S9)', (t) => {
  const stacks: Tag[][] = [[5], [0x6005], [[0x88a8, 5]], [[0x9100, 5], 6], [1, 2, 3, 4]];
  const keep = facing();
  const drop = facing({ carryTags: false });
  for (const tags of stacks) {
    for (const { port, inject } of [keep, drop]) {
      port.send(frame(MAC.b, MAC.a, 100, ...tags));
      inject(frame(MAC.a, MAC.b, 100, ...tags));
    }
  }
  const expected = (to: number, from: number) => stacks.map((tags) => frame(to, from, 100, ...tags));
  same(t, keep.port.take(), expected(MAC.a, MAC.b), 'keep, in');
  same(t, inner(keep.peer), expected(MAC.b, MAC.a), 'keep, out');
  t.strictSame([drop.port.take(), inner(drop.peer)], [[], []], 'drop');
  drop.port.send(frame(MAC.b, MAC.a));
  drop.inject(frame(MAC.a, MAC.b));
  t.strictSame([drop.port.take().length, inner(drop.peer).length], [1, 1], 'what has no tag passes');
  t.strictSame([keep.net.drops, drop.net.drops], [{}, { tx_vlan: 5, rx_vlan: 5 }]);

  for (const count of [5, 9]) {
    const deep = Array<Tag>(count).fill(5);
    keep.port.send(frame(MAC.b, MAC.a, 100, ...deep));
    keep.inject(frame(MAC.a, MAC.b, 100, ...deep));
  }
  t.strictSame(keep.net.drops, { tx_vlan: 2, rx_vlan: 2 }, 'more tags than anyone looks behind');
  t.end();
});

await t.test('access ports: untagged at the port, tagged on the overlay', (t) => {
  const { net, port: trunk, inject, peer } = facing();
  const [five, fiveToo, six] = [
    net.port(MAC.b, { vid: 5 }),
    net.port(MAC.c, { vid: 5 }),
    net.port(MAC.d, { vid: 0xabc }),
  ];
  const all = [trunk, five, fiveToo, six];
  const heard = () => all.map((port) => port.take().map(hex));
  const [plain, tagged] = [frame(MAC.all, MAC.b, 60), frame(MAC.all, MAC.b, 64, 5)];

  five.send(plain);
  t.strictSame(
    heard(),
    [[hex(tagged)], [], [hex(plain)], []],
    'a group frame: its VLAN, and the trunk with the tag',
  );
  same(t, inner(peer), [tagged], 'the tunnel as well');
  five.send(frame(MAC.all, MAC.b, 64, 0xe000));
  same(t, inner(peer), [frame(MAC.all, MAC.b, 64, 0xe005)], 'a priority tag keeps its priority');
  t.strictSame(heard()[2], [hex(plain)]);
  five.send(
    frame(MAC.all, MAC.b, 64, 5),
    frame(MAC.all, MAC.b, 64, 6),
    frame(MAC.all, MAC.b, 64, [0x88a8, 0]),
    ...[0x8100, 0x88a8, 0x9100].flatMap((type) => [
      frame(MAC.all, MAC.b, 68, 0, [type, 6]),
      frame(MAC.all, MAC.b, 68, 0xe000, [type, 5]),
      frame(MAC.all, MAC.b, 68, 0, [type, 0]),
      frame(MAC.all, MAC.b, 72, 0, 0, [type, 6]),
    ]),
  );
  t.strictSame(
    [heard(), inner(peer), net.drops],
    [[[], [], [], []], [], { tx_vlan: 15 }],
    'any other tag is refused, its own too, and behind a priority tag every one',
  );

  five.send(frame(MAC.c, MAC.b));
  t.strictSame(heard(), [[], [], [hex(frame(MAC.c, MAC.b))], []], 'unicast, same VLAN');
  five.send(frame(MAC.d, MAC.b));
  t.strictSame(heard(), [[], [], [], []], 'another VLAN: not here');
  same(t, inner(peer), [frame(MAC.d, MAC.b, 64, 5)], 'so it is looked for elsewhere');
  trunk.send(frame(MAC.b, MAC.a, 64, 5), frame(MAC.d, MAC.a, 64, 0xabc), frame(MAC.all, MAC.a));
  t.strictSame(heard(), [[], [hex(frame(MAC.b, MAC.a))], [], [hex(frame(MAC.d, MAC.a))]], 'from the trunk');
  inner(peer);

  inject(frame(MAC.all, 0x0200_0000_00ff, 64, 5));
  inject(frame(MAC.all, 0x0200_0000_00ff, 60));
  inject(frame(MAC.all, 0x0200_0000_00ff, 64, [0x88a8, 5]));
  t.strictSame(
    heard().map(({ length }) => length),
    [3, 1, 1, 0],
    'from the tunnel: only a customer tag names a VLAN',
  );
  inject(frame(MAC.b, 0x0200_0000_00ff, 64, 5));
  inject(frame(MAC.b, 0x0200_0000_00ff, 60));
  inject(frame(MAC.b, 0x0200_0000_00ff, 64, 6));
  t.strictSame(heard(), [[], [hex(frame(MAC.b, 0x0200_0000_00ff, 60))], [], []]);
  t.match(net.drops, { rx_no_port: 2 });
  t.end();
});

await t.test('an access port where tags are not carried reaches its host only', (t) => {
  const { net, peer } = facing({ carryTags: false });
  const [one, two] = [net.port(MAC.b, { vid: 5 }), net.port(MAC.c, { vid: 5 })];
  one.send(frame(MAC.c, MAC.b), frame(MAC.all, MAC.b), frame(MAC.d, MAC.b));
  t.strictSame([two.take().length, peer.take(), net.drops], [2, [], { tx_vlan: 2 }]);
  t.end();
});

await t.test('a device that fails is let go of; the others go on', (t) => {
  const { vtep, net, port, inject } = facing();
  const other = net.port(MAC.c);
  port.port.receiveErrno = EBADFD;
  vtep.lab.run();
  t.strictSame(vtep.faults, [{ kind: 'fault', token: port.token, errno: EBADFD }]);
  inject(frame(MAC.a, MAC.b));
  inject(frame(MAC.c, MAC.b));
  t.strictSame([other.take().length, net.drops], [1, { rx_no_port: 1 }]);
  port.remove();
  t.end();
});
