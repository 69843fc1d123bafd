// What README and docs print for operators and authors of plugins, typed as it stands: its plugin, its alerts, its words on firewalls.
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import t, { type Test } from 'tap';

import { giveToDaemon } from '../helpers/daemon-user.js';
import { Daemon, directOverlay } from '../helpers/daemon.js';
import { get, parseMetrics, type Sample, valueOf } from '../helpers/metrics.js';
import { block, documentation } from '../helpers/documents.js';
import { fromRoot, skipUnless, skipUnlessNetns } from '../helpers/need.js';
import { Bed } from '../helpers/netns.js';
import { exec, run, waitUntil } from '../helpers/process.js';
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
  const [, file] = /^\/\/ (\/\S+)$/m.exec(block('docs/plugins.md', 'js')) ?? [];
  const source = path.join(bed.directory(), 'plugin');
  writeFileSync(source, block('docs/plugins.md', 'js'));
  // The directory that README names, seen by this varpd alone.
  const before = `mount -t tmpfs tmpfs /usr/local/lib && mkdir -p ${path.dirname(file)} && cp ${source} ${file}`;
  // Modules are told from scripts by their names and by package.json alone, as before Node 20.19.
  const options = {
    before,
    args: ['-i', '/usr/local/lib/varpd'],
    nodeArgs: ['--no-experimental-detect-module'],
  };
  const lines = commands('A plugin with its answers in its own source:');
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

/** Samples of several times a minute apart, and what promtool makes of the rules of README over them. */
async function alertsOver(
  bed: Bed,
  scrapes: readonly (readonly Sample[])[],
  expected: object[],
): Promise<void> {
  const directory = bed.directory();
  const rules = path.join(directory, 'rules.yaml');
  const file = path.join(directory, 'test.yaml');
  writeFileSync(rules, block('docs/metrics.md', 'yaml'));
  const input_series = scrapes[0].map(({ name, labels }) => ({
    series: `${name}${JSON.stringify(labels).replace(/"(\w+)":/g, '$1=')}`,
    values: scrapes.map((samples) => valueOf(samples, name, labels) ?? '_').join(' '),
  }));
  const eval_time = `${scrapes.length - 1}m`;
  const names = [...block('docs/metrics.md', 'yaml').matchAll(/alert: (\w+)/g)].map(([, name]) => name);
  const alert_rule_test = names.map((alertname) => ({
    eval_time,
    alertname,
    exp_alerts: alertname === 'VarpdDrops' ? expected.map((exp_labels) => ({ exp_labels })) : [],
  }));
  const tests = [{ interval: '1m', input_series, alert_rule_test }];
  writeFileSync(file, JSON.stringify({ rule_files: [rules], evaluation_interval: '1m', tests }));
  await exec(['promtool', 'check', 'rules', rules]);
  await exec(['promtool', 'test', 'rules', file]);
}

const skipAlerts = skip || skipUnless({ programs: ['promtool', 'nft'] });
await t.test(
  'the alerts: silent while all is well, and not when a firewall drops',
  { skip: skipAlerts },
  async (t: Test) => {
    const bed = new Bed();
    t.teardown(() => bed.cleanup());
    const [a, b] = await bed.twoHosts();
    const places = bed.directory();
    giveToDaemon(places);
    const metrics = path.join(places, 'metrics.sock');
    const daemon = (await Daemon.start(bed, a, { config: { metrics } })).explain(t);
    const mapping = path.join(bed.directory(), 'hosts.json');
    writeFileSync(mapping, readFileSync(fromRoot('config/hosts.json')));
    const scrapes: (readonly Sample[])[] = [];
    const scrape = async (): Promise<void> => {
      scrapes.push(
        parseMetrics((await get(metrics)).body).filter(({ name }) => name.startsWith('varpd_overlay')),
      );
    };
    const listen = `-p vxlan/listen_ip=${a.underlay.v4}`;
    await daemon.ok(`create-overlay -v 23 -e vxlan -s files ${listen} -p files/config=${mapping} overlay0`);
    await daemon.ok(directOverlay({ from: a.underlay.v4, to: b.underlay.v4, name: 'direct0' }));
    await daemon.ok('create-vnic -l direct0 bar0');
    await scrape();
    await daemon.ok('create-vnic -m de:ad:be:ef:00:00 -l overlay0 foo0');
    await a.ip('addr add 10.55.55.2/24 dev foo0');
    await a.ip('addr add 10.66.66.2/24 dev bar0');
    const dropped = async (overlay: string, reason: string): Promise<number> =>
      (await daemon.overlays(overlay))[0].counters[reason];
    // What every Linux host says when it gets a link: it joins groups, and looks whether its address is free.
    const said = async (): Promise<boolean> =>
      (await dropped('overlay0', 'tx_group')) + (await dropped('overlay0', 'ndp_ignored')) > 0;
    await waitUntil(said, { what: 'drops by design' });
    await scrape();
    await alertsOver(bed, scrapes, []);

    await a.exec(['nft', 'add table inet f; add chain inet f out { type filter hook output priority 0; }']);
    await a.exec(['nft', 'add rule inet f out udp dport 4789 drop']);
    const refused = async (): Promise<boolean> => {
      await ping(a, '10.66.66.3', { count: 1, waitMs: 200 });
      return (await dropped('direct0', 'tx_firewall')) > 0;
    };
    await waitUntil(refused, { what: 'a frame that the firewall drops' });
    await scrape();
    await alertsOver(bed, scrapes, [{ overlay: 'direct0', reason: 'tx_firewall' }]);
    await waitUntil(
      () =>
        /warn direct0: \d+ frames? dropped as tx_firewall \(.*\): a firewall of this host/.test(daemon.log()),
      {
        what: 'the log to say so',
      },
    );
  },
);

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
