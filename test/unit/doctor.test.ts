// dladm doctor: what it makes of output of other programs, recorded, and of facts that no test host has.
import { readFileSync } from 'node:fs';
import t from 'tap';
import { parseFeatures, parseModule } from '../../src/cli/doctor/ethtool.js';
import { CHECKS, type Code, type Plain } from '../../src/cli/doctor/finding.js';
import { checkFirewall } from '../../src/cli/doctor/firewall.js';
import { parseIptables } from '../../src/cli/doctor/iptables-rules.js';
import { checkKernel, type KernelFacts } from '../../src/cli/doctor/kernel.js';
import { parseNft } from '../../src/cli/doctor/nft-rules.js';
import { checkMapping } from '../../src/cli/doctor/mapping.js';
import { checkObserver } from '../../src/cli/doctor/observer.js';
import { checkRoutes, type RoutesFacts } from '../../src/cli/doctor/routes.js';
import { type Chain, follow, type Outcome, type Packet } from '../../src/cli/doctor/ruleset.js';
import { checkStored, type StoredFacts } from '../../src/cli/doctor/stored.js';
import { parseProcess } from '../../src/cli/doctor/system.js';
import { checkPort, parseUdp, type PortFacts } from '../../src/cli/doctor/udp-ports.js';
import { checkWire, type WireFacts } from '../../src/cli/doctor/wire.js';
import { parse as parseIp } from '../../src/wire/ip.js';
import { fromRoot } from '../helpers/need.js';

const recorded = (name: string): string => readFileSync(fromRoot(`test/vectors/doctor/${name}`), 'utf8');
const ip = (text: string) => parseIp(text)!;
const line = (findings: readonly Plain[], code: Code): string => {
  const found = findings.find((one) => one.code === code);
  return found === undefined ? 'none' : `${found.status} ${found.sentence}`;
};

const IN: Packet = {
  direction: 'in',
  from: ip('10.88.88.70'),
  to: ip('10.88.88.69'),
  port: 4789,
  link: 'eth0',
};
const OUT: Packet = { ...IN, direction: 'out', from: IN.to, to: IN.from };
const V6: Packet = { ...IN, from: ip('fd88::70'), to: ip('fd88::69') };

t.test('codes are upper case, and each has a sentence', (t) => {
  for (const [code, { about }] of Object.entries(CHECKS)) {
    t.match(code, /^[A-Z]+(-[A-Z]+)*$/);
    t.match(about, /^(?:[A-Z/]|varpd|dladm).*\.$/s, code);
  }
  t.end();
});

const said = (outcome: Outcome): string =>
  outcome.is === 'accept' ? 'accept' : `${outcome.is} ${outcome.rule}`;

