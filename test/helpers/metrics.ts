// What a Prometheus reads: an HTTP client for it, and two readers of its text format, a strict one of our own and the one of
// Prometheus' own Python client.
import { request } from 'node:http';

import { exec } from './process.js';

/** Debian's, and its package python3-prometheus-client: another Python may stand before it on the path. */
const PYTHON = '/usr/bin/python3';
export const PYTHON_CLIENT = [PYTHON, '/usr/lib/python3/dist-packages/prometheus_client'];

export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: string;
}

/** Over a Unix socket, or to a port of this host. Rejects when there is no answer. */
export function get(
  to: string | number,
  { path = '/metrics', method = 'GET', from }: { path?: string; method?: string; from?: string } = {},
): Promise<Answer> {
  const where = typeof to === 'string' ? { socketPath: to } : { host: '127.0.0.1', port: to };
  return new Promise((resolve, reject) => {
    const source = from === undefined ? {} : { localAddress: from };
    request({ ...where, ...source, path, method, agent: false }, (response) => {
      let body = '';
      response.setEncoding('utf8').on('data', (text: string) => (body += text));
      response.on('end', () => {
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body });
      });
      response.on('error', reject);
    })
      .on('error', reject)
      .end();
  });
}

export interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

const NAME = '[a-zA-Z_:][a-zA-Z0-9_:]*';
const LABEL = `[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\\\\n]|\\\\["\\\\n])*"`;
const SAMPLE = new RegExp(`^(${NAME})(?:\\{(${LABEL}(?:,${LABEL})*)\\})? (\\S+)$`);
const COMMENT = new RegExp(
  `^# (?:HELP (?<help>${NAME}) .+|TYPE (?<name>${NAME}) (?<type>counter|gauge|histogram|summary))$`,
);
/** What Go's ParseFloat takes, to which the format refers. */
const VALUE = /^(?:nan|[+-]inf|[+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?)$/i;

/** The samples of a text (format 0.0.4). Throws at the first line that is not as it must be. */
export function parseMetrics(text: string): Sample[] {
  if (!text.endsWith('\n')) throw new Error('the last line does not end');
  const helped = new Set<string>();
  const types = new Map<string, string>();
  const seen = new Set<string>();
  let family = '';
  const samples: Sample[] = [];
  for (const line of text.split('\n').filter((one) => one !== '')) {
    const fail = (why: string): never => {
      throw new Error(`${why}: ${line}`);
    };
    if (line.startsWith('#')) {
      const match = COMMENT.exec(line) ?? fail('no HELP and no TYPE');
      const { help, name = '', type = '' } = match.groups as Record<string, string | undefined>;
      if (help !== undefined) {
        if (helped.has(help)) fail('a second HELP');
        helped.add(help);
        continue;
      }
      if (types.has(name)) fail('a second TYPE');
      if (name.startsWith('varpd_') && (type === 'counter') !== name.endsWith('_total'))
        fail('counters alone end in _total');
      types.set(name, type);
      family = name;
      continue;
    }
    const [, name, labels = '', value] = SAMPLE.exec(line) ?? fail('no sample');
    const isPart = /^(histogram|summary)$/.test(types.get(family) ?? '');
    if (name !== family && !(isPart && /^_(bucket|sum|count)$/.test(name.slice(family.length))))
      fail(`not of the family ${family}`);
    if (!helped.has(family)) fail('a family without HELP');
    if (!VALUE.test(value)) fail('no value');
    const pairs = [...labels.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].map(
      ([, key, text]) => [key, text] as const,
    );
    const series = `${name} ${JSON.stringify([...pairs].sort())}`;
    if (seen.has(series)) fail('a second sample of one series');
    seen.add(series);
    samples.push({ name, labels: Object.fromEntries(pairs), value: Number(value) });
  }
  return samples;
}

/** The value of the one series with exactly these labels; undefined when there is none. */
export function valueOf(
  samples: readonly Sample[],
  name: string,
  labels: Readonly<Record<string, string>> = {},
): number | undefined {
  const key = (of: Readonly<Record<string, string>>): string => JSON.stringify(Object.entries(of).sort());
  return samples.find((sample) => sample.name === name && key(sample.labels) === key(labels))?.value;
}

const READER = `
import json, math, sys
from prometheus_client.parser import text_string_to_metric_families as read
out = []
for family in read(sys.stdin.read()):
    for sample in family.samples:
        out.append({'name': sample.name, 'labels': sample.labels, 'value': sample.value if math.isfinite(sample.value) else None})
print(json.dumps(out))
`;

/** As Prometheus' own client reads it; what is not finite is null. */
export async function parseWithPython(text: string): Promise<unknown[]> {
  return JSON.parse(await exec([PYTHON, '-c', READER], { input: text })) as unknown[];
}
