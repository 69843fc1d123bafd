// What link protection learns from DHCP: the leases that a port may use.
import t from 'tap';
import type { Protection } from '../../src/model/link-properties.js';
import * as dhcpv4 from '../../src/wire/dhcpv4.js';
import type { Ipv4Address } from '../../src/wire/ip.js';
import { guarded, rules } from '../helpers/guarded.js';
import { dhcpV6, duid, option } from '../helpers/guest-frames.js';
import { address, dhcpFrame, hex, MAC } from '../helpers/lab.js';
import { VXLAN_100 } from '../helpers/scenes.js';
import { fromHex } from '../vectors/frames.js';

const ack = (more: Partial<dhcpv4.Repr> = {}, type: number = dhcpv4.ACK) =>
  dhcpFrame(
    {
      operation: dhcpv4.REPLY,
      yiaddr: '10.0.0.77' as Ipv4Address,
      options: new Map([
        [dhcpv4.MESSAGE_TYPE, Uint8Array.of(type)],
        [dhcpv4.LEASE_TIME, Uint8Array.of(0, 0, 14, 16)],
      ]),
      ...more,
    },
    { from: MAC.b },
  );

function leasing(types: readonly Protection[] = ['ip-nospoof']) {
  const made = guarded(rules(types, { addresses: [] }));
  const hear = (bytes: Uint8Array) => {
    made.lab.inject(made.peer, made.vtep, VXLAN_100, bytes);
    return made.vtep.leases.splice(0).map(({ port, family, ip, validS }) => ({ port, family, ip, validS }));
  };
  const ask = (type: number = dhcpv4.REQUEST_MESSAGE, more: Partial<dhcpv4.Repr> = {}) => {
    made.port.send(dhcpFrame({ options: new Map([[dhcpv4.MESSAGE_TYPE, Uint8Array.of(type)]]), ...more }));
  };
  return { ...made, hear, ask };
}

t.test('a lease that was asked for is told', (t) => {
  const { hear, ask, port } = leasing();
  const granted = { port: `port${port.token}`, family: 4, ip: '10.0.0.77', validS: 3600 };
  t.strictSame(hear(ack()), [], 'not asked for');
  ask();
  t.strictSame(hear(ack({ transactionId: 1 })), [], 'another transaction');
  t.strictSame(hear(ack({ clientMac: MAC.c })), [], 'another client');
  t.strictSame(hear(ack({}, dhcpv4.REQUEST_MESSAGE)), [], 'no ACK');
  t.strictSame(hear(ack()), [granted]);
  t.strictSame(hear(ack()), [], 'once');
  ask(dhcpv4.DISCOVER);
  t.strictSame(hear(ack()), [granted], 'rapid commit');
  ask();
  t.strictSame(
    hear(ack({ options: new Map([[53, Uint8Array.of(dhcpv4.ACK)]]) })),
    [],
    'no lease time, as to INFORM',
  );
  ask();
  t.strictSame(hear(ack({ yiaddr: '0.0.0.0' as Ipv4Address })), [], 'no address');
  ask();
  t.strictSame(
    hear(ack({}, dhcpv4.NAK)),
    [{ ...granted, ip: undefined, validS: 0 }],
    'refused: what it had is over',
  );
  for (let number = 1; number <= 9; number++) ask(dhcpv4.REQUEST_MESSAGE, { transactionId: number });
  t.strictSame(hear(ack({ transactionId: 1 })), [], 'eight questions are remembered');
  t.strictSame(hear(ack({ transactionId: 2 })), [granted]);
  t.end();
});

t.test('what a client gives up is told', (t) => {
  const { vtep, port } = leasing();
  port.protect(rules(['ip-nospoof'], { addresses: [{ ip: address('10.0.0.77'), bits: 32 }] }));
  const release = new Map([[dhcpv4.MESSAGE_TYPE, Uint8Array.of(dhcpv4.RELEASE)]]);
  port.send(dhcpFrame({ ciaddr: '10.0.0.77' as Ipv4Address, options: release }, { source: '10.0.0.77' }));
  t.match(vtep.leases.splice(0), [{ family: 4, ip: '10.0.0.77', validS: 0 }]);
  const decline = new Map([
    [dhcpv4.MESSAGE_TYPE, Uint8Array.of(dhcpv4.DECLINE)],
    [dhcpv4.REQUESTED_ADDRESS, Uint8Array.of(10, 0, 0, 78)],
  ]);
  port.send(dhcpFrame({ options: decline }));
  t.match(vtep.leases.splice(0), [{ family: 4, ip: '10.0.0.78', validS: 0 }]);
  t.end();
});

t.test('without ip-nospoof nothing is learned; without dhcp-nospoof any client id is', (t) => {
  const blind = leasing(['mac-nospoof', 'restricted']);
  blind.ask();
  t.strictSame(blind.hear(ack()), []);
  const { hear, port } = leasing();
  port.send(dhcpFrame({ options: option(61, 0xff, 1, 2, 3, 4) }));
  t.equal(hear(ack()).length, 1);
  t.end();
});