t.test('nftables: each rule of a recorded ruleset, alone', (t) => {
  const chains = parseNft(recorded('nft.json'));
  const input = chains.find(({ name }) => name === 'inet f input')!;
  /** What one rule makes of a packet, with nothing before it. */
  const alone = (index: number, packet: Packet): string => {
    const chain = { ...input, rules: [input.rules[index]] };
    return said(follow(packet, [...chains.filter((one) => one.hook === undefined), chain]));
  };
  const expected: readonly (readonly [text: string, packet: Packet, outcome: string])[] = [
    ['ct state established,related accept', IN, 'accept'],
    ['iifname lo accept', IN, 'accept'],
    ['iif lo accept', IN, 'accept'],
    ['udp dport 4789 ip saddr @vteps accept', IN, 'accept'],
    ['udp dport { 4789, 6081 } drop', IN, 'drop'],
    ['udp dport 4000-5000 reject', IN, 'drop'],
    ['ip protocol udp drop', IN, 'drop'],
  ];
  for (const [index, [text, packet, outcome]] of expected.entries()) {
    t.equal(input.rules[index].text, text);
    t.match(alone(index, packet), new RegExp(`^${outcome}`), text);
  }
  const at = (text: RegExp): number => input.rules.findIndex((rule) => text.test(rule.text));
  const other: Packet = { ...IN, port: 4790, from: ip('172.16.0.1') };
  t.equal(alone(at(/^udp dport .*6081/), other), 'accept', 'another port than those of the set');
  t.match(alone(at(/^udp dport 4000-5000/), other), /^drop/, 'within the range');
  t.equal(alone(at(/^ip protocol/), V6), 'accept', 'a rule about IPv4, and IPv6');
  t.match(alone(at(/^udp dport 4789 jump/), IN), /^drop udp dport 4789 drop/, 'a jump');
  t.equal(alone(at(/^udp dport 4789 jump/), other), 'accept', 'no jump');
  t.match(alone(at(/^ip saddr .* dport !=/), IN), /^drop/, 'a prefix, and not equal');
  t.equal(alone(at(/^ip saddr .* dport !=/), other), 'accept', 'outside the prefix');
  t.match(alone(at(/^nfproto/), V6), /^drop/);
  t.equal(alone(at(/^nfproto/), IN), 'accept');
  t.match(alone(at(/^ip6 nexthdr/), V6), /^drop/);
  t.match(alone(at(/^ip saddr . udp dport/), IN), /^unsure/, 'what is not understood is not guessed');
  const ingress = chains.filter(({ name }) => name.startsWith('netdev'));
  t.match(said(follow(IN, ingress)), /^unsure udp dport 4789 drop/, 'this nft does not say of which link');
  const newer = parseNft(
    recorded('nft.json').replace('"hook": "ingress",', '"hook": "ingress", "dev": "lo",'),
  );
  const ofLo = newer.filter(({ name }) => name.startsWith('netdev'));
  t.equal(said(follow(IN, ofLo)), 'accept', 'another link');
  t.match(said(follow({ ...IN, link: 'lo' }, ofLo)), /^drop/);
  t.equal(said(follow(OUT, chains)), 'accept', 'no chain is for what leaves');
  const outcome = (family: string): string => {
    const place = { family, table: 'x', name: 'o' };
    const chain = { ...place, hook: 'output', policy: 'drop' };
    return said(follow(OUT, parseNft(JSON.stringify({ nftables: [{ chain }] }))));
  };
  t.match(outcome('inet'), /^drop policy drop/);
  t.equal(outcome('arp'), 'accept', 'ARP is no UDP');
  t.match(outcome('bridge'), /^unsure policy drop/, 'the link of the underlay may be a bridge or not');
  t.end();
});

t.test('nftables: sets, verdict maps and limits', (t) => {
  const chains = parseNft(recorded('nft.json'));
  const input = chains.find(({ name }) => name === 'inet f input')!;
  const from = (text: string): string =>
    said(
      follow(
        { ...IN, from: ip(text) },
        chains.filter(({ name }) => !name.startsWith('netdev')),
      ),
    );
  t.equal(from('10.88.88.70'), 'accept', 'an address of the set');
  t.equal(from('10.88.90.7'), 'accept', 'a prefix of the set');
  t.match(from('10.88.91.7'), /^drop udp dport/, 'neither');
  const policy = { ...input, hook: { ...input.hook!, policy: 'drop' as const } };
  const limit = input.rules.filter(({ text }) => text.startsWith('limit'));
  t.equal(limit.length, 1);
  t.match(said(follow(IN, [{ ...policy, rules: limit }])), /^unsure policy drop/, 'a rate may let it pass');
  t.equal(
    said(follow(IN, [{ ...input, rules: limit }])),
    'accept',
    'and where the rest accepts it is all one',
  );
  t.throws(() => parseNft('Error: syntax error'), 'no JSON');
  t.end();
});

