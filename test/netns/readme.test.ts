// What README and docs print for operators and authors of plugins, typed as it stands: its plugin, its demo.
import { writeFileSync } from 'node:fs';
import path from 'node:path';

import t from 'tap';

import { Daemon } from '../helpers/daemon.js';
import { blocks, documentation } from '../helpers/documents.js';
import { fromRoot, skipUnlessNetns } from '../helpers/need.js';
import { Bed } from '../helpers/netns.js';
import { run } from '../helpers/process.js';
import { ping, reaches } from '../helpers/traffic.js';

const skip = skipUnlessNetns();
const documents = documentation();

/** The indented lines that begin with one of these words, from a sentence on to the next heading. */
function commands(from: string): string[] {
  const text = documents.slice(documents.indexOf(from)).split(/^#/m)[0];
  return [...text.matchAll(/^ {4}((?:dladm|ip) .*)$/gm)].map(([, line]) => line.replace(/ +#.*/, ''));
}

await t.test('the plugin carries frames both ways', { skip }, async (t) => {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const hosts = await bed.twoHosts();
  // The first block is the plugin, with its path; test/full/plugin-author types the rest.
  const [code] = blocks('docs/plugins.md', 'js');
  const [, file] = /^\/\/ (\/\S+)$/m.exec(code) ?? [];
  const source = path.join(bed.directory(), 'plugin');
  writeFileSync(source, code);
  // The directory that README names, seen by this varpd alone.
  const before = `mount -t tmpfs tmpfs /usr/local/lib && mkdir -p ${path.dirname(file)} && cp ${source} ${file}`;
  // Modules are told from scripts by their names and by package.json alone, as before Node 20.19.
  const options = {
    before,
    args: ['-i', '/usr/local/lib/varpd'],
    nodeArgs: ['--no-experimental-detect-module'],
  };
  const lines = commands('This one has its answers in its own source:');
  t.match(lines, [/create-overlay/, /create-vnic/, /^ip addr/, /show-overlay -t/]);
  const other = (line: string): string =>
    line.replace('10.88.88.69', '10.88.88.70').replace('ef:00:00', 'ef:00:01').replace('55.2/', '55.3/');
  for (const [index, host] of hosts.entries()) {
    const daemon = (await Daemon.start(bed, host, options)).explain(t);
    for (const line of lines.map((one) => (index === 0 ? one : other(one))))
      await (line.startsWith('dladm ') ? daemon.ok(line.slice(6)) : host.exec(line));
  }
  const [a, b] = hosts;
  t.ok(await reaches(b, '10.55.55.2'), 'the first asks, and is believed');
  t.ok(await reaches(a, '10.55.55.3'));
  t.equal((await ping(a, '10.55.55.3', { from: '10.55.55.2' })).received, 3);
});

await t.test(
  'the demo into a reader that leaves',
  { skip: skip || skipUnlessNetns(['dnsmasq', 'udhcpc']) },
  async (t) => {
    const demo = [process.execPath, fromRoot('dist/test/demo/main.js')];
    const { stdout, stderr } = await run(['sh', '-c', '"$@" | head -n 2', 'sh', ...demo]);
    t.match(stdout, /== Two hosts/);
    t.equal(stderr, '', 'no stack');
  },
);
