// The last state of a snapshot on disk: a start while the store is away; and a snapshot that takes longer than a start may.
import { existsSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import path from 'node:path';
import t from 'tap';

import { StateFile, StateSaver } from '../../src/plugin/index.js';
import {
  ask,
  json,
  mac,
  macText,
  ReferenceStore,
  scratch,
  serve,
  startHttp,
  VNETID,
} from '../helpers/http-store.js';
import { skipUnless } from '../helpers/need.js';
import { waitUntil } from '../helpers/process.js';
import { TableHost } from '../helpers/table-host.js';

const skip = skipUnless({ programs: ['python3'] });
const A = { ip: '10.88.88.70', port: 4789 };
const B = { ip: '10.88.88.71', port: 4789 };
const NETWORK = `/v1/networks/${VNETID}`;

t.test('a state file: whole, of another program, damaged, absent', async (t) => {
  const file = path.join(scratch(t), 'one.state');
  const state = new StateFile(file);
  const lines: unknown[] = [];
  const read = (isWanted = true): Promise<boolean> => {
    lines.length = 0;
    return state.read(
      (header) => {
        lines.push(header);
        return isWanted;
      },
      (line) => {
        lines.push(line);
      },
    );
  };
  t.equal(await read(), false, 'absent');
  // Lines that cross the chunks, and characters that do.
  const values = [
    { format: 'f' },
    ...Array.from({ length: 20_000 }, (_, index) => [index, '€'.repeat(index % 90)]),
  ];
  await state.write(values);
  t.equal(await read(), true);
  t.same(lines, values);
  t.equal(await read(false), false, 'not wanted');
  t.same(lines, values.slice(0, 1));
  const bytes = readFileSync(file);
  const damaged: [string, Buffer][] = [
    ['cut', bytes.subarray(0, -100)],
    ['without its checksum', bytes.subarray(0, -67)],
    ['longer', Buffer.concat([bytes, bytes.subarray(-67)])],
    ['empty', Buffer.alloc(0)],
    ['another value', Buffer.from(bytes.toString().replace('[19999,', '[19998,'))],
  ];
  for (const [name, contents] of damaged) {
    writeFileSync(file, contents);
    await t.rejects(read(), name);
  }
  await t.rejects(new StateFile(path.join(file, 'x')).write([]), 'no such directory');

  // Nothing fits on /dev/full, and the error of the first chunk comes while later ones are made.
  await state.write(values);
  symlinkSync('/dev/full', `${file}.tmp`);
  await t.rejects(state.write([...values, ...values, ...values]), { code: 'ENOSPC' }, 'a full disk');
  t.equal(await read(), true, 'the file before stays');
  t.equal(existsSync(`${file}.tmp`), false);
});

t.test('a state that cannot be saved: one sentence for a series of failures', async (t) => {
  const said: string[] = [];
  let trouble: string | undefined = 'full';
  let writes = 0;
  const saver = (): StateSaver =>
    new StateSaver(
      async () => {
        writes++;
        await Promise.resolve();
        if (trouble !== undefined) throw new Error(trouble);
      },
      ({ message }) => said.push(message),
    );
  const one = saver();
  const save = async (): Promise<void> => {
    const before = writes;
    one.changed();
    await waitUntil(() => writes > before, { what: 'a write', timeoutMs: 20_000 });
  };
  await save();
  await save();
  t.strictSame(said, ['full']);
  trouble = undefined;
  await save();
  trouble = 'full';
  one.changed();
  await one.end(true);
  t.strictSame(said, ['full', 'full'], 'after a good write it is said again');
});

t.test('a start while the store is away', { skip }, async (t) => {
  const store = await ReferenceStore.start(t, ['--keep-alive', '0.5']);
  const stateDir = scratch(t);
  const files = (): string[] => readdirSync(stateDir).filter((name) => name.endsWith('.state'));
  const stateOf = (text: string): boolean =>
    files().length === 1 && readFileSync(path.join(stateDir, files()[0]), 'utf8').includes(text);
  await store.put(macText(1), { ...A, arp: '10.0.0.1', 'dhcp-proxy': macText(9) });
  await store.put(macText(2), { ...A, arp: ['10.0.0.2', '10.0.0.3'], ndp: 'fd00::2' });
  const first = await startHttp(t, store.url, { mode: 'snapshot' }, new TableHost(stateDir));
  await waitUntil(() => stateOf('10.0.0.3'), { what: 'the state on disk' });
  await store.put(macText(3), B);
  await waitUntil(() => first.host.snapshot?.targets.has(mac(3)) === true, { what: 'a change' });
  first.host.end();
  await first.instance.stop();
  t.ok(stateOf('10.88.88.71'), 'a small state is saved at the end as well');

  await store.remove(macText(1));
  await store.put(macText(4), B);
  await store.kill();
  const host = new TableHost(stateDir);
  const { instance } = await startHttp(t, store.url, { mode: 'snapshot', protect: 'on' }, host);
  t.equal(host.snapshot?.targets.size, 3);
  t.same([...(host.snapshot?.addresses ?? [])].sort(), [
    ['10.0.0.1', mac(1)],
    ['10.0.0.2', mac(2)],
    ['10.0.0.3', mac(2)],
    ['fd00::2', mac(2)],
  ]);
  t.same(host.peers, ['10.88.88.70', '10.88.88.71']);
  t.equal(await instance.dhcpServer(mac(1)), mac(9));
  t.match(await ask(instance, mac(3)), { kind: 'target', to: B });
  instance.ports([mac(2)]);
  await waitUntil(() => host.allowed !== undefined, { what: 'the addresses of a port' });
  t.match(host.allowed, [{ mac: mac(2), ips: ['10.0.0.2', '10.0.0.3', 'fd00::2'] }]);
  await waitUntil(() => host.degraded !== undefined, { what: 'a sentence about the store' });
  t.match(host.degraded, /changes do not arrive: .* cannot be reached/);
  await store.start();
  await waitUntil(() => host.snapshot?.targets.has(mac(4)) === true, { what: 'the change from before' });
  t.notOk(host.snapshot?.targets.has(mac(1)), 'and the removal');
  await waitUntil(() => host.degraded === undefined, { what: 'health' });
  t.equal(host.snapshots, 1, 'the stream has brought the changes');

  const other = await ReferenceStore.start(t);
  const elsewhere = new TableHost(stateDir);
  await startHttp(t, other.url, { mode: 'snapshot' }, elsewhere);
  t.equal(elsewhere.snapshot?.targets.size, 0, 'the state of another store is not used');

  writeFileSync(path.join(stateDir, files()[0]), '{}\n');
  const again = new TableHost(stateDir);
  await startHttp(t, store.url, { mode: 'snapshot' }, again);
  t.match(
    again.lines.find((line) => line.startsWith('warn')),
    /the state of .* on disk is not used: /,
  );
  t.equal(again.snapshot?.targets.size, 3, 'a damaged one is not either');
});

t.test('a snapshot that takes longer than a start', async (t) => {
  const line = (index: number): string =>
    `${JSON.stringify({ [macText(index)]: { ...A, arp: `10.0.0.${index}` } })}\n`;
  let open: ServerResponse | undefined;
  const url = await serve(t, (request, response) => {
    if (request.url === `${NETWORK}/entries`) {
      open = response;
      response.write(line(1));
    } else if (request.url === NETWORK) json(response, { vteps: [A, B] });
    else if (request.url === `${NETWORK}/macs/${macText(2).replaceAll(':', '-')}`) json(response, B);
    else if (request.url === `${NETWORK}/ips/10.0.0.2`) json(response, { mac: macText(2) });
    else if (request.url === `${NETWORK}/changes`)
      response.writeHead(200, { 'content-type': 'text/event-stream' });
    else {
      response.writeHead(404, { 'content-type': 'application/problem+json' });
      response.end('{"code": "unknown"}');
    }
  });
  const { host, instance } = await startHttp(t, url, { mode: 'snapshot' });
  t.equal(host.snapshot, undefined, 'the start has not waited for the end');
  t.match(await ask(instance, mac(2)), { kind: 'target', to: B }, 'the store is asked');
  t.match(await ask(instance, mac(3)), { kind: 'drop' });
  t.equal(await instance.neighbor('10.0.0.2' as never), mac(2));
  await waitUntil(() => host.peers.length === 2, { what: 'the peers' });
  open?.end(`${line(2)}{"revision": "r1", "entries": 2}\n`);
  await waitUntil(() => host.snapshot !== undefined, { what: 'the snapshot' });
  t.equal(host.snapshot?.targets.size, 2);
  t.match(await ask(instance, mac(2)), { kind: 'target', to: A }, 'and then the snapshot');
  t.equal(host.degraded, undefined);
});
