// A VNIC gets another MAC: its neighbours hear of it at once if the kernel is asked to tell them, as docs/links.md says.
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';

import { textOf } from '../helpers/documents.js';
import { skipUnlessNetns } from '../helpers/need.js';
import type { Namespace } from '../helpers/netns.js';
import { waitUntil } from '../helpers/process.js';
import { reaches } from '../helpers/traffic.js';
import { newBed, startOverlay } from '../helpers/tunnels.js';

/** The command of the page, for this VNIC. */
const COMMAND = /sysctl -w net\.ipv4\.conf\.foo0\.arp_notify=1 net\.ipv6\.conf\.foo0\.ndisc_notify=1/;

async function believed(host: Namespace, address: string): Promise<string | undefined> {
  const [neighbour] = JSON.parse(await host.ip(`-j neigh show to ${address} dev overlay0`)) as {
    lladdr?: string;
  }[];
  return neighbour.lladdr;
}

await t.test(
  'the kernel tells neighbours of another MAC',
  { skip: skipUnlessNetns(['sysctl']) },
  async (t) => {
    const bed = newBed(t);
    const [a, b] = await bed.twoHosts();
    const daemon = await startOverlay(t, bed, a, b);
    await startOverlay(t, bed, b, a);
    await b.plumb('overlay0');
    const [command] = COMMAND.exec(textOf('docs/links.md')) ?? [];
    t.ok(command, 'the page has it');
    for (const protection of ['', '-p protection=mac-nospoof']) {
      await daemon.ok(`create-vnic -m 02:00:00:00:00:01 ${protection} -l overlay0 foo0`);
      await a.plumb('foo0');
      await b.ip('neigh flush dev overlay0');
      await a.exec(command ?? '');
      const addresses = [a.overlay.v4, a.overlay.v6];
      const isTold = (mac: string): Promise<void> =>
        waitUntil(
          async () =>
            (await Promise.all(addresses.map((one) => believed(b, one)))).every((one) => one === mac),
          {
            what: `neighbours of ${mac}`,
          },
        );
      for (const address of addresses) t.ok(await reaches(b, address));
      await isTold('02:00:00:00:00:01');
      if (protection === '') {
        await a.ip('link set foo0 address 02:00:00:00:00:02');
        await isTold('02:00:00:00:00:02');
        await a.ip('link set foo0 address 02:00:00:00:00:01');
        await isTold('02:00:00:00:00:01');
      }
      const file = path.join(bed.directory(), 'declared.json');
      const declared = (await daemon.dladm('export', '--json')).stdout;
      writeFileSync(file, declared.replace('02:00:00:00:00:01', '02:00:00:00:00:03'));
      await daemon.ok(`apply -f ${file}`);
      if (protection !== '') await a.ip('link set foo0 address 02:00:00:00:00:03');
      await isTold('02:00:00:00:00:03');
      await daemon.ok('delete-vnic foo0');
    }
  },
);
