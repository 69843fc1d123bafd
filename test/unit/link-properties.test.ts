// Link properties as they are typed: read strictly, kept canonically.
import t from 'tap';
import { parseClientId, readLinkValues } from '../../src/model/link-properties.js';
import { hex } from '../helpers/lab.js';

t.test('link properties are read strictly and kept canonically', (t) => {
  const values = readLinkValues([
    ['protection', ['dhcp-nospoof', 'mac-nospoof']],
    ['allowed-ips', ['10.0.0.1', '2001:DB8::0/32']],
    ['allowed-dhcp-cids', ['0xABcd', 'hello', '2.9.0cc084d303000912', '3.1.2:8:20:a4:4d:ee']],
    ['dynamic-methods', ['dhcpv6']],
    ['allow-all-dhcp-cids', ['true']],
  ]);
  t.strictSame(values.get('protection'), ['mac-nospoof', 'dhcp-nospoof']);
  t.strictSame(values.get('allowed-ips'), ['10.0.0.1', '2001:db8::/32']);
  t.equal(values.get('allowed-dhcp-cids')?.length, 4);
  const refused = (name: string, ...texts: string[]) => {
    try {
      readLinkValues([[name, texts]]);
      return '';
    } catch (error) {
      return (error as Error).message;
    }
  };
  const bad: [name: string, ...texts: string[]][] = [
    ['protection', 'ip-spoof'],
    ['protection', 'ip-nospoof', 'ip-nospoof'],
    ['protection'],
    ['allowed-ips', '0.0.0.0'],
    ['allowed-ips', '::'],
    ['allowed-ips', '224.0.0.1'],
    ['allowed-ips', '10.0.0.1/24'],
    ['allowed-ips', '10.0.0.0/0'],
    ['allowed-ips', '10.0.0.0/33'],
    ['allowed-ips', '10.0.0.0/08'],
    ['allowed-ips', '2001:db8::1/64'],
    ['allowed-ips', '10.0.0.1', '10.0.0.1'],
    ['allowed-ips', ...Array.from({ length: 33 }, (_, n) => `10.0.0.${n + 1}`)],
    ['dynamic-methods', 'slaac'],
    ['allow-all-dhcp-cids', 'true', 'false'],
    ...[
      '0x0',
      '0xz',
      '0x',
      '1.1.12a34.90:b8:d0:81:91:30',
      '3.z.14:10:9f:d0:5b:d3',
      '2.32473.45a',
      '3.1.5.2:8:20:a4:4d:ee',
    ]
      .concat('4.1.45a', '', 'a'.repeat(256))
      .map((text): [string, string] => ['allowed-dhcp-cids', text]),
  ];
  for (const [name, ...texts] of bad)
    t.match(
      refused(name, ...texts),
      new RegExp(`^failed to set property ${name}: `),
      `${name}=${texts.join().slice(0, 40)}`,
    );
  t.equal(
    refused('mtu', '1400'),
    'failed to set property mtu: no such property, expected one of ' +
      'protection, allowed-ips, dynamic-methods, allowed-dhcp-cids, allow-all-dhcp-cids',
  );
  t.equal(
    refused('allowed_ip', '10.0.0.1'),
    'failed to set property allowed_ip: no such property: did you mean allowed-ips?',
  );
  t.equal(hex(parseClientId('1.6.1512434853.14:10:9f:d0:5b:d3')!), '000100065a25eca514109fd05bd3');
  t.equal(hex(parseClientId('2.9.0CC084D303000912')!), '0002000000090cc084d303000912');
  t.equal(hex(parseClientId('3.1.2:8:20:a4:4d:ee')!), '00030001020820a44dee');
  t.equal(hex(parseClientId('0xABcd')!), 'abcd');
  t.equal(hex(parseClientId('1234')!), '31323334');
  t.end();
});