t.test('iptables: a recorded ruleset', (t) => {
  const chains = parseIptables(recorded('iptables-save.txt'), 'iptables');
  const rules = (name: string): Chain => chains.find((one) => one.name === `iptables filter ${name}`)!;
  t.equal(rules('INPUT').hook?.policy, 'drop');
  t.equal(said(follow(IN, chains)), 'accept', 'a peer that is let in');
  t.match(
    said(follow({ ...IN, from: ip('10.88.88.99') }, chains)),
    /^drop -A VTEPS -p udp .*-j DROP$/,
    'another, by a chain that is jumped to',
  );
  t.match(said(follow({ ...IN, port: 6081 }, chains)), /^drop policy drop/);
  t.equal(said(follow(OUT, chains)), 'accept');
  t.match(said(follow({ ...OUT, to: ip('192.0.2.7') }, chains)), /^drop -A OUTPUT .*-j REJECT/);
  t.match(said(follow({ ...OUT, port: 9999 }, chains)), /^unsure -A OUTPUT .*--mark/, 'a mark is not known');
  t.equal(said(follow(V6, chains)), 'accept', 'IPv6 has rules of its own');
  const drop =
    '*filter\n:INPUT ACCEPT [0:0]\n-A INPUT ! -s fd88::/64 -p udp -m multiport --dports 1:80,4789 -j DROP\nCOMMIT\n';
  t.equal(said(follow(V6, parseIptables(drop, 'ip6tables'))), 'accept');
  t.match(said(follow({ ...V6, from: ip('fd99::1') }, parseIptables(drop, 'ip6tables'))), /^drop/);
  t.end();
});

t.test('firewall: a line for each program, and none is guessed', (t) => {
  const facts = {
    listenIp: IN.to,
    listenPort: 4789,
    destinations: [{ ip: IN.from, port: 4789 }],
    linkTo: () => 'eth0',
    home: 'eth0',
    nftables: { unread: 'nft is not installed' },
    iptables: { chains: parseIptables(recorded('iptables-save.txt'), 'iptables') },
  };
  t.equal(line(checkFirewall(facts), 'NFTABLES'), 'skip nft is not installed');
  t.equal(line(checkFirewall(facts), 'IPTABLES'), 'ok no rule drops UDP from or to the destination');
  const destinations = [...facts.destinations, { ip: ip('10.88.88.99'), port: 4789 }];
  t.match(
    line(checkFirewall({ ...facts, destinations }), 'IPTABLES'),
    /^fail UDP from 10\.88\.88\.99 to port 4789 of 10\.88\.88\.69 is dropped: chain 'iptables filter VTEPS'/,
  );
  t.equal(line(checkFirewall({ ...facts, destinations: [] }), 'IPTABLES'), 'skip no destination is known');
  const text =
    '*filter\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT -p udp -m multiport --dports 53,4789 -j DROP\nCOMMIT\n';
  const legacy = checkFirewall({ ...facts, iptables: { chains: parseIptables(text, 'iptables-legacy') } });
  t.match(legacy[1], {
    status: 'fail',
    sentence: /chain 'iptables-legacy filter OUTPUT'/,
    advice: /\(iptables-legacy-save\)$/,
  });
  t.end();
});

const WIRE: WireFacts = {
  name: 'eth0',
  state: 'good',
  isHardware: true,
  speedMbit: 10_000,
  duplex: 'full',
  features: parseFeatures(recorded('ethtool-k.txt')),
  module: 'Cannot get module EEPROM information: Operation not supported',
};

