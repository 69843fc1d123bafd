// varpd killed at every step of rename-link: of the disk, and of what the service manager is told.
import { rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import { Daemon, directOverlay } from '../../helpers/daemon.js';
import type { Bed, Namespace } from '../../helpers/netns.js';
import { succeeds } from '../../helpers/process.js';
import { Manager } from '../../helpers/service-manager.js';
import { check, devicesOf, MISHAP, type Row, untilHealth } from '../row.js';

/** A varpd that is killed, and started again. */
interface Service {
  readonly daemon: Daemon;
  start(): Promise<void>;
  /** Resolves when the one that was killed has ended, and the next one has tried every overlay. */
  next(): Promise<void>;
}

type Began = (bed: Bed, host: Namespace, order: string) => Service;

const withPersistentTaps: Began = (bed, host, order) => {
  const env: Record<string, string> = { LD_PRELOAD: MISHAP, MISHAP: order };
  const daemon = new Daemon(bed, host, { env, config: { persistTaps: true } });
  env['MISHAP_DIR'] = daemon.stateDir;
  return {
    daemon,
    start: () => daemon.start(),
    async next() {
      check((await daemon.ended())?.signal === 'SIGKILL', 'killed, and not ended in another way');
      await daemon.start();
    },
  };
};

const underManager: Began = (bed, host, order) => {
  const stateDir = path.join(bed.directory(), 'state');
  const env = { LD_PRELOAD: MISHAP, MISHAP: order, MISHAP_DIR: stateDir };
  const manager = new Manager(bed, host, env, { config: { stateDir } });
  const { daemon } = manager;
  let starts = 1;
  return {
    daemon,
    async start() {
      await manager.ready(starts);
      await daemon.settled();
    },
    next() {
      starts++;
      manager.kill();
      return this.start();
    },
  };
};

interface Link {
  readonly ifname: string;
  readonly ifindex: number;
  readonly addr_info: readonly { readonly local: string }[];
}

async function linkOf(host: Namespace, device: string): Promise<string> {
  const [{ ifindex, addr_info }] = JSON.parse(await host.ip(`-j -4 addr show dev ${device}`)) as [Link];
  return JSON.stringify([ifindex, addr_info.map(({ local }) => local)]);
}

/** A link with its two names, the present one first. */
interface Renamed {
  names: readonly [string, string];
  identity: string;
}

/** Renames an overlay and a VNIC back and forth, and kills varpd before, or in the middle of, every `nth` step of it. */
async function killRenaming(bed: Bed, began: Began, nth = 1): Promise<string> {
  const [a, b] = await bed.twoHosts();
  const order = path.join(bed.directory(), 'order');
  const service = began(bed, a, order);
  const { daemon } = service;
  await service.start();
  await daemon.ok(directOverlay({ from: a.underlay.v4, to: b.underlay.v4 }));
  await daemon.ok('create-vnic -l overlay0 foo0');
  await a.ipBatch('addr add 10.66.66.1/24 dev overlay0', 'addr add 10.66.66.2/24 dev foo0');
  const links: Renamed[] = [
    { names: ['foo0', 'web0'], identity: await linkOf(a, 'foo0') },
    { names: ['overlay0', 'tenant0'], identity: await linkOf(a, 'overlay0') },
  ];
  let killed = 0;
  const seen = new Set<string>();
  for (const link of links)
    for (let step = 1, isDone = false; !isDone; step += nth)
      for (const how of ['before', 'half']) {
        const [name, to] = link.names;
        const when = `${name} -> ${to}, killed ${how} step ${step}`;
        writeFileSync(order, `kill ${how} ${step}`);
        isDone = await succeeds(daemon.call('link.rename', { name, to }));
        rmSync(order);
        if (isDone) {
          link.names = [to, name];
          break;
        }
        killed++;
        await service.next();
        const names = [...(await daemon.overlays()), ...(await daemon.vnics())].map((one) => one.name);
        const devices = (await devicesOf(a)).filter((one) => one !== 'lo' && one !== 'under0');
        check(
          devices.join() === names.sort().join(),
          `${when}: devices ${devices.join()}, stored ${names.join()}`,
        );
        check(names.length === 2, `${when}: both links are there, once: ${names.join()}`);
        const isNew = names.includes(to);
        seen.add(isNew ? 'new' : 'old');
        link.names = isNew ? [to, name] : [name, to];
        for (const one of links) {
          const now = await linkOf(a, one.names[0]);
          check(now === one.identity, `${when}: ${one.names[0]} is ${one.identity}, not ${now}`);
        }
        await untilHealth(daemon, 'ONLINE', { name: links[1].names[0] });
      }
  check(seen.size === 2, 'killed before the new name was stored, and after it');
  return `${killed} kills: each time both links under one name each, with their addresses`;
}

const renaming: Row = {
  name: 'F25',
  fault: 'kill -9 at every step of rename-link, persistTaps',
  run: (bed) => killRenaming(bed, withPersistentTaps),
};

const renamingAsService: Row = {
  name: 'F26',
  fault: 'kill -9 at every step of rename-link, as a service',
  programs: ['python3'],
  run: (bed) => killRenaming(bed, underManager),
};

export const renameRows: readonly Row[] = [renaming, renamingAsService];

/** The part of them that `npm run test:full` has. */
export const renamingShortly: Row = { ...renaming, run: (bed) => killRenaming(bed, withPersistentTaps, 5) };
export const renamingAsServiceShortly: Row = {
  ...renamingAsService,
  run: (bed) => killRenaming(bed, underManager, 5),
};
