// What dladm shows of VNICs: tables, parsable output and JSON.
import t from 'tap';
import type { LinkPropertyRow, VnicInfo } from '../../src/control/messages.js';
import { fakeDaemon, lines, refuse, run, versioned } from '../helpers/fake-control.js';

await t.test('show-vnic', async (t) => {
  const vnic = { over: 'demo0', mtuBytes: 1400, temporary: false, state: 'up', counters: {} };
  const vnics: VnicInfo[] = [
    {
      ...vnic,
      name: 'foo0',
      mac: 'de:ad:be:ef:00:00',
      configuredMac: 'de:ad:be:ef:00:00',
      macType: 'fixed',
      vid: 0,
    },
    {
      ...vnic,
      name: 'bar0',
      mac: '02:00:5e:00:53:01',
      configuredMac: '02:00:5e:00:53:02',
      macType: 'random',
      vid: 23,
      attachment: 'cni:net0/one/eth0',
      state: 'the device was removed',
    },
  ];
  const { socket, requests } = await fakeDaemon({
    'vnic.list': () => ({ vnics, missing: [{ name: 'x0', message: 'x0: object not found' }] }),
  });
  t.same(await run(socket, 'show-vnic', '-l', 'demo0', 'foo0', 'bar0', 'x0'), {
    status: 4,
    out: lines(
      'LINK         OVER         SPEED  MACADDRESS        MACADDRTYPE         VID   STATE',
      'foo0         demo0        --     de:ad:be:ef:00:00 fixed               0     up',
      'bar0         demo0        --     02:00:5e:00:53:01 random              23    the device was removed',
    ),
    err: 'dladm: failed to find x0: object not found\n',
  });
  t.same(requests, [{ method: 'vnic.list', params: { over: 'demo0', names: ['foo0', 'bar0', 'x0'] } }]);
  const allUp = await fakeDaemon({ 'vnic.list': () => ({ vnics: vnics.slice(0, 1), missing: [] }) });
  t.equal(
    (await run(allUp.socket, 'show-vnic')).out,
    lines(
      'LINK         OVER         SPEED  MACADDRESS        MACADDRTYPE         VID',
      'foo0         demo0        --     de:ad:be:ef:00:00 fixed               0',
    ),
    'the columns of illumos while there is nothing to tell',
  );
  const parsable = await run(socket, 'show-vnic', '-p', '-o', 'link,state,attachment');
  t.equal(parsable.out, 'foo0:up:--\nbar0:the device was removed:cni\\:net0/one/eth0\n');
  t.match(
    (await run(socket, 'show-vnic', '-o', 'all')).out,
    /VID {3}MTU {3}ATTACHMENT {10}STATE\n.* 0 {5}1400 {2}-- {18}up\n/,
  );
  t.same(JSON.parse((await run(socket, 'show-vnic', '--json')).out), versioned(...vnics));
});

await t.test('show-linkprop', async (t) => {
  const row = { link: 'foo0', permission: 'rw' as const, default: [], possible: null };
  const four = ['mac-nospoof', 'restricted', 'ip-nospoof', 'dhcp-nospoof'];
  const rows: LinkPropertyRow[] = [
    { ...row, property: 'protection', value: ['mac-nospoof', 'ip-nospoof'], effective: four, possible: four },
    { ...row, property: 'allowed-ips', value: [], effective: ['10.0.0.7', 'fd00::7'] },
    { ...row, property: 'allowed-dhcp-cids', value: ['hello'], effective: [] },
  ];
  const { socket, requests } = await fakeDaemon({
    'linkprop.list': () => ({ rows, missing: [{ name: 'x0', message: 'x0: object not found' }] }),
  });
  t.same(await run(socket, 'show-linkprop', '-p', 'protection,allowed-ips', 'foo0', 'x0'), {
    status: 4,
    out: lines(
      'LINK     PROPERTY            PERM VALUE          EFFECTIVE      DEFAULT POSSIBLE',
      'foo0     protection          rw   mac-nospoof,   mac-nospoof,   --      mac-nospoof,',
      '                                  ip-nospoof     restricted,            restricted,',
      '                                                 ip-nospoof,            ip-nospoof,',
      '                                                 dhcp-nospoof           dhcp-nospoof',
      'foo0     allowed-ips         rw   --             10.0.0.7,      --      --',
      '                                                 fd00::7',
      'foo0     allowed-dhcp-cids   rw   hello          --             --      --',
    ),
    err: 'dladm: failed to find x0: object not found\n',
  });
  const named = { persistent: false, names: ['foo0', 'x0'], properties: ['protection', 'allowed-ips'] };
  t.same(requests, [{ method: 'linkprop.list', params: named }]);
  const parsable = await run(socket, 'show-linkprop', '-c', '-o', 'property,effective', '-P');
  t.equal(
    parsable.out,
    'protection:mac-nospoof,restricted,ip-nospoof,dhcp-nospoof\nallowed-ips:10.0.0.7,fd00\\:\\:7\nallowed-dhcp-cids:--\n',
  );
  t.same(requests[1]?.params, { persistent: true });
  t.same(JSON.parse((await run(socket, 'show-linkprop', '--json')).out), versioned(...rows));
  const refused = await fakeDaemon({
    'linkprop.set': refuse('INVALID', 'invalid argument', 'invalid argument', [
      'failed to set property x: y',
    ]),
  });
  t.same(await run(refused.socket, 'set-linkprop', '-p', 'x=1', 'foo0'), {
    status: 7,
    out: '',
    err: "dladm: failed to set property x: y\ndladm: cannot set link property on 'foo0': invalid argument\n",
  });
});
