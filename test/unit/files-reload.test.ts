// The files plugin: a file that changes. Only what has changed is told, and what is not good changes nothing.

import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';

import { MAX_FILE_BYTES } from '../../plugins/files/read.js';
import { ask, startFiles } from '../helpers/mapping.js';
import {
  root,
  type Entry,
  text,
  mac,
  forgotten,
  ip,
  type Scene,
  scene,
  until,
  portOf,
} from '../helpers/files-scene.js';
import { TableHost } from '../helpers/table-host.js';

// -- A file that changes

t.test('only what has changed is told', async (t) => {
  const before: Record<string, Entry> = {
    '01': { arp: '10.0.0.1', ndp: 'fe80::1' },
    '02': { arp: '10.0.0.2', ndp: 'fe80::2' },
    '03': { arp: '10.0.0.3' },
    '04': {},
    '05': {},
    '06': { arp: ['10.0.0.6', '10.0.0.66'] },
  };
  const { host, instance, replace } = await scene(t, before);
  host.onInvalidate = (mac) => {
    const now = ask(instance, mac);
    if (now.kind === 'target')
      t.ok(
        host.peers.some((peer) => peer === now.to.ip),
        'its place is a peer when it is asked about',
      );
  };
  replace({
    '06': { arp: ['10.0.0.66', '10.0.0.6'] }, // another order: the same
    '01': { arp: '10.0.0.2', ndp: 'fe80::1' }, // takes an address
    '02': { arp: '10.0.0.22', ndp: 'fe80::2' }, // loses it, gets a new one
    '03': { ip: '10.88.88.71', arp: '10.0.0.3' }, // another place
    '04': { 'dhcp-proxy': '02:00:00:00:00:01' }, // another server
    '08': { ndp: 'fe80::8' }, // new
    '09': { arp: '10.0.0.1' }, // new, and takes an address
  });
  await until(t, 'it is told', () => host.remarked !== undefined);
  t.same([...host.peers].sort(), ['10.88.88.70', '10.88.88.71']);
  t.same(forgotten(host), [3, 5, 8, 9], 'no other MAC is asked about again');
  t.same(
    new Map(host.announced),
    new Map([
      ['10.0.0.2', mac(1)],
      ['10.0.0.1', mac(9)],
    ]),
    'who took an address is announced',
  );
  t.equal(host.told, 7, 'each once');
  t.match(
    host.remarked,
    /hosts\.json read again: \+2 -1 ~4 entries, 7 now, at \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/,
  );
  t.match(host.lines.at(-1), /^info .* read again: \+2 -1 ~4 entries, 7 now$/);
  t.equal(host.degraded, undefined);

  host.lines.length = 0;
  await instance.reload();
  t.match(host.lines, [/^info .* read again: the same 7 entries$/]);
  t.equal(host.told, 7, 'nothing has changed: nothing is told');
});

/** Each changes the one entry from port 1 to port 2. */
const WAYS: [what: string, change: (scene: Scene) => void | Promise<void>][] = [
  [
    'renamed over',
    ({ replace }) => {
      replace({ '01': { port: 2 } });
    },
  ],
  [
    'written in place',
    ({ file }) => {
      writeFileSync(file, text({ '01': { port: 2 } }));
    },
  ],
  [
    'deleted and made again',
    ({ file }) => {
      rmSync(file);
      writeFileSync(file, text({ '01': { port: 2 } }));
    },
  ],
  [
    'replaced by a symbolic link',
    ({ directory, file }) => {
      writeFileSync(path.join(directory, 'other.json'), text({ '01': { port: 2 } }));
      rmSync(file);
      symlinkSync('other.json', file);
    },
  ],
  [
    'in a directory that was made again',
    ({ directory, file }) => {
      renameSync(directory, `${directory}.old`);
      mkdirSync(directory);
      writeFileSync(file, text({ '01': { port: 2 } }));
    },
  ],
  [
    'half written, then completed',
    async ({ file }) => {
      const whole = text({ '01': { port: 2 } });
      writeFileSync(file, whole.slice(0, 20));
      await sleep(300);
      appendFileSync(file, whole.slice(20));
    },
  ],
];

