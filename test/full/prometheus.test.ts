// A real Prometheus, set up as docs/metrics.md says, over a varpd that works: no alert of config/prometheus, and an answer to each
// question of the dashboard in config/grafana. Then a firewall drops, and varpd ends.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import t, { type Test } from 'tap';

import { alerts, RULES, selectorsOf } from '../helpers/alerts.js';
import { Daemon, directOverlay } from '../helpers/daemon.js';
import { block, blocks, textOf } from '../helpers/documents.js';
import { fromRoot, skipUnlessNetns } from '../helpers/need.js';
import { addKernelVxlan, Bed, type Namespace } from '../helpers/netns.js';
import { type Child, exec, run, waitUntil } from '../helpers/process.js';
import { ping, reaches } from '../helpers/traffic.js';

const skip = skipUnlessNetns(['prometheus', 'promtool', 'nft']);
const VARPD = '127.0.0.1:9560';
/** A scrape and an evaluation each second, so that a rate has its two values soon. */
const GLOBAL = 'global: { scrape_interval: 1s, evaluation_interval: 1s }\n';

interface RuleState {
  readonly name: string;
  readonly state: string;
  readonly health: string;
  readonly lastError?: string;
  readonly lastEvaluation: string;
}

interface Series {
  readonly value: readonly [time: number, value: string];
}

interface ActiveAlert {
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
}

/** Fetches the addresses that it reads, all at once. */
const FETCH = `
  const urls = JSON.parse(require('fs').readFileSync(0));
  Promise.all(urls.map((url) => fetch(url).then((answer) => answer.text())))
    .then((texts) => process.stdout.write(JSON.stringify(texts)));`;

/** A Prometheus beside varpd, and its HTTP API. */
class Prometheus {
  private constructor(
    readonly host: Namespace,
    readonly child: Child,
  ) {}

  static async start(bed: Bed, host: Namespace): Promise<Prometheus> {
    const directory = bed.directory();
    const file = path.join(directory, 'prometheus.yml');
    const documented = block('docs/metrics.md', 'yaml');
    const config = documented.replace('/usr/share/varpd/prometheus/varpd.rules.yaml', fromRoot(RULES));
    if (config === documented) throw new Error('docs/metrics.md names another file of rules');
    writeFileSync(file, GLOBAL + config);
    await exec(['promtool', 'check', 'config', file]);
    const places = [`--config.file=${file}`, `--storage.tsdb.path=${path.join(directory, 'data')}`];
    const child = host.spawn(['prometheus', ...places, '--web.listen-address=127.0.0.1:9090']);
    const prometheus = new Prometheus(host, child);
    const isUp = async (): Promise<boolean> =>
      child.ended || (await prometheus.query('up{job="varpd"} == 1').catch(() => [[]]))[0].length > 0;
    await waitUntil(isUp, { what: 'Prometheus to scrape varpd' });
    if (child.ended) throw new Error(`Prometheus has ended: ${child.stderr}`);
    return prometheus;
  }

  /** The texts of pages, asked for from its host. */
  async get(...urls: string[]): Promise<string[]> {
    return JSON.parse(
      await this.host.exec([process.execPath, '-e', FETCH], { input: JSON.stringify(urls) }),
    ) as string[];
  }

