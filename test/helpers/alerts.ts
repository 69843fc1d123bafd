// The alerts in config/prometheus, and which of the metrics an expression of Prometheus names.
import { collectDefaultMetrics, Registry } from 'prom-client';
import { parse } from 'yaml';

import { METRICS } from '../../src/daemon/observe/metrics.js';
import { textOf } from './documents.js';

export const RULES = 'config/prometheus/varpd.rules.yaml';

export interface Alert {
  readonly alert: string;
  readonly expr: string;
  readonly for?: string;
  readonly labels: { readonly severity: string };
  readonly annotations: { readonly summary: string; readonly description: string };
}

export const alerts = (): readonly Alert[] =>
  (parse(textOf(RULES)) as { groups: { rules: Alert[] }[] }).groups.flatMap(({ rules }) => rules);

type Row = readonly [name: string, labels: readonly string[]];

/** Labels of each series that varpd has, by its name; those of the process are the library's. */
function seriesLabels(): ReadonlyMap<string, readonly string[]> {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const standard = registry.getMetricsAsArray().map(({ name }): Row => [name, []]);
  const own = METRICS.flatMap(({ name, labels, help }): Row[] =>
    help.startsWith('Histogram ')
      ? ['_bucket', '_sum', '_count'].map((part): Row => [name + part, [...labels, 'le']])
      : [[name, labels]],
  );
  // Prometheus adds `up`, and the labels of the target to all of them.
  return new Map<string, readonly string[]>([...own, ...standard, ['up', []]]);
}

const SERIES = seriesLabels();
const OF_TARGET = ['job', 'instance'];

export interface Selector {
  readonly name: string;
  /** With its braces, as it stands in the expression. */
  readonly text: string;
  readonly labels: readonly string[];
}

/** Each series that an expression reads. */
export function selectorsOf(expr: string): Selector[] {
  const found = expr.matchAll(/\b((?:varpd|process|nodejs)_\w+|up)(\{[^}]*\})?/g);
  return [...found].map(([text, name, matchers = '']) => ({
    name,
    text,
    labels: [...matchers.matchAll(/(\w+)\s*(?:=~|!~|!=|=)\s*"/g)].map(([, label]) => label),
  }));
}

/** Series and labels of an expression that varpd does not have. */
export const unknownIn = (expr: string): string[] =>
  selectorsOf(expr).flatMap(({ name, labels }) => {
    const known = SERIES.get(name);
    if (known === undefined) return [name];
    return labels.filter((label) => ![...known, ...OF_TARGET].includes(label)).map((one) => `${name} ${one}`);
  });
