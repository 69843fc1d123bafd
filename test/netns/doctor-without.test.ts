// dladm doctor on a host without varpd: what keeps varpd from a start is found under its code, and nothing else is.
import { writeFileSync } from 'node:fs';
import path from 'node:path';

import t, { type Test } from 'tap';

import type { Code } from '../../src/cli/doctor/finding.js';
import { DLADM_MAIN } from '../helpers/daemon.js';
import { doctor, type Fault, hasFault, type Place } from '../helpers/doctor.js';
import { skipUnlessNetns } from '../helpers/need.js';
import { addKernelVxlan, Bed } from '../helpers/netns.js';
import { run, waitUntil } from '../helpers/process.js';

await t.test('a host without varpd', { skip: skipUnlessNetns(['nft', 'setpriv', 'python3']) }, async (t) => {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const [a, b] = await bed.twoHosts();
  const directory = bed.directory();
  const config = path.join(directory, 'varpd.yaml');
  const configure = (more: object): void => {
    writeFileSync(config, JSON.stringify({ stateDir: path.join(directory, 'state'), ...more }));
  };
  configure({});
  const tun = (mode: string): string =>
    `mount -t tmpfs -o mode=755 tmpfs /dev/net && mknod /dev/net/tun c 10 200 && chmod ${mode} /dev/net/tun`;
  const place: Place = { host: a, socket: path.join(directory, 'none.sock'), config, before: tun('666') };
  const only = async (t: Test, code: Code, expected: Fault, at: Partial<Place> = {}): Promise<void> => {
    const report = await doctor({ ...place, ...at });
    hasFault(t, report, code, expected);
    t.same(
      report.findings.filter(
        ({ status, code: other }) => status === 'fail' && other !== code && other !== 'VARPD',
      ),
      [],
      'nothing else fails',
    );
  };

  await t.test('VARPD: it does not run, and nothing else is wrong', (t) =>
    only(t, 'VARPD', { says: /no such socket/ }),
  );
  await t.test('TUN-DEVICE: there is none', (t) =>
    only(
      t,
      'TUN-DEVICE',
      { says: /there is no \/dev\/net\/tun/ },
      { before: 'mount -t tmpfs tmpfs /dev/net' },
    ),
  );
  await t.test('TUN-DEVICE: another device', (t) =>
    only(
      t,
      'TUN-DEVICE',
      { says: /is the device 1:3, not 10:200/ },
      { before: 'mount -t tmpfs -o mode=755 tmpfs /dev/net && mknod -m 666 /dev/net/tun c 1 3' },
    ),
  );
  await t.test('TUN-ACCESS', (t) =>
    only(t, 'TUN-ACCESS', { says: /may not open \/dev\/net\/tun: .* mode 600/ }, { before: tun('600') }),
  );
  await t.test('RIGHTS', (t) =>
    only(
      t,
      'RIGHTS',
      { says: /root included/ },
      { as: ['setpriv', '--bounding-set', '-net_admin', '--inh-caps', '-net_admin', '--'] },
    ),
  );
  await t.test('USER', async (t) => {
    configure({ user: 'varpd-nobody-has-this' });
    await only(t, 'USER', { says: /there is no user of that name/ });
    configure({});
  });
  await t.test('UDP-PORT', async (t) => {
    const program =
      "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('', 4789)); input()";
    const child = a.spawn(['python3', '-c', program], {}, 'pipe');
    const isTaken = async (): Promise<boolean> =>
      (await run(['ip', 'netns', 'exec', a.name, 'cat', '/proc/net/udp'])).stdout.includes(':12B5 ');
    await waitUntil(isTaken, { what: 'the port to be taken' });
    await only(t, 'UDP-PORT', {
      says: new RegExp(`UDP port 4789 is taken by python3 \\(process ${child.pid}\\)`),
    });
    await child.stop();
  });
  await t.test('KERNEL-TUNNEL', async (t) => {
    await addKernelVxlan(b, { vnetid: 42, local: b.underlay.v4, remote: a.underlay.v4, port: 6081 });
    await only(t, 'KERNEL-TUNNEL', { says: /vx0 is for UDP port 6081/ }, { host: b });
  });
  await t.test('lines, and columns', async (t) => {
    const shown = async (...args: readonly string[]) => {
      const line = `${tun('666')} && exec "$@"`;
      const command = ['sh', '-c', line, 'sh', process.execPath, DLADM_MAIN, 'doctor', '--config', config];
      return a.run([...command, ...args], { env: { VARPD_SOCKET: place.socket } });
    };
    const { code, stdout } = await shown();
    t.equal(code, 10);
    for (const row of stdout.trimEnd().split('\n')) t.match(row, /^(?:ok {2}|warn|fail|skip) [A-Z-]+ \S/);
    t.match(stdout, /^fail VARPD cannot reach varpd at .*no such socket.* -> start it: /m);
    const columns = (await shown('-p', '-o', 'status,code,about')).stdout;
    t.match(columns, /^fail:VARPD:--$/m);
    t.match(columns, /^ok:UDP-PORT:--$/m);
    t.match((await shown('-o', 'code,advice')).stdout, /^CODE +ADVICE\nOBSERVER +--\n/);
  });
  await t.test('bad arguments', async (t) => {
    const dladm = (...args: readonly string[]) => a.run([process.execPath, DLADM_MAIN, 'doctor', ...args]);
    for (const [args, status, says] of [
      [['a0', 'b0'], 2, /expected one overlay name/],
      [['--json', '-o', 'code'], 2, /may not be used together/],
      [['-p'], 2, /output fields must be specified/],
      [['--config', config, 'none0'], 4, /no overlay 'none0'/],
    ] as const) {
      const { code, stderr } = await dladm(...args);
      t.equal(code, status, args.join(' '));
      t.match(stderr, says);
    }
  });
});