for (const [what, change] of WAYS) {
  t.test(`a file that is ${what}`, async (t) => {
    const set = await scene(t, { '01': { port: 1 } });
    await change(set);
    await until(t, 'is read', () => portOf(set.instance, 1) === 2);
    await until(
      t,
      'and all is well',
      () => set.host.degraded === undefined && set.host.remarked !== undefined,
    );
    t.same([forgotten(set.host), set.host.told], [[1], 1]);
  });
}

t.test('a symbolic link further up that is switched', async (t) => {
  const directory = path.join(root, 'links');
  for (const [name, port] of [
    ['one', 1],
    ['two', 2],
  ] as const) {
    mkdirSync(path.join(directory, name), { recursive: true });
    writeFileSync(path.join(directory, name, 'hosts.json'), text({ '01': { port } }));
  }
  // As Kubernetes lays out a ConfigMap: hosts.json -> ..data/hosts.json, ..data -> the directory in force.
  symlinkSync('one', path.join(directory, '..data'));
  symlinkSync('..data/hosts.json', path.join(directory, 'hosts.json'));
  const host = new TableHost();
  const instance = await startFiles(host, path.join(directory, 'hosts.json'));
  t.teardown(() => instance.stop());
  symlinkSync('two', path.join(directory, '..tmp'));
  renameSync(path.join(directory, '..tmp'), path.join(directory, '..data'));
  await until(t, 'is read', () => portOf(instance, 1) === 2);
});

