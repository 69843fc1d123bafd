// What must be given back: descriptors, memory and links, after very many overlays and VNICs have come and gone.
import { setTimeout as sleep } from 'node:timers/promises';

import type { Bed } from '../../helpers/netns.js';
import { part } from '../../helpers/whole.js';
import { answersNow, check, devicesOf, type Row, tunnel } from '../row.js';

/** An overlay and a VNIC over it, made and deleted, so many times; then so many at once. */
async function comeAndGo(bed: Bed, times: number, together: number, warmUp: number): Promise<string> {
  const { a, b, daemon } = await tunnel(bed);
  const create = async (index: number): Promise<void> => {
    await daemon.call('overlay.create', {
      name: `o${index}`,
      encap: 'vxlan',
      search: 'direct',
      vnetid: 1000 + index,
      temporary: false,
      properties: [
        ['vxlan/listen_ip', a.underlay.v4],
        ['vxlan/listen_port', String(20_000 + (index % 64))],
        ['vxlan/source_ports', '4'],
        ['direct/dest_ip', b.underlay.v4],
        ['direct/dest_port', '4789'],
      ],
    });
    await daemon.call('vnic.create', { name: `v${index}`, over: `o${index}`, temporary: false });
  };
  const remove = async (index: number): Promise<void> => {
    await daemon.call('vnic.delete', { name: `v${index}`, temporary: false });
    await daemon.call('overlay.delete', { name: `o${index}`, temporary: false });
  };
  const rounds = async (count: number, width: number): Promise<void> => {
    for (let done = 0; done < count; done += width) {
      for (let index = 0; index < width; index++) await create(index);
      for (let index = 0; index < width; index++) await remove(index);
    }
  };
  // V8 takes a few hundred to settle its heap; from then on it stays as it is.
  await rounds(warmUp, together);
  await sleep(1000);
  const devices = (await devicesOf(a)).join();
  const before = { descriptors: await daemon.descriptorsAtRest(), kib: daemon.residentKib() };
  await rounds(times, together);
  await sleep(1000);
  const after = {
    descriptors: await daemon.descriptorsAtRest(before.descriptors),
    kib: daemon.residentKib(),
  };
  const links = (await devicesOf(a)).join();
  check(links === devices, `the links are back to ${devices}, not ${links}`);
  const descriptors = after.descriptors - before.descriptors;
  check(descriptors === 0, `descriptors are back, not ${descriptors} more`);
  const mib = (after.kib - before.kib) / 1024;
  check(mib < 20, `memory is back, not ${mib.toFixed(1)} MiB more`);
  await answersNow(a, b.overlay.v4);
  return `${times} of each, ${together} at a time: descriptors ${after.descriptors} (+0), links as before, ${mib.toFixed(1)} MiB more`;
}

const TIMES = 1000;
const TOGETHER = 50;
const WARM_UP = 600;

const thousand: Row = {
  name: 'R1',
  fault: '1,000 overlays and VNICs created and deleted',
  run: (bed) => comeAndGo(bed, TIMES, TOGETHER, WARM_UP),
};

/** The part of it that `npm test` has. */
export const fewComeAndGo: Row = {
  ...thousand,
  fault: `${part(40)} overlays and VNICs created and deleted`,
  run: (bed) => comeAndGo(bed, part(40), 10, 40),
};

export const resourceRows: readonly Row[] = [thousand];
