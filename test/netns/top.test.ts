// dladm top with a real varpd, on a terminal that we did not write: traffic, drops and peers are seen, and a restart is survived.
import t from 'tap';

import { Daemon, directOverlay, DLADM_MAIN } from '../helpers/daemon.js';
import { skipUnlessNetns } from '../helpers/need.js';
import { Bed } from '../helpers/netns.js';
import { type Child, waitUntil } from '../helpers/process.js';
import { Terminal } from '../helpers/tmux.js';

const skip = skipUnlessNetns(['ping', 'tmux', 'bash', 'stty']);

await t.test('traffic, drops, peers, an overlay that does not run, a restart', { skip }, async (t) => {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const [a, b] = await bed.twoHosts();
  const [here, there] = await Promise.all([
    Daemon.start(bed, a, { withoutRoot: true }),
    Daemon.start(bed, b, { withoutRoot: true }),
  ]);
  here.explain(t);
  await here.ok(directOverlay({ from: a.underlay.v4, to: b.underlay.v4 }));
  await here.ok('create-vnic -l overlay0 foo0');
  await here.ok(directOverlay({ from: a.underlay.v4, to: b.underlay.v4, vnetid: 7, name: 'idle0' }));
  await there.ok(directOverlay({ from: b.underlay.v4, to: a.underlay.v4 }));
  await a.exec('ip addr add 10.0.0.1/24 dev foo0');
  await b.exec('ip addr add 10.0.0.2/24 dev overlay0');
  const ping = a.spawn('ping -i 0.05 -s 1000 10.0.0.2');
  t.teardown(() => {
    ping.signal('SIGKILL');
  });
  const terminal = await Terminal.start(t, bed.directory(), here.socket);
  await terminal.type('clear; dladm top -i 0.5');
  // 20 pings a second, on a quiet machine.
  const rates = String.raw`[\d.]+k +[1-9]\d? +[\d.]+k +[1-9]\d? +[\d.]+k`;
  const lines = await terminal.shows(new RegExp(`^overlay0 ONLINE +${rates} `, 'm'));
  t.match(lines[0], /^2 overlays, 3 ports +[\d:]+ every 0\.5 s$/);
  t.match(lines[4], /^overlay0 /, 'the busiest first');
  await terminal.press('2');
  await terminal.shows(new RegExp(`^foo0 +overlay0 +${rates} `, 'm'));
  await terminal.press('4');
  await terminal.shows(new RegExp(String.raw`^10\.88\.88\.70 overlay0 ok +${rates} +\d+ s$`, 'm'));
  await there.ok('delete-overlay overlay0');
  await there.ok(directOverlay({ from: b.underlay.v4, to: a.underlay.v4, vnetid: 32 }));
  await b.exec('ip addr add 10.0.0.3/24 dev overlay0');
  const stranger = b.spawn('ping -i 0.1 10.0.0.9');
  t.teardown(() => {
    stranger.signal('SIGKILL');
  });
  await terminal.press('3');
  await terminal.shows(/^overlay0 +rx_unknown_vni +[\d.]+ +\d+ +\d+ s VNI 32 from /m);
  await terminal.shows(/^overlay0: VNI 32 from .*\n.*no overlay with that VNI/m);
  await there.stop();
  await terminal.press('4');
  await terminal.shows(/^10\.88\.88\.70 +overlay0 unreachable /m);
  await terminal.shows(/^overlay0: peer 10\.88\.88\.70 cannot be reached: port unreachable/m);
  await terminal.press('1');
  await here.stop();
  await terminal.shows(/^cannot reach varpd at .*\nas of [\d:]+; trying again$/m);
  await a.exec('ip addr del 10.88.88.69/24 dev under0');
  await here.start();
  await terminal.shows(/^2 overlays \(2 not running\), 0 ports/m);
  await terminal.shows(/^(idle0|overlay0) +OFFLINE +-- .*(\n.*)*10\.88\.88\.69 is not an address/m);
  await a.exec('ip addr add 10.88.88.69/24 dev under0');
  await terminal.shows(/^overlay0 ONLINE /m);
  await terminal.press('q');
  await terminal.shows(/^ready>$/m);
  const batch = await here.dladm(
    'top',
    '-b',
    '-n',
    '2',
    '-i',
    '0.1',
    '-p',
    '-o',
    'link,state',
    'idle0',
    'no0',
  );
  t.match(batch, {
    code: 4,
    stdout: 'idle0:ONLINE\nno0:MISSING\nidle0:ONLINE\nno0:MISSING\n',
    stderr: /no0/,
  });
  const peers = await here.ok('top -b -n 2 -i 0.1 --view peers -p -o peer,link,txframes,state idle0');
  t.equal(peers, '10.88.88.70:idle0:--:idle\n10.88.88.70:idle0:0:idle\n');
  const { rows } = JSON.parse(await here.ok('top -b -n 1 --view peers --json idle0')) as { rows: unknown };
  t.match(rows, [{ peer: '10.88.88.70', link: 'idle0', txbits: null, heard: null, macs: null }]);
  t.match(await here.dladm('top', '-b', 'no0'), { code: 4, stdout: '' });

  const readings = ['top -b -i 0.2 -p -o link,state idle0', 'show-overlay -s -i 0.2 overlay0'].map((line) =>
    a.spawn([process.execPath, DLADM_MAIN, '--socket', here.socket, ...line.split(' ')]),
  );
  const each = async (what: string, isSo: (child: Child) => boolean): Promise<void> =>
    waitUntil(() => readings.every(isSo), { what });
  await each('a reading', (child) => child.stdout !== '');
  await here.stop();
  await each('a warning', (child) => /cannot reach varpd at .*: trying again$/m.test(child.stderr));
  const before = readings.map(({ stdout }) => stdout.length);
  await here.start();
  await each('readings of the next varpd', (child) => child.stdout.length > before[readings.indexOf(child)]);
  for (const child of readings) await child.stop('SIGTERM');
});