  async #api<T>(...paths: string[]): Promise<T[]> {
    const texts = await this.get(...paths.map((one) => `http://127.0.0.1:9090/api/v1/${one}`));
    return texts.map((text, index) => {
      const { status, data, error } = JSON.parse(text) as { status: string; data: T; error?: string };
      if (status !== 'success') throw new Error(`${paths[index]}: ${error}`);
      return data;
    });
  }

  /** The series of each instant query. Rejects when Prometheus does not understand one. */
  async query(...exprs: string[]): Promise<(readonly Series[])[]> {
    const paths = exprs.map((expr) => `query?query=${encodeURIComponent(expr)}`);
    return (await this.#api<{ result: Series[] }>(...paths)).map(({ result }) => result);
  }

  /** Resolves when a query has an answer. */
  async has(expr: string): Promise<void> {
    await waitUntil(async () => (await this.query(expr))[0].length > 0, { what: expr });
  }

  async rules(): Promise<RuleState[]> {
    const [{ groups }] = await this.#api<{ groups: { rules: RuleState[] }[] }>('rules');
    return groups.flatMap(({ rules }) => rules);
  }

  async active(): Promise<ActiveAlert[]> {
    return (await this.#api<{ alerts: ActiveAlert[] }>('alerts'))[0].alerts;
  }

  /** Resolves when each rule has been evaluated over what has been scraped until now. */
  async evaluated(): Promise<void> {
    const [
      [
        {
          value: [, scraped],
        },
      ],
    ] = await this.query('timestamp(varpd_build_info)');
    const isLater = async (): Promise<boolean> =>
      (await this.rules()).every(({ lastEvaluation }) => Date.parse(lastEvaluation) / 1000 > Number(scraped));
    await waitUntil(isLater, { what: 'the rules to be evaluated' });
  }
}

interface PlotPanel {
  readonly title: string;
  readonly targets?: readonly { readonly expr: string }[];
}

/** What Grafana asks, with every host and every overlay chosen. */
function questions(): { readonly title: string; readonly expr: string }[] {
  const { panels } = JSON.parse(textOf('config/grafana/varpd.json')) as { panels: PlotPanel[] };
  return panels.flatMap(({ title, targets = [] }) =>
    targets.map(({ expr }) => ({
      title,
      expr: expr.replaceAll(/\$(?:instance|overlay)/g, '.*').replaceAll('$__rate_interval', '1m'),
    })),
  );
}

/** Those that have no answer while all is well. */
const EMPTY = [
  'Trouble, by reason',
  'Before the overlay is known',
  'Link protection',
  'Ports that are not up',
];

/** varpd with an overlay of each kind, which carry frames: `direct0`, `files0`, and `static0` with the plugin of docs/plugins.md. */
async function site(t: Test, bed: Bed, [a, b]: readonly Namespace[]): Promise<Daemon> {
  const [code] = blocks('docs/plugins.md', 'js');
  const plugins = path.join(bed.directory(), 'plugins');
  mkdirSync(path.join(plugins, 'static'), { recursive: true });
  writeFileSync(path.join(plugins, 'static/index.mjs'), code);
  const mapping = path.join(bed.directory(), 'hosts.json');
  writeFileSync(mapping, readFileSync(fromRoot('config/hosts.json')));
  const daemon = (await Daemon.start(bed, a, { config: { metrics: VARPD }, pluginPath: [plugins] })).explain(
    t,
  );
  const listen = `vxlan/listen_ip=${a.underlay.v4}`;
  await daemon.ok(directOverlay({ from: a.underlay.v4, to: b.underlay.v4, name: 'direct0', vnetid: 42 }));
  await daemon.ok(`create-overlay -v 23 -e vxlan -s files -p ${listen},files/config=${mapping} files0`);
  await daemon.ok(`create-overlay -v 24 -e vxlan -s static -p ${listen} static0`);
  await daemon.ok('create-vnic -l direct0 bar0');
  await daemon.ok('create-vnic -m de:ad:be:ef:00:00 -l static0 foo0');
  await a.ip('addr add 10.66.66.2/24 dev bar0');
  await a.ip('addr add 10.55.55.2/24 dev foo0');
  for (const [device, vnetid, address] of [
    ['vx0', 42, '10.66.66.3/24'],
    ['vx1', 24, '10.55.55.3/24'],
  ] as const) {
    await addKernelVxlan(b, { device, vnetid, local: b.underlay.v4, remote: a.underlay.v4 });
    if (device === 'vx1') await b.ip(`link set ${device} address de:ad:be:ef:00:01`);
    await b.ip(`addr add ${address} dev ${device}`);
    await b.ip(`link set ${device} up`);
  }
  return daemon;
}

await t.test('a Prometheus over varpd', { skip }, async (t) => {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const hosts = await bed.twoHosts();
  const [a] = hosts;
  const daemon = await site(t, bed, hosts);
  const prometheus = await Prometheus.start(bed, a);
  for (const address of ['10.66.66.3', '10.55.55.3'])
    t.ok(await reaches(a, address), `${address} is reached`);
  for (const name of ['direct0', 'files0', 'static0'])
    t.equal((await daemon.overlays(name))[0].health.status, 'ONLINE', name);
  await prometheus.has('rate(varpd_overlay_lookup_duration_seconds_count{overlay="static0"}[1m]) > 0');
  // A link that comes up joins groups, and looks whether its address is free.
  await daemon.ok('create-vnic -m de:ad:be:ef:00:00 -l files0 baz0');
  await a.ip('link set baz0 up');
  await prometheus.has('rate(varpd_overlay_drops_total{overlay="files0",kind="by_design"}[1m]) > 0');

  await t.test('promtool has no remarks about what varpd says', async (t) => {
    const [text] = await prometheus.get(`http://${VARPD}/metrics`);
    const { code, stdout, stderr } = await run(['promtool', 'check', 'metrics'], { input: text });
    // The names of the library are not ours.
    const own = `${stdout}${stderr}`.split('\n').filter((line) => line.startsWith('varpd_'));
    t.same({ code, own }, { code: 0, own: [] });
  });

  await t.test('each series of the alerts is there, and all alerts are silent', async (t) => {
    const selectors = alerts().flatMap(({ expr }) => selectorsOf(expr).map(({ text }) => text));
    for (const [index, found] of (await prometheus.query(...selectors)).entries())
      t.not(found.length, 0, selectors[index]);
    await prometheus.evaluated();
    const rules = await prometheus.rules();
    t.same(
      rules.map(({ name, state, health, lastError = '' }) => ({ name, state, health, lastError })),
      alerts().map(({ alert }) => ({ name: alert, state: 'inactive', health: 'ok', lastError: '' })),
    );
  });

  await t.test('each question of the dashboard has an answer', async (t) => {
    const asked = questions();
    t.ok(asked.length > 40, `${asked.length} questions`);
    const answered = await prometheus.query(...asked.map(({ expr }) => expr));
    for (const [index, { title, expr }] of asked.entries()) {
      const answers = answered[index];
      t.equal(answers.length === 0, EMPTY.includes(title), `${title}: ${expr}: ${answers.length} series`);
    }
  });

  await t.test('a firewall that drops', async (t) => {
    await a.exec(['nft', 'add table inet f; add chain inet f out { type filter hook output priority 0; }']);
    await a.exec(['nft', 'add rule inet f out udp dport 4789 drop']);
    const found = async (): Promise<ActiveAlert | undefined> => {
      await ping(a, '10.66.66.3', { count: 20, intervalMs: 10, waitMs: 200 });
      return (await prometheus.active()).find(({ labels }) => labels['alertname'] === 'VarpdDrops');
    };
    await waitUntil(async () => (await found()) !== undefined, { what: 'the alert' });
    const { labels, annotations } = (await found()) ?? {};
    t.match(labels, { overlay: 'direct0', reason: 'tx_firewall', severity: 'warning', instance: VARPD });
    t.match(
      annotations?.['summary'],
      /^direct0 on 127\.0\.0\.1:9560 drops [\d.]+ frames a second: tx_firewall$/,
    );
    t.match(annotations?.['description'], /dladm capture --drops=tx_firewall direct0/);
    await waitUntil(
      () =>
        /warn direct0: \d+ frames? dropped as tx_firewall \(.*\): a firewall of this host/.test(daemon.log()),
      {
        what: 'the log to say so',
      },
    );
    await daemon.ok('show-overlay -s direct0');
  });

  await t.test('a varpd that has ended', async (t) => {
    await daemon.stop();
    const isDown = async (): Promise<boolean> =>
      (await prometheus.active()).some(({ labels }) => labels['alertname'] === 'VarpdDown');
    await waitUntil(isDown, { what: 'the alert' });
    t.pass('is seen');
  });
});
