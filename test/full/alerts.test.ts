// The alerts for Prometheus in config/prometheus: each is about metrics that are there, fires at its trouble and at nothing else, and
// says what to do. The questions of the dashboard are about metrics that are there too; test/full/prometheus asks them.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

import t from 'tap';

import { allCommands } from '../../src/cli/dladm.js';
import { type DropReason, DROPS, PROTECTION_DROPS, SOCKET_DROPS } from '../../src/model/drops.js';
import { ROWS } from '../docs/dashboard-plots.js';
import { CASES, MINUTES } from '../helpers/alert-cases.js';
import { type Alert, alerts, RULES, selectorsOf, unknownIn } from '../helpers/alerts.js';
import { fromRoot, skipUnless } from '../helpers/need.js';
import { run } from '../helpers/process.js';

const TARGET = { job: 'varpd', instance: 'a:9560' };

t.test('each alert', async (t) => {
  const all = alerts();
  t.same(
    all.map(({ alert }) => alert),
    Object.keys(CASES),
    'has its cases',
  );
  const commands = new Map((await allCommands()).map((one) => [one.synopsis.split(' ', 1)[0], one]));
  for (const { alert, expr, labels, annotations } of all) {
    t.same(unknownIn(expr), [], `${alert}: metrics and labels that there are`);
    const foreign = selectorsOf(expr).filter(
      ({ name, text }) => !name.startsWith('varpd_') && !text.includes('job="varpd"'),
    );
    t.same(foreign, [], `${alert}: of varpd alone`);
    t.ok(['critical', 'warning'].includes(labels.severity), `${alert}: severity`);
    const { summary, description } = annotations;
    const used = [...`${summary} ${description}`.matchAll(/\$labels\.(\w+)/g)].map(([, label]) => label);
    const given = Object.keys({ ...TARGET, ...CASES[alert].labels });
    t.same(
      used.filter((label) => !given.includes(label)),
      [],
      `${alert}: its text names labels that it has`,
    );
    const typed = [...description.matchAll(/`dladm ([\w-]+)([^`]*)`/g)];
    t.ok(typed.length > 0, `${alert}: says what to type`);
    for (const [line, name, rest] of typed) {
      const options = commands.get(name)?.options.flatMap(({ name, short }) => [`--${name}`, `-${short}`]);
      const words = rest.split(' ').filter((word) => word.startsWith('-'));
      t.same(
        words.filter((word) => options?.includes(word.replace(/=.*/, '')) !== true),
        [],
        `${alert}: ${line} can be typed`,
      );
      t.ok(commands.has(name), `${alert}: ${line}`);
    }
  }
});

t.test('each question of the dashboard is about metrics and labels that there are', (t) => {
  for (const { title, queries } of ROWS.flatMap(({ plots }) => plots))
    for (const [expr] of queries) t.same(unknownIn(expr), [], `${title}: ${expr}`);
  t.end();
});

/** Whether an alert counts drops of this reason, by its matchers. */
function isAbout({ expr }: Alert, metric: string, reason: string): boolean {
  const [, matchers = ''] = new RegExp(`${metric}\\{([^}]*)\\}`, 's').exec(expr) ?? [];
  if (!expr.includes(metric)) return false;
  const [, operator = '!=', pattern = ''] = /reason(=~|!~|!=|=)"([^"]*)"/.exec(matchers) ?? [];
  return new RegExp(`^(?:${pattern})$`).test(reason) === operator.startsWith('=');
}

t.test('each reason for a drop in trouble has one alert', (t) => {
  for (const reason of Object.keys(DROPS) as DropReason[]) {
    if (DROPS[reason].kind !== 'trouble') continue;
    const metrics = [
      ...(reason in PROTECTION_DROPS ? ['varpd_port_drops_total'] : []),
      reason in SOCKET_DROPS ? 'varpd_socket_drops_total' : 'varpd_overlay_drops_total',
    ];
    const found = alerts().filter((alert) => metrics.some((metric) => isAbout(alert, metric, reason)));
    t.equal(found.length, 1, `${reason}: ${found.map(({ alert }) => alert).join(', ')}`);
  }
  t.end();
});

/** A case for `promtool test rules`: the alerts that fire at a time. */
function ruleTest(
  series: Readonly<Record<string, string>>,
  firing: readonly (readonly [at: string, labels?: object])[],
) {
  const target = Object.entries(TARGET).map(([name, value]) => `${name}="${value}"`);
  const withTarget = (name: string): string =>
    name.endsWith('}') ? name.replace(/\}$/, `,${target.join(',')}}`) : `${name}{${target.join(',')}}`;
  return {
    interval: '1m',
    input_series: Object.entries(series).map(([name, values]) => ({ series: withTarget(name), values })),
    promql_expr_test: firing.map(([eval_time, labels]) => ({
      expr: 'ALERTS{alertstate="firing"}',
      eval_time,
      exp_samples: labels === undefined ? [] : [{ labels: selector('ALERTS', labels), value: 1 }],
    })),
  };
}

const selector = (name: string, labels: object): string =>
  `${name}${JSON.stringify(labels).replace(/"(\w+)":/g, '$1=')}`;

t.test(
  'each fires at its trouble, alone, and not before',
  { skip: skipUnless({ programs: ['promtool'] }) },
  async (t) => {
    const directory = mkdtempSync(path.join(tmpdir(), 'varpd-alerts-'));
    t.teardown(() => {
      rmSync(directory, { recursive: true });
    });
    const rules = fromRoot(RULES);
    const checked = await run(['promtool', 'check', 'rules', rules]);
    t.match(checked, { code: 0, stderr: '' }, checked.stdout + checked.stderr);
    for (const { alert: alertname, for: after = '0m', labels } of alerts()) {
      const { fires, silent, labels: own = {} } = CASES[alertname];
      const firing = { alertname, alertstate: 'firing', ...TARGET, ...labels, ...own };
      const minutes = Number.parseInt(after, 10);
      // Before its time, and in time.
      const times = [
        ...(minutes > 0 ? [[`${minutes - 1}m`] as const] : []),
        [`${MINUTES - 5}m`, firing] as const,
      ];
      const quiet = Array.from({ length: MINUTES }, (_, minute) => [`${minute}m`] as const);
      const file = path.join(directory, 'test.yaml');
      const tests = [ruleTest(fires, times), ruleTest(silent, quiet)];
      writeFileSync(file, JSON.stringify({ rule_files: [rules], evaluation_interval: '1m', tests }));
      const { code, stdout, stderr } = await run(['promtool', 'test', 'rules', file]);
      t.equal(code, 0, `${alertname}: ${code === 0 ? '' : stdout + stderr}`);
    }
  },
);