t.test('DHCPv6 leases', (t) => {
  const { hear, port } = leasing();
  const iaAddress = (ip: string, validS: string) => `00050018${hex(fromHex(ip))}00000e10${validS}`;
  const association = (...addresses: string[]) => {
    const inner = `00000001 00000000 00000000`.replaceAll(' ', '') + addresses.join('');
    return `0003${(inner.length / 2).toString(16).padStart(4, '0')}${inner}`;
  };
  const lease = 'fd000000000000000000000000000077';
  const reply = (options: string, transaction = '0a0b0c', type = 7) =>
    dhcpV6(type, options, { to: MAC.a, from: MAC.b, source: 'fe80::1', ports: [547, 546] }, transaction);
  const good = association(iaAddress(lease, '00001c20'));
  t.strictSame(hear(reply(good)), [], 'not asked for');
  port.send(dhcpV6(3, duid('0003 0001 02a1a2a3a40a')));
  t.strictSame(hear(reply(good, '0a0b0d')), [], 'another transaction');
  t.strictSame(hear(reply(good, '0a0b0c', 2)), [], 'advertised, not granted');
  t.match(hear(reply(good)), [{ family: 6, ip: 'fd00::77', validS: 7200 }]);
  port.send(dhcpV6(5, ''));
  const two = association(iaAddress(lease, '00000000'), iaAddress(lease.replace('77', '78'), 'ffffffff'));
  t.match(hear(reply(two)), [
    { ip: 'fd00::77', validS: 0 },
    { ip: 'fd00::78', validS: 0xffff_ffff },
  ]);
  port.send(dhcpV6(1, ''));
  t.strictSame(hear(reply('000300050000000100')), [], 'an association cut off');
  port.send(dhcpV6(8, good));
  t.match(port.net.vtep.leases.splice(0), [{ family: 6, ip: 'fd00::77', validS: 0 }], 'released');
  t.end();
});

/** IA_NA with so many addresses (RFC 8415 21.4, 21.6). */
const manyAddresses = (count: number): string => {
  const address = (index: number): string =>
    `00050018fd${'00'.repeat(13)}${index.toString(16).padStart(4, '0')}00000e1000001c20`;
  const inner = '00'.repeat(12) + Array.from({ length: count }, (_, index) => address(index + 1)).join('');
  return `0003${(inner.length / 2).toString(16).padStart(4, '0')}${inner}`;
};

t.test(
  'what one port can make the control side hear is bounded, and nothing goes out that it has not heard',
  (t) => {
    const { net, vtep, peer, port } = leasing();
    const told = () => vtep.leases.splice(0).length;
    const left = () => peer.take().length;
    const release = (count: number) => dhcpV6(8, manyAddresses(count));

    port.send(release(40));
    t.strictSame([told(), left()], [40, 1]);
    port.send(release(40));
    t.strictSame([told(), left()], [0, 0], 'all of it or nothing');
    t.strictSame(net.drops, { dhcp_flood: 1 });
    t.equal(port.counters.dhcp_flood, 1);
    port.send(release(24), dhcpV6(3, ''), dhcpV6(9, manyAddresses(1)));
    t.strictSame([told(), left()], [24, 1], 'up to the bound; questions and what is declined count too');
    const released = new Map([[dhcpv4.MESSAGE_TYPE, Uint8Array.of(dhcpv4.RELEASE)]]);
    port.send(dhcpFrame({ options: released }), dhcpFrame());
    t.strictSame([told(), left()], [0, 0], 'DHCPv4 as well');
    t.strictSame(net.drops, { dhcp_flood: 5 });

    vtep.engine.setTime(1000);
    port.send(...Array.from({ length: 100 }, () => dhcpFrame({ options: released })));
    t.strictSame([told(), left()], [64, 64], 'a second later there is room again');
    t.strictSame(net.drops, { dhcp_flood: 41 });

    vtep.engine.setTime(2000);
    const padding = `ff002328${'00'.repeat(0x2328)}`;
    port.send(dhcpV6(8, manyAddresses(60) + padding));
    t.strictSame(
      [told(), net.drops],
      [0, { dhcp_flood: 41, tx_too_big: 1 }],
      'what does not fit gives nothing up',
    );
    port.send(release(60));
    t.strictSame([told(), left()], [60, 1], 'and takes no room');
    t.end();
  },
);

t.test('of an answer no more is believed than a port may have', (t) => {
  const { hear, port } = leasing();
  const from = { to: MAC.a, from: MAC.b, source: 'fe80::1', ports: [547, 546] } as const;
  const granted = () => {
    port.send(dhcpV6(3, ''));
    return hear(dhcpV6(7, manyAddresses(100), from)).length;
  };
  t.strictSame([granted(), granted()], [63, 0]);
  t.end();
});