t.test('ethtool: features of a card, and what they mean', (t) => {
  const features = parseFeatures(recorded('ethtool-k.txt'));
  t.same(features.get('tx-udp-segmentation'), { isOn: false, isFixed: true });
  t.same(features.get('tx-udp_tnl-segmentation'), { isOn: true, isFixed: false });
  t.same(features.get('tx-tcp-ecn-segmentation'), { isOn: false, isFixed: false }, 'off [requested on]');
  const findings = checkWire(WIRE);
  t.match(line(findings, 'UDP-TRAINS'), /^ok it cannot take UDP trains/, 'what no command mends is no fault');
  t.match(line(findings, 'TUNNEL-SEGMENTATION'), /^ok it takes tunnel frames/);
  t.match(line(findings, 'RECEIVE-COALESCING'), /^warn generic-receive-offload is switched off/);
  t.match(line(checkWire({ ...WIRE, isHardware: false }), 'RECEIVE-COALESCING'), /^ok/);
  t.match(line(findings, 'TRANSCEIVER'), /^skip .*not supported/);
  t.match(line(checkWire({ ...WIRE, features: 'ethtool is not installed' }), 'UDP-TRAINS'), /^skip ethtool/);
  t.match(line(checkWire({ ...WIRE, speedMbit: 100 }), 'SPEED'), /^warn its speed is 100 Mbit/);
  t.match(line(checkWire({ ...WIRE, speedMbit: undefined, duplex: undefined }), 'DUPLEX'), /^skip/);
  t.match(line(checkWire({ ...WIRE, state: 'gone' }), 'LINK'), /^fail it is gone/);
  t.end();
});