/** Each makes the file unusable; the degraded sentence that follows. */
const SPOILED: [what: string, spoil: (scene: Scene) => void, sentence: RegExp][] = [
  [
    'deleted',
    ({ file }) => {
      rmSync(file);
    },
    /hosts\.json is not there$/,
  ],
  [
    'replaced by a directory',
    ({ file }) => {
      rmSync(file);
      mkdirSync(file);
    },
    /is a directory, not a file$/,
  ],
  [
    'replaced by a FIFO',
    ({ file }) => {
      rmSync(file);
      execFileSync('mkfifo', [file]);
    },
    /is a FIFO, not a file$/,
  ],
  [
    'truncated',
    ({ file }) => {
      truncateSync(file);
    },
    /hosts\.json:1:1: found the end of the file, expected '\{'$/,
  ],
  [
    'no mapping any more',
    ({ file }) => {
      writeFileSync(file, '{\n"02:00:00:00:00:01": {"ip": "10.0.0.1", "port": 0}, "x": 1}');
    },
    /hosts\.json:2:49: found a number or a word, expected .* \(and 2 more: dladm check-mapping/,
  ],
  [
    'too large',
    ({ file }) => {
      truncateSync(file, MAX_FILE_BYTES + 1);
    },
    /bytes, at most \d+ are read$/,
  ],
  [
    'a symbolic link to itself',
    ({ file }) => {
      rmSync(file);
      symlinkSync('hosts.json', file);
    },
    /cannot be read: too many symbolic links$/,
  ],
];

for (const [what, spoil, sentence] of SPOILED) {
  t.test(`a file that is ${what}: the last good one stays in use`, async (t) => {
    const set = await scene(t, { '01': { port: 1 } });
    const { host, instance, file, replace } = set;
    spoil(set);
    await until(t, 'degraded', () => host.degraded !== undefined);
    t.match(host.degraded, sentence);
    t.equal(portOf(instance, 1), 1);
    await t.rejects(instance.reload(), { message: sentence });
    await t.rejects(instance.reload(), { message: sentence });
    const complaints = host.lines.filter((line) =>
      line.includes('is refused: the mapping read before stays in use'),
    );
    t.equal(complaints.length, 1, 'one complaint a change');
    t.equal(host.told, 0);
    rmSync(file, { recursive: true, force: true });
    replace({ '01': { port: 2 } });
    await until(t, 'recovers by itself', () => host.degraded === undefined && portOf(instance, 1) === 2);
  });
}

t.test('what was good again is restored, though nothing changed', async (t) => {
  const { host, file, instance } = await scene(t, { '01': {} });
  const good = readFileSync(file);
  writeFileSync(file, '[]');
  await until(t, 'degraded', () => host.degraded !== undefined);
  writeFileSync(file, good);
  await until(t, 'restored', () => host.degraded === undefined);
  t.equal(host.told, 0);
  t.equal(portOf(instance, 1), 4789);
});

t.test('a thousand renames: never a wrong answer, and the last one counts', async (t) => {
  const { host, instance, replace } = await scene(t, { '01': { port: 1 }, '02': {} });
  let wrong = 0;
  for (let port = 2; port <= 1001; port++) {
    replace({ '01': { port }, '02': {} });
    const now = portOf(instance, 1);
    if (now === undefined || now > port || portOf(instance, 2) !== 4789) wrong++;
    if (port % 10 === 0) await sleep(1);
  }
  t.equal(wrong, 0);
  await until(t, 'the last one is in force', () => portOf(instance, 1) === 1001);
  await until(t, 'and settled', () => host.remarked !== undefined);
  t.equal(host.degraded, undefined);
  t.same(
    [forgotten(host), host.announced.length, host.rules, host.peers],
    [[1], 0, 0, ['10.88.88.70']],
    'the other MAC is left alone',
  );
});

t.test('a mapping that has lost most of its entries', async (t) => {
  const all = { '01': {}, '02': {}, '03': {}, '04': {} };
  const { host, instance, file } = await scene(t, all);
  const noteWith = async (entries: object): Promise<string | undefined> => {
    writeFileSync(file, text(entries as typeof all));
    await instance.reload();
    return host.noted;
  };
  t.equal(await noteWith({ '01': {}, '02': {} }), undefined, 'half of them');
  t.equal(await noteWith(all), undefined);
  t.match(await noteWith({ '01': {} }), /hosts\.json has lost most of its entries: 4 before, 1 now; /);
  t.match(await noteWith({ '02': {} }), /4 before, 1 now/, 'others, and no more of them');
  t.match(await noteWith({}), /4 before, 0 now/);
  t.equal(await noteWith({ '01': {} }), undefined, 'it has grown');
  t.match(await noteWith({}), /1 before, 0 now/);
  t.equal(await noteWith(all), undefined);
});

t.test('files beside it are none of its business', async (t) => {
  const { directory, host } = await scene(t, { '01': {} });
  host.lines.length = 0;
  for (let count = 0; count < 20; count++) writeFileSync(path.join(directory, `other${count}`), 'x');
  await sleep(700);
  t.same(host.lines, []);
});

t.test('reloads that overlap', async (t) => {
  const { instance, file } = await scene(t, { '01': { port: 1 } });
  const first = instance.reload();
  writeFileSync(file, text({ '01': { port: 2 } }));
  await Promise.all([first, instance.reload(), instance.reload()]);
  t.equal(portOf(instance, 1), 2, 'who asks is told of what is in the file at that moment');
});

t.test('after the end nothing is told', async (t) => {
  const { host, instance, replace } = await scene(t, { '01': { port: 1 } });
  const reloading = instance.reload();
  await instance.stop();
  await reloading;
  replace({ '01': { port: 2 } });
  await sleep(800);
  t.same([host.told, host.degraded, host.remarked], [0, undefined, undefined]);
});

t.test('lookups are answered while a large file is read', async (t) => {
  const { host, instance, file } = await scene(t, { '01': {} });
  const rows = Array.from({ length: 60_000 }, (_, at) => {
    const low = [at >> 16, (at >> 8) & 255, at & 255];
    const name = low.map((byte) => byte.toString(16)).join(':');
    return `"2:0:1:${name}": {"ip": "10.88.88.70", "port": 4789, "arp": "10.${low.join('.')}", "ndp": "fd00::${name}"}`;
  });
  writeFileSync(file, `{${rows.join(',\n')}}`);
  const reloading = instance.reload();
  let isDone = false;
  void reloading.then(() => (isDone = true));
  let turns = 0;
  for (; !isDone; turns++) await sleep(0);
  t.ok(turns > 5, `${turns} turns of the event loop meanwhile`);
  t.match(host.remarked, '+60000 -1 ~0 entries, 60000 now');
  t.equal(instance.neighbor(ip('10.0.1.0')), 0x0200_0100_0100);
});
