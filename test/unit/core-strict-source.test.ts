// vxlan/strict-source: an inner source lives at the VTEP that sent it. Row S2 is that of the conformance tables.
import t from 'tap';
import { address, endpoint, frame, Lab, MAC } from '../helpers/lab.js';
import { VXLAN_100 } from '../helpers/scenes.js';

t.test('strict-source: an inner source lives at the VTEP that sent it (S2)', (t) => {
  const lab = new Lab();
  const vtep = lab.vtep('192.0.2.1');
  const [home, liar] = [lab.peer('192.0.2.2'), lab.peer('192.0.2.3')];
  const net = vtep.overlay({ strictSource: true });
  const port = net.port(MAC.a);
  net.setPeers(address('192.0.2.2'), address('192.0.2.3'));
  const say = (peer: typeof home, from: number, to: number = MAC.a) => {
    lab.inject(peer, vtep, VXLAN_100, frame(to, from));
    return port.take().length;
  };
  t.equal(say(home, MAC.b), 0, 'not known yet');
  t.equal(say(home, MAC.b, MAC.all), 0);
  t.equal(vtep.questions.length, 1, 'asked once');
  t.match(vtep.questions[0], { destinationMac: MAC.b, sourceMac: MAC.a, etherType: 0x88b5, vlan: 0 });
  t.strictSame(net.drops, { rx_source_unknown: 2 });
  net.answer(vtep.questions[0], { kind: 'target', to: [endpoint('192.0.2.2', 4444)], ttlMs: 1000 });
  t.equal(say(home, MAC.b), 1, 'the port does not matter');
  t.equal(say(home, MAC.b, MAC.all), 1);
  t.equal(say(liar, MAC.b), 0);
  t.strictSame(net.drops, { rx_source_unknown: 2, rx_source_mismatch: 1 });
  port.send(frame(MAC.b, MAC.a));
  t.equal(
    home.take().length + lab.datagrams.filter(({ to }) => to.port === 4444).length,
    1,
    'and is known for sending',
  );
  net.setTarget(MAC.c, [endpoint('192.0.2.2'), endpoint('192.0.2.3')]);
  t.equal(say(liar, MAC.c) + say(home, MAC.c), 2, 'one that lives at several');
  net.setTarget(MAC.d, []);
  t.equal(say(home, MAC.d), 0, 'one that lives nowhere');
  t.equal(net.drops.rx_source_mismatch, 2);
  net.invalidate(MAC.b);
  t.equal(say(home, MAC.b), 0, 'asked again');
  t.equal(vtep.questions.length, 2);
  net.answer(vtep.questions[1], { kind: 'drop', reason: 'lookup_drop' });
  t.equal(say(home, MAC.b), 0, 'it is gone');
  t.equal(net.drops.rx_source_mismatch, 3);
  t.end();
});

t.test('strict-source: MACs made up keep at most 256 questions open', (t) => {
  const lab = new Lab();
  const vtep = lab.vtep('192.0.2.1');
  const peer = lab.peer('192.0.2.2');
  const net = vtep.overlay({ strictSource: true, acceptAny: true, maxTargets: 100_000 });
  const port = net.port(MAC.a, { own: true });
  for (let n = 0; n < 1000; n++) lab.inject(peer, vtep, VXLAN_100, frame(MAC.a, 0x0200_0000_0000 + n));
  t.equal(vtep.questions.length, 256);
  t.strictSame(net.drops, { rx_source_unknown: 1000 });
  port.send(frame(MAC.b, MAC.a));
  t.equal(vtep.questions.length, 257, 'a question of this host is asked all the same');
  t.end();
});

t.test('strict-source: MACs made up are asked about 1,000 times a second, whatever is answered', (t) => {
  const lab = new Lab();
  const vtep = lab.vtep('192.0.2.1');
  const peer = lab.peer('192.0.2.2');
  const net = vtep.overlay({ strictSource: true, acceptAny: true });
  net.port(MAC.a, { own: true });
  let asked = 0;
  for (let ms = 0; ms < 1000; ms += 10) {
    vtep.engine.setTime(ms);
    for (let n = 0; n < 100; n++)
      lab.inject(peer, vtep, VXLAN_100, frame(MAC.a, 0x0200_0000_0000 + ms * 10 + n));
    asked += vtep.questions.length;
    for (const question of vtep.questions.splice(0))
      net.answer(question, { kind: 'drop', reason: 'lookup_drop' });
  }
  // What may be asked at once, and 10 more each of the further 10 ms.
  t.equal(asked, 1024 + 99 * 10);
  t.strictSame(net.drops, { rx_source_unknown: 10_000 });
  t.end();
});

t.test('strict-source with one destination for all: the source is there', (t) => {
  const lab = new Lab();
  const vtep = lab.vtep('192.0.2.1');
  const [home, other] = [lab.peer('192.0.2.2'), lab.peer('192.0.2.3')];
  const net = vtep.overlay({ strictSource: true, acceptAny: true, destination: home.local });
  const port = net.port(MAC.a);
  lab.inject(home, vtep, VXLAN_100, frame(MAC.a, MAC.b));
  t.equal(port.take().length, 1);
  lab.inject(other, vtep, VXLAN_100, frame(MAC.a, MAC.b));
  t.equal(port.take().length, 0);
  t.strictSame(net.drops, { rx_source_mismatch: 1 });
  t.end();
});