t.test('ethtool: transceivers', (t) => {
  const good = parseModule(recorded('ethtool-m-good.txt'));
  t.equal(good?.kind, 'SFP');
  t.same([good?.alarms, good?.warnings], [[], []]);
  t.match(
    line(checkWire({ ...WIRE, module: good! }), 'TRANSCEIVER'),
    /^ok SFP: .*Receiver signal average optical power 0\.5821 mW .*Module temperature 34\.11 degrees C/,
  );
  const dark = parseModule(recorded('ethtool-m-dark.txt'));
  t.same(dark?.alarms, ['Laser rx power low alarm']);
  t.same(dark?.warnings, ['Laser rx power low warning']);
  t.match(
    line(checkWire({ ...WIRE, module: dark! }), 'TRANSCEIVER'),
    /^fail alarm: Laser rx power low alarm \(SFP/,
  );
  t.match(
    line(checkWire({ ...WIRE, module: { ...dark!, alarms: [] } }), 'TRANSCEIVER'),
    /^warn warning: Laser rx power low warning/,
  );
  t.equal(parseModule('netlink error: Operation not supported\n'), undefined);
  t.end();
});

t.test('sockets: rows of /proc/net/udp and udp6', (t) => {
  const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  101: 4558580A:12B5 00000000:0000 07 00000000:00000000 00:00000000 00000000   995        0 81234 2 0000000000000000 0
  102: 00000000:17C1 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 81235 2 0000000000000000 0
`;
  t.same(parseUdp(table, 4789), [{ ip: '10.88.88.69', uid: 995, inode: 81234 }]);
  t.same(parseUdp(table, 6081), [{ ip: '0.0.0.0', uid: 0, inode: 81235 }]);
  const v6 =
    '  7: 000088FD000000000000000069000000:12B5 00000000000000000000000000000000:0000 07 0:0 00:0 0 1000 0 42 2 0 0\n';
  t.same(parseUdp(v6, 4789), [{ ip: 'fd88::69', uid: 1000, inode: 42 }]);
  t.end();
});

const TUN = { isCharacterDevice: true, major: 10, minor: 200, uid: 0, gid: 0, mode: 0o666 };
const KERNEL: KernelFacts = {
  user: { uid: 995, gids: [995] },
  release: '6.1.0-18-amd64',
  tun: TUN,
  features: undefined,
  maxReceiveBytes: 212_992,
  maxSendBytes: 4_194_304,
  mayForceBuffers: false,
};

t.test('kernel', (t) => {
  const findings = checkKernel(KERNEL);
  t.equal(line(findings, 'KERNEL'), 'ok this is Linux 6.1.0-18-amd64');
  t.match(line(checkKernel({ ...KERNEL, release: '4.9.337' }), 'KERNEL'), /^warn .*before 4\.17/);
  t.match(line(checkKernel({ ...KERNEL, release: '4.18.0-553.el8.x86_64' }), 'KERNEL'), /^ok/);
  t.match(line(findings, 'SOCKET-BUFFERS'), /^warn net\.core\.rmem_max is 212992: /, 'in a container');
  t.match(line(checkKernel({ ...KERNEL, mayForceBuffers: true }), 'SOCKET-BUFFERS'), /^ok/);
  t.match(line(checkKernel({ ...KERNEL, maxReceiveBytes: 8e6 }), 'SOCKET-BUFFERS'), /^ok/);
  t.match(line(findings, 'OFFLOAD-USO'), /^skip/);
  const features = {
    tapChecksum: true,
    tapTcpSegmentation: true,
    udpSegmentation: true,
    udpCoalescing: false,
  };
  const some = checkKernel({ ...KERNEL, features });
  t.match(line(some, 'OFFLOAD-TRAIN'), /^ok this kernel has/);
  t.match(line(some, 'OFFLOAD-COALESCE'), /^warn this kernel lacks/);
  t.match(line(some, 'OFFLOAD-USO'), /^warn/);
  const grouped = { ...TUN, gid: 995, mode: 0o660 };
  t.match(line(checkKernel({ ...KERNEL, tun: grouped }), 'TUN-ACCESS'), /^ok/, 'by its group');
  t.match(line(checkKernel({ ...KERNEL, tun: 'unseen' }), 'TUN-DEVICE'), /^skip/);
  t.end();
});

t.test('processes, as proc(5) shows them', (t) => {
  const status = `Name:\tnode\nPid:\t4711\nUid:\t995\t996\t995\t995\nGid:\t995\t997\t995\t995\nGroups:\t10 20 \nCapEff:\t0000000000001000\nCapBnd:\t00000000a80425fb\n`;
  const facts = parseProcess(status, {
    args: 'varpd\0--config\0/etc/x y\0',
    uidMap: '0 0 4294967295\n',
    network: 'net:[1]',
  });
  t.same(facts, {
    pid: 4711,
    uid: 996,
    gids: [997, 10, 20],
    hasNetAdmin: true,
    mayHaveNetAdmin: false,
    isOfHost: true,
    args: ['varpd', '--config', '/etc/x y'],
    network: 'net:[1]',
  });
  t.end();
});

t.test('the clock, and another version', (t) => {
  const own = parseProcess('Pid:\t1\nUid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\nCapEff:\t0\nCapBnd:\t0\n', {
    args: '',
    uidMap: '',
    network: undefined,
  });
  const startedAt = '2026-11-30T12:00:00.000Z';
  const at = (realMs: number, uptimeMs: number): readonly Plain[] =>
    checkObserver({
      socket: '/run/varpd/varpd.sock',
      dladm: own,
      version: '0.2.0',
      hasSocketFile: true,
      varpd: {
        process: undefined,
        answeredAtMs: Date.parse(startedAt) + realMs,
        status: {
          version: '0.1.0',
          pid: 4711,
          startedAt,
          uptimeSeconds: uptimeMs / 1000,
          user: 'varpd',
          configuration: null,
          isSettled: true,
          overlays: 0,
          vnics: 0,
          features: {},
        },
      },
    });
  t.match(line(at(60_000, 59_000), 'CLOCK'), /^ok/);
  t.match(line(at(60_000, 90_000), 'CLOCK'), /^warn the clock was set back by 30 s/);
  t.match(line(at(90_000, 60_000), 'CLOCK'), /^warn the clock was set forward by 30 s/);
  t.equal(line(at(0, 0), 'VARPD-VERSION'), 'warn varpd is version 0.1.0, installed is 0.2.0');
  t.match(line(at(0, 0), 'NAMESPACE'), /^skip/);
  t.end();
});

const ROUTES: RoutesFacts = {
  name: 'overlay0',
  encap: 'vxlan',
  listenIp: IN.to,
  mtuBytes: 1450,
  address: 'good',
  home: 'eth0',
  isHomeOnWire: true,
  isStrict: true,
  ports: ['overlay0', 'foo0'],
  routes: ['10.88.88.70', '10.88.88.71'].map((to) => ({
    to: ip(to),
    link: 'eth0',
    hasOtherSource: false,
    into: undefined,
    mtuBytes: 1500,
  })),
  destinationCount: 2,
};

t.test('routes', (t) => {
  const [first, second] = ROUTES.routes;
  const of = (more: Partial<RoutesFacts>): Plain[] => checkRoutes({ ...ROUTES, ...more });
  t.same([...new Set(of({}).map(({ status }) => status))], ['ok']);
  t.match(line(of({ address: 'duplicate' }), 'LISTEN-ADDRESS'), /^fail .*another host/);
  t.match(line(of({ address: 'tentative' }), 'LISTEN-ADDRESS'), /^warn .*not in use yet/);
  t.match(line(of({ address: 'absent' }), 'ROUTE'), /^skip the listen address is not there/);
  t.match(line(of({ destinationCount: 0, routes: [] }), 'ROUTE-MTU'), /^skip no destination is known/);
  t.match(line(of({ destinationCount: 5000 }), 'ROUTE'), /^ok there are routes to 2 of 5000 destinations/);
  const lost = { ...first, link: undefined, mtuBytes: undefined };
  t.equal(
    line(of({ routes: [lost, { ...lost, to: second.to }] }), 'ROUTE'),
    'fail there is no route to 10.88.88.70 and 1 more',
  );
  t.match(
    line(of({ routes: [{ ...lost, hasOtherSource: true }, second] }), 'ROUTE'),
    /^fail there is no route from 10\.88\.88\.69 to 10\.88\.88\.70, only from other addresses/,
  );
  const into = (port: string): readonly Plain[] => of({ routes: [{ ...first, into: port }, second] });
  t.match(line(into('foo0'), 'ROUTE-LOOP'), /^fail /);
  t.match(line(into('other0'), 'ROUTE-LOOP'), /^ok/, 'one overlay may carry another');
  const byOther = [first, { ...second, link: 'eth1' }];
  t.match(line(of({ routes: byOther }), 'RP-FILTER'), /^warn .*10\.88\.88\.71 leaves by eth1/);
  t.match(line(of({ routes: byOther, isStrict: false }), 'RP-FILTER'), /^ok/);
  t.match(line(of({ routes: byOther, isHomeOnWire: false }), 'RP-FILTER'), /^ok/, 'an address of loopback');
  t.match(line(of({ mtuBytes: undefined }), 'ROUTE-MTU'), /^skip/);
  t.match(
    line(of({ encap: 'geneve', mtuBytes: 1451 }), 'ROUTE-MTU'),
    /^fail .*carries 1500 bytes, a packet of 1451 needs 1501/,
  );
  t.end();
});

t.test('the UDP port: sockets of varpd are no fault, as far as dladm can tell', (t) => {
  const facts: PortFacts = {
    listenIp: IN.to,
    port: 4789,
    sockets: [{ ip: IN.to, uid: 995, inode: 1 }],
    tunnels: [],
    varpd: { pid: 4711, uid: 995 },
    isOnline: true,
  };
  const [socket] = facts.sockets;
  t.match(line(checkPort(facts), 'UDP-PORT'), /^ok varpd has/, 'not root: by its user');
  t.match(
    line(checkPort({ ...facts, sockets: [{ ...socket, uid: 1000 }] }), 'UDP-PORT'),
    /^fail .*a program of uid 1000/,
  );
  const held = (pid: number): PortFacts => ({
    ...facts,
    sockets: [{ ...socket, process: { pid, name: 'x' } }],
  });
  t.match(line(checkPort(held(4711)), 'UDP-PORT'), /^ok/);
  t.match(line(checkPort(held(9)), 'UDP-PORT'), /^fail .*taken by x \(process 9\)/);
  t.match(line(checkPort({ ...facts, varpd: undefined }), 'UDP-PORT'), /^fail/);
  t.match(
    line(checkPort({ ...facts, sockets: [] }), 'UDP-PORT'),
    /^ok UDP port 4789 of 10\.88\.88\.69 is free/,
  );
  t.match(line(checkPort({ ...facts, tunnels: ['vx0', 'vx1'] }), 'KERNEL-TUNNEL'), /^warn .*vx0 and 1 more/);
  t.match(line(checkPort({ ...facts, tunnels: ['vx0'], isOnline: false }), 'KERNEL-TUNNEL'), /^fail/);
  t.end();
});

t.test('what is stored', (t) => {
  const state: NonNullable<StoredFacts['state']> = {
    directory: '/var/lib/varpd',
    found: { isDirectory: true, uid: 995, mode: 0o700 },
    untrusted: undefined,
    names: ['overlay0.json'],
    overlays: [],
    temporary: [],
  };
  const facts: StoredFacts = {
    configuration: {
      file: '/etc/varpd/varpd.yaml',
      isThere: true,
      isClosed: false,
      config: undefined,
      errors: [],
    },
    user: { uid: 995, gids: [995] },
    state,
    isRunning: false,
    taps: [{ name: 'foo0', ownerUid: 995, isPersistent: true, isInUse: false }],
    wanted: ['foo0'],
  };
  const of = (more: Partial<StoredFacts>): Plain[] => checkStored({ ...facts, ...more });
  t.same([...new Set(of({}).map(({ status }) => status))], ['ok']);
  const foreign = { ...state, found: { isDirectory: true, uid: 1000, mode: 0o700 } };
  t.match(line(of({ state: foreign }), 'STATE-DIRECTORY'), /^fail .*belongs to uid 1000/);
  t.match(
    line(of({ state: { ...state, untrusted: 'others may change it' } }), 'STATE-DIRECTORY'),
    /^fail .*others may/,
  );
  t.match(line(of({ state: { ...state, names: undefined } }), 'STATE-SET-ASIDE'), /^skip/);
  const writing = { ...state, temporary: [{ name: '.x.tmp', ageMs: 5 }] };
  t.match(line(of({ state: writing }), 'LEFTOVER-FILE'), /^warn/, 'from a crash');
  t.match(line(of({ state: writing, isRunning: true }), 'LEFTOVER-FILE'), /^ok/, 'varpd writes it now');
  t.match(line(of({ wanted: [] }), 'LEFTOVER-TAP'), /^warn .*foo0/);
  t.match(line(of({ wanted: undefined }), 'LEFTOVER-TAP'), /^skip/);
  const closed = { ...facts.configuration, isClosed: true, errors: ['cannot be read'] };
  t.match(line(of({ configuration: closed }), 'CONFIGURATION'), /^skip/, 'a file for other eyes is no fault');
  t.match(line(of({ user: undefined, state: undefined }), 'STATE-DIRECTORY'), /^skip/);
  t.end();
});

t.test('the mapping: a file that cannot be read', (t) => {
  const of = (unread: string): readonly Plain[] =>
    checkMapping({
      listenIp: IN.to,
      vnics: [],
      mapping: { file: '/etc/varpd/hosts.json', unread, error: undefined, mapping: undefined },
    });
  t.match(line(of('/etc/varpd/hosts.json is not there'), 'MAPPING-FILE'), /^fail/);
  t.match(line(of('/etc/varpd/hosts.json cannot be read: EACCES'), 'MAPPING-FILE'), /^skip/);
  t.same(checkMapping({ listenIp: IN.to, vnics: [], mapping: undefined }), [], 'of another plugin');
  t.end();
});
