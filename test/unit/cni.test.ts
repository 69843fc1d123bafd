// Requests, results and names of varpd-cni, without varpd.
import t from 'tap';
import { attachmentText, vnicName } from '../../src/cni/attachments.js';
import { CniError } from '../../src/cni/errors.js';
import { needAttachment, readRequest, VERSIONS, wantedMac } from '../../src/cni/request.js';
import { joined, parseResult, readNetwork, writeResult } from '../../src/cni/result.js';
import { checkName } from '../../src/model/names.js';

const CONFIG = { cniVersion: '1.1.0', name: 'net0', type: 'varpd-cni', overlay: 'overlay0' };
const request = (more: object = {}, env: Record<string, string> = {}, command = 'ADD') =>
  readRequest(command, JSON.stringify({ ...CONFIG, ...more }), env);
const codeOf = (work: () => unknown): number | undefined => {
  try {
    work();
    return undefined;
  } catch (error) {
    return error instanceof CniError ? error.code : NaN;
  }
};

t.test('each attachment has a name of its own that dladm takes', (t) => {
  const names = new Set<string>();
  for (let count = 0; count < 2000; count++) {
    const name = vnicName(attachmentText('net0', { containerId: `c${count}`, ifname: 'eth0' }));
    t.equal(checkName(name), undefined, name);
    names.add(name);
  }
  t.equal(names.size, 2000);
  const one = { containerId: 'c', ifname: 'eth0' };
  t.equal(attachmentText('net0', one), 'cni:net0/c/eth0');
  t.equal(vnicName(attachmentText('net0', one)), vnicName('cni:net0/c/eth0'), 'always the same');
  t.end();
});

t.test('commands and the versions that have them', (t) => {
  for (const [command, first] of [
    ['ADD', 0],
    ['DEL', 0],
    ['CHECK', 2],
    ['GC', 4],
    ['STATUS', 4],
  ] as const)
    for (const [index, cniVersion] of VERSIONS.entries())
      t.equal(
        codeOf(() => request({ cniVersion }, {}, command)),
        index < first ? 1 : undefined,
        `${command} ${cniVersion}`,
      );
  t.equal(
    codeOf(() => readRequest('ADD', '{"name":"net0"}', {})),
    1,
    'no version is one of long ago',
  );
  t.equal(
    codeOf(() => request({ name: '-' })),
    7,
  );
  t.equal(
    codeOf(() => request({ vid: 4095 })),
    7,
  );
  t.equal(
    codeOf(() => request({ unknown: { a: 1 }, ipam: { type: 'x', ranges: [] } })),
    undefined,
  );
  t.end();
});

t.test('names that the environment may have', (t) => {
  const code = (containerId: string, ifname: string): number | undefined =>
    codeOf(() => needAttachment({ CNI_CONTAINERID: containerId, CNI_IFNAME: ifname }));
  for (const good of ['eth0', 'net1.5', 'a-b', '...']) t.equal(code('0a_.-', good), undefined, good);
  for (const bad of ['', '.', '..', 'a/b', 'a:b', 'a b', 'abcdefghijklmnop']) t.equal(code('c', bad), 4, bad);
  for (const bad of ['', '-a', '.a', 'a/b', 'a b']) t.equal(code(bad, 'eth0'), 4, bad);
  t.end();
});

t.test('the MAC: the engine before the operator', (t) => {
  const mac = (last: number): string => `02:00:00:00:00:0${last}`;
  const all = { runtimeConfig: { mac: mac(1) }, args: { cni: { mac: mac(2) } }, mac: mac(4) };
  const env = { CNI_ARGS: `IgnoreUnknown=1;MAC=${mac(3)}` };
  t.equal(wantedMac(request(all, env)), mac(1));
  t.equal(wantedMac(request({ ...all, runtimeConfig: {} }, env)), mac(2));
  t.equal(wantedMac(request({ mac: mac(4) }, env)), mac(3));
  t.equal(wantedMac(request({ mac: '2:0:0:0:0:4' })), mac(4), 'in the spelling of varpd');
  t.equal(wantedMac(request({ runtimeConfig: { mac: '' } })), undefined);
  t.equal(
    codeOf(() => wantedMac(request({ mac: 'x' }))),
    7,
  );
  t.end();
});

t.test('a result in each version', (t) => {
  const own = {
    interfaces: [{ name: 'eth0', mac: '02:00:00:00:00:01', mtu: 1450, sandbox: '/run/netns/blue' }],
    ips: [
      { address: '10.55.1.2/16', interface: 0 },
      { address: 'fd55::2/64', interface: 0 },
    ],
    routes: [],
    dns: {},
  };
  const written = (version: (typeof VERSIONS)[number]) =>
    JSON.parse(writeResult(version, own)) as typeof own & { cniVersion: string };
  t.strictSame(written('1.1.0'), { ...own, cniVersion: '1.1.0' });
  t.notOk('mtu' in written('1.0.0').interfaces[0]);
  t.notOk('version' in written('1.0.0').ips[0]);
  t.match(written('0.3.1').ips, [{ version: '4' }, { version: '6' }]);

  const before = parseResult(
    '{"interfaces":[{"name":"eth1"}],"ips":[{"address":"10.0.0.1/8","interface":0}],"dns":{"domain":"a"},"other":1}',
    'it',
  );
  t.match(joined(before, { ...own, dns: { search: ['b'] } }), {
    interfaces: [{ name: 'eth1' }, { name: 'eth0' }],
    ips: [{ interface: 0 }, { interface: 1 }, { interface: 1 }],
    dns: { domain: 'a', search: ['b'] },
    other: 1,
  });
  t.equal(
    codeOf(() => parseResult('{"ips":[{}]}', 'it')),
    6,
  );
  t.equal(
    codeOf(() => parseResult('', 'it')),
    6,
  );
  t.end();
});

t.test('addresses with prefixes', (t) => {
  t.strictSame(readNetwork('10.0.0.1/8'), { ip: '10.0.0.1', bits: 8 });
  t.strictSame(readNetwork('::/0'), { ip: '::', bits: 0 });
  for (const bad of ['10.0.0.1', '10.0.0.1/33', 'fd00::/129', '10.0.0/8', '10.0.0.1/8/8'])
    t.equal(
      codeOf(() => readNetwork(bad)),
      6,
      bad,
    );
  t.end();
});
