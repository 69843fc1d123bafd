// What is left after varpd was killed: at any moment, in the middle of a write, with its files spoilt, out of memory.
import { chownSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { Daemon, directOverlay, VARPD_MAIN } from '../../helpers/daemon.js';
import type { Bed, Namespace } from '../../helpers/netns.js';
import { type Exit, succeeds } from '../../helpers/process.js';
import { every } from '../../helpers/whole.js';
import { answersWithin, check, devicesOf, MISHAP, type Row, tunnel } from '../row.js';

/** What an operator would miss if it were different after a restart. */
async function remembered(daemon: Daemon): Promise<string> {
  const overlays = (await daemon.overlays()).map(({ name, properties }) => ({
    name,
    // An overlay that is made again has another number.
    properties: properties.flatMap(({ property, value }) =>
      property === 'varpd/id' ? [] : [[property, value]],
    ),
  }));
  const vnics = (await daemon.vnics()).map(({ name, over, mac, vid }) => ({ name, over, mac, vid }));
  return JSON.stringify({ overlays, vnics });
}

const killed: Row = {
  name: 'F1',
  fault: 'kill -9 under load, restart',
  async run(bed) {
    const { a, b, daemon } = await tunnel(bed);
    await daemon.ok('create-vnic -l overlay0 foo0');
    const before = await remembered(daemon);
    const mac = await a.macOf('overlay0');
    a.spawn(['ping', '-q', '-i', '0.002', b.overlay.v4]);
    await sleep(200);
    await daemon.kill();
    check(existsSync(daemon.socket), 'the socket file is left, as kill -9 leaves it');
    const startedMs = performance.now();
    await daemon.start();
    const upMs = Math.round(performance.now() - startedMs);
    await a.plumb('overlay0');
    const answerMs = await answersWithin(a, b.overlay.v4, 5000);
    check((await remembered(daemon)) === before, 'names, vnetids, properties and MACs are as they were');
    check((await a.macOf('overlay0')) === mac, 'so is the MAC of the overlay');
    const devices = (await devicesOf(a)).join();
    check(devices === 'foo0,lo,overlay0,under0', `no device is left over: ${devices}`);
    return `ready after ${upMs} ms, first answer ${answerMs} ms later`;
  },
};

// ---------------------------------------------------------------- in the middle of a write

const HOWS = ['before', 'after', 'half'] as const;

interface Change {
  readonly what: string;
  readonly make: (daemon: Daemon, at: { from: string; to: string }) => Promise<unknown>;
}

/** One after the other they lead back to where the first began. */
const CHANGES: readonly Change[] = [
  {
    what: 'create-overlay',
    make: (daemon, { from, to }) =>
      daemon.call('overlay.create', {
        name: 'made0',
        encap: 'vxlan',
        search: 'direct',
        vnetid: 77,
        temporary: false,
        properties: [
          ['vxlan/listen_ip', from],
          ['direct/dest_ip', to],
          ['direct/dest_port', '4789'],
        ],
      }),
  },
  {
    what: 'create-vnic',
    make: (daemon) =>
      daemon.call('vnic.create', { name: 'vnic0', over: 'made0', mac: '2:0:0:0:0:c1', temporary: false }),
  },
  {
    what: 'set-linkprop',
    make: (daemon) =>
      daemon.call('linkprop.set', {
        name: 'vnic0',
        temporary: false,
        properties: [['protection', ['mac-nospoof']]],
      }),
  },
  {
    what: 'delete-vnic',
    make: (daemon) => daemon.call('vnic.delete', { name: 'vnic0', temporary: false }),
  },
  {
    what: 'delete-overlay',
    make: (daemon) => daemon.call('overlay.delete', { name: 'made0', temporary: false }),
  },
];

async function stateOf(daemon: Daemon): Promise<string> {
  const { rows } = await daemon.call('linkprop.list', { properties: ['protection'], persistent: true });
  return (await remembered(daemon)) + JSON.stringify(rows.map(({ link, value }) => [link, value]));
}

/** Kills varpd before, in and after every write of the first `changes` changes, or at every `nth` of these moments, until so many
 * kills were survived. */
async function killAtWrites(bed: Bed, changes: number, kills: number, nth = 1): Promise<string> {
  const [a, b] = await bed.twoHosts();
  const order = path.join(bed.directory(), 'order');
  const env: Record<string, string> = { LD_PRELOAD: MISHAP, MISHAP: order };
  const daemon = new Daemon(bed, a, { env });
  env['MISHAP_DIR'] = daemon.stateDir;
  await daemon.start();
  await daemon.ok(directOverlay({ from: a.underlay.v4, to: b.underlay.v4, name: 'kept0' }));
  const make = (index: number): Promise<unknown> =>
    CHANGES[index].make(daemon, { from: a.underlay.v4, to: b.underlay.v4 });
  /** states[n] is there before change n, states[n + 1] after it. */
  const states = [await stateOf(daemon)];
  for (const index of CHANGES.keys()) {
    await make(index);
    states.push(await stateOf(daemon));
  }
  check(states[0] === states.at(-1), 'the changes lead back to where they began');

  let killed = 0;
  let writes = 0;
  while (killed < kills) {
    for (let index = 0; index < changes; index++) {
      const [old, fresh] = [states[index], states[index + 1]];
      let isDone = false;
      for (let step = 1; !isDone; step++) {
        for (const how of HOWS.filter((_, index) => (index + step) % nth === 0)) {
          const when = `${CHANGES[index].what}, killed ${how} write ${step}`;
          writeFileSync(order, `kill ${how} ${step}`);
          const isAnswered = await succeeds(make(index));
          rmSync(order);
          if (isAnswered) {
            isDone = true; // there is no write of this number
            writes = Math.max(writes, step - 1);
            break;
          }
          const exit = (await daemon.ended()) as Exit;
          check(exit.signal === 'SIGKILL', `${when}: killed, and not ended in another way`);
          killed++;
          await daemon.start();
          const now = await stateOf(daemon);
          check(now === old || now === fresh, `${when}: the old state or the new, not ${now}`);
          await expectNothingLeft(daemon, a, when);
          if (now === old) continue;
          for (let next = index + 1; next < CHANGES.length; next++) await make(next);
          for (let next = 0; next < index; next++) await make(next);
        }
      }
    }
    // All that are not killed: the next round begins where the first did.
    for (let index = changes; index < CHANGES.length; index++) await make(index);
  }
  return `${killed} kills at up to ${writes} writes a change: each time the old state or the new, nothing left over`;
}

async function expectNothingLeft(daemon: Daemon, host: Namespace, when: string): Promise<void> {
  const left = readdirSync(daemon.stateDir).filter(
    (name) => !/^(lock|links|snapshot|plugins\.sock|[a-z0-9]+\.json)$/.test(name),
  );
  check(left.length === 0, `${when}: nothing half written is left: ${left.join()}`);
  const overlays = (await daemon.overlays()).map(({ name }) => name);
  const vnics = (await daemon.vnics()).map(({ name }) => name);
  const wanted = ['lo', 'under0', ...overlays, ...vnics].sort().join();
  const found = (await devicesOf(host)).join();
  check(found === wanted, `${when}: the devices are ${wanted}, not ${found}`);
}

const KILLS = 200;

const killedWriting: Row = {
  name: 'F2',
  fault: 'kill -9 before, in and after every write of create, delete and set',
  run: (bed) => killAtWrites(bed, CHANGES.length, KILLS),
};

/** The part of it that `npm test` has. */
export const killedCreating: Row = {
  ...killedWriting,
  fault: 'kill -9 before, in and after every write of create-overlay',
  run: (bed) => killAtWrites(bed, 1, 1, every(HOWS.length)),
};

// ---------------------------------------------------------------- files that are no good

const spoilt: Row = {
  name: 'F3',
  fault: 'state file truncated, empty, garbage, of a future version, of another owner',
  async run(bed) {
    const [a, b] = await bed.twoHosts();
    const daemon = await Daemon.start(bed, a);
    const spoils: readonly ((file: string) => void)[] = [
      (file) => {
        writeFileSync(file, readFileSync(file).subarray(0, 100));
      },
      (file) => {
        writeFileSync(file, '');
      },
      (file) => {
        writeFileSync(file, '\0\xff{]garbage');
      },
      (file) => {
        writeFileSync(file, readFileSync(file, 'utf8').replace('"version": 1', '"version": 99'));
      },
      (file) => {
        chownSync(file, 65534, 65534);
      },
      (file) => {
        rmSync(file);
        mkdirSync(file);
      },
    ];
    const names = spoils.map((_, index) => `bad${index}`);
    for (const [index, name] of [...names, 'good0'].entries())
      await daemon.ok(
        directOverlay(
          { from: a.underlay.v4, to: b.underlay.v4, name, vnetid: 100 + index },
          '-p vxlan/source_ports=1',
        ),
      );
    await daemon.stop();
    for (const [index, spoil] of spoils.entries()) spoil(path.join(daemon.stateDir, `bad${index}.json`));
    await daemon.start();
    check((await daemon.overlays()).map(({ name }) => name).join() === 'good0', 'the others start');
    const kept = readdirSync(daemon.stateDir);
    for (const name of names) {
      check(kept.includes(`${name}.bad-1`), `${name} is set aside, not deleted`);
      check(daemon.log().includes(`${name}.json: `), `${name} is reported`);
    }
    return `${names.length} files set aside and reported, the good one started`;
  },
};

// ---------------------------------------------------------------- two of them

const twice: Row = {
  name: 'F18',
  fault: 'two daemons in one place',
  async run(bed) {
    const { a, b, daemon } = await tunnel(bed);
    const command = [process.execPath, VARPD_MAIN, '--config', daemon.configFile, '--foreground'];
    const second = await a.run(daemon.startable(command), { timeoutMs: 15_000 });
    check(second.code === 7, 'the second ends with status 7');
    check(/another varpd \(process \d+\) uses/.test(second.stderr), `it says why: ${second.stderr.trim()}`);
    await answersWithin(a, b.overlay.v4, 3000);
    return second.stderr.trim().slice(0, 60);
  },
};

// ---------------------------------------------------------------- out of memory

const outOfMemory: Row = {
  name: 'F21',
  fault: 'SIGABRT, as V8 ends a program at its heap limit',
  quick: true,
  async run(bed) {
    const { a, b, daemon } = await tunnel(bed);
    await daemon.ok(directOverlay({ from: a.underlay.v4, to: b.underlay.v4, name: 'other0', vnetid: 7 }));
    const startedMs = performance.now();
    daemon.signal('SIGABRT');
    const tookMs = Math.round(performance.now() - startedMs);
    const exit = (await daemon.ended()) as Exit;
    check(exit.code !== 0, 'it does not end with status 0');
    await daemon.start();
    await a.plumb('overlay0', { v6: false });
    await answersWithin(a, b.overlay.v4, 5000);
    check((await daemon.overlays()).length === 2, 'both overlays are back');
    return `ended with ${exit.signal ?? `status ${exit.code ?? '?'}`} after ${tookMs} ms, started again cleanly`;
  },
};

export const crashRows: readonly Row[] = [killed, killedWriting, spoilt, twice, outOfMemory];
