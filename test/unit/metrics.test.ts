// Metrics: what the text says and that it can be read; and drops that the log tells of.

import { setTimeout as sleep } from 'node:timers/promises';

import t from 'tap';

import { COUNTER_NAMES } from '../../src/core/counts/counters.js';
import { metricOf, Metrics } from '../../src/daemon/observe/metrics.js';
import { DROPS } from '../../src/model/drops.js';
import { parseMetrics, parseWithPython, PYTHON_CLIENT, valueOf } from '../helpers/metrics.js';
import { skipUnless } from '../helpers/need.js';
import { run } from '../helpers/process.js';
import { type View, counters, overlay, sources } from '../helpers/metric-sources.js';

t.test('every counter is there once, under the name that dladm gives it', async (t) => {
  const text = await new Metrics(sources(overlay('overlay0'))).text();
  const samples = parseMetrics(text);
  const expected = counters();
  for (const name of COUNTER_NAMES) {
    const found = samples.filter(
      ({ name: metric, labels }) =>
        metric === `varpd_overlay_${metricOf(name)}_total` ||
        (['varpd_overlay_drops_total', 'varpd_socket_drops_total'].includes(metric) &&
          labels['reason'] === name),
    );
    t.equal(found.length, 1, name);
    const isOfSocket = 'listen' in found[0].labels;
    t.same(found[0].value, expected[name] + (isOfSocket ? 3 : 0));
    t.same(
      { ...found[0].labels, reason: undefined, kind: undefined },
      {
        kind: undefined,
        ...(isOfSocket ? { listen: '[2001:db8::1]:4789' } : { overlay: 'overlay0' }),
        reason: undefined,
      },
    );
  }
  const ofPort = samples.filter(
    ({ name, labels }) =>
      name.startsWith('varpd_port_') && name.endsWith('_total') && labels['port'] === 'foo0',
  );
  t.same(
    ofPort.map(({ value }) => value % 1000),
    ofPort.map(() => 2),
  );
  t.same(ofPort.map(({ name, labels }) => labels['reason'] ?? name).sort(), [
    'dhcp_flood',
    'dhcp_spoofed',
    'ip_spoofed',
    'mac_spoofed',
    'restricted',
    'rogue_dhcp',
    'rogue_router',
    'unreadable',
    'varpd_port_rx_bytes_total',
    'varpd_port_rx_frames_total',
    'varpd_port_tx_bytes_total',
    'varpd_port_tx_frames_total',
  ]);
  for (const [name, labels, value] of [
    ['overlay_online', { overlay: 'overlay0' }, 1],
    ['overlay_underlay_state', { overlay: 'overlay0', state: 'up' }, 1],
    ['overlay_underlay_state', { overlay: 'overlay0', state: 'partly' }, 0],
    ['overlay_underlay_losses_total', { overlay: 'overlay0' }, 7],
    ['overlay_destinations', { overlay: 'overlay0' }, 3],
    ['overlay_targets', { overlay: 'overlay0' }, 12],
    ['overlay_offload', { overlay: 'overlay0', offload: 'train' }, 1],
    ['overlay_offload', { overlay: 'overlay0', offload: 'coalesce' }, 0],
    ['overlay_info', { overlay: 'overlay0', vnetid: '42', search: 'files', listen: '[2001:db8::1]:4789' }, 1],
    ['overlay_troubles', { overlay: 'overlay0', source: 'plugin' }, 0],
    ['overlay_lookups_open', { overlay: 'overlay0' }, 4],
    ['overlay_plugin_exits_total', { overlay: 'overlay0' }, 2],
    ['overlay_mapping_entries', { overlay: 'overlay0' }, 3],
    ['overlay_mapping_timestamp_seconds', { overlay: 'overlay0' }, Date.UTC(2026) / 1000],
    ['overlay_lookup_duration_seconds_bucket', { overlay: 'overlay0', le: '0.001' }, 5],
    ['overlay_lookup_duration_seconds_bucket', { overlay: 'overlay0', le: '1' }, 6],
    ['overlay_lookup_duration_seconds_bucket', { overlay: 'overlay0', le: '+Inf' }, 8],
    ['overlay_lookup_duration_seconds_sum', { overlay: 'overlay0' }, 3.5],
    ['overlay_lookup_duration_seconds_count', { overlay: 'overlay0' }, 8],
    ['kernel_feature', { feature: 'tapCarrier' }, 1],
    ['kernel_feature', { feature: 'udpSegmentation' }, 0],
    ['overlays', { state: 'running' }, 1],
    ['overlays', { state: 'offline' }, 1],
    ['overlays', { state: 'stopped' }, 1],
    ['vnics', { state: 'running' }, 1],
    ['vnics', { state: 'offline' }, 2],
    ['port_up', { overlay: 'overlay0', port: 'foo0' }, 1],
    ['port_carrier', { overlay: 'overlay0', port: 'foo0' }, 1],
  ] as const)
    t.equal(valueOf(samples, `varpd_${name}`, labels), value, `${name} ${JSON.stringify(labels)}`);
  for (const name of ['process_resident_memory_bytes', 'process_open_fds', 'process_cpu_seconds_total'])
    t.ok((valueOf(samples, name) ?? 0) > 0, name);
  t.ok(valueOf(samples, 'nodejs_eventloop_lag_p99_seconds') !== undefined);
});

t.test('what changes, and what goes', async (t) => {
  const here = sources(overlay('overlay0'), overlay('other0'));
  const metrics = new Metrics(here);
  const read = async () => parseMetrics(await metrics.text());
  t.same(
    await read().then((all) => new Set(all.map(({ labels }) => labels['overlay']))),
    new Set([undefined, 'overlay0', 'other0']),
  );
  const overlays = here.directory.overlays as Map<string, View>;
  overlays.delete('other0');
  overlays.set('overlay0', overlay('overlay0', { isDown: true, hasLost: true, isStuck: true }));
  const samples = await read();
  t.notOk(
    samples.some(({ labels }) => labels['overlay'] === 'other0'),
    'nothing is left of what was deleted',
  );
  t.equal(valueOf(samples, 'varpd_overlay_online', { overlay: 'overlay0' }), 0);
  t.equal(valueOf(samples, 'varpd_overlay_troubles', { overlay: 'overlay0', source: 'plugin' }), 1);
  t.equal(valueOf(samples, 'varpd_overlay_underlay_state', { overlay: 'overlay0', state: 'down' }), 1);
  t.equal(valueOf(samples, 'varpd_port_carrier', { overlay: 'overlay0', port: 'overlay0' }), 0);
  t.equal(valueOf(samples, 'varpd_port_up', { overlay: 'overlay0', port: 'foo0' }), 0);
  t.equal(valueOf(samples, 'varpd_port_tx_frames_total', { overlay: 'overlay0', port: 'foo0' }), undefined);
  t.equal(valueOf(samples, 'varpd_overlay_targets', { overlay: 'overlay0' }), undefined, 'not known');
  t.equal(
    valueOf(samples, 'varpd_overlay_mapping_entries', { overlay: 'overlay0' }),
    undefined,
    'no mapping',
  );
  const again = await read();
  const isOurs = ({ name }: { name: string }): boolean =>
    name.startsWith('varpd_') && name !== 'varpd_datapath_answer_seconds';
  t.same(again.filter(isOurs), samples.filter(isOurs), 'read twice, nothing is counted twice');
});

t.test('a datapath thread that hangs', async (t) => {
  const here = sources(overlay('overlay0'));
  const answerS = async (ping: () => Promise<void>): Promise<number> => {
    const metrics = new Metrics({ ...here, datapath: { ...here.datapath, ping } });
    return valueOf(parseMetrics(await metrics.text()), 'varpd_datapath_answer_seconds') ?? NaN;
  };
  t.ok((await answerS(() => Promise.resolve())) < 1);
  t.equal(await answerS(() => sleep(2000)), 1, 'the metrics come all the same');
});

t.test('promtool has no remarks', { skip: skipUnless({ programs: ['promtool'] }) }, async (t) => {
  const text = await new Metrics(sources(overlay('overlay0'), overlay('other0', { isDown: true }))).text();
  const { code, stdout, stderr } = await run(['promtool', 'check', 'metrics'], { input: text });
  t.same({ code, stdout, stderr }, { code: 0, stdout: '', stderr: '' });
});

const skip = skipUnless({ files: PYTHON_CLIENT });
t.test("as Prometheus' own client reads it", { skip }, async (t) => {
  const text = await new Metrics(sources(overlay('overlay0'), overlay('other0', { isDown: true }))).text();
  const byThem = await parseWithPython(text);
  const byUs = parseMetrics(text).map(({ name, labels, value }) => {
    return { name, labels, value: Number.isFinite(value) ? value : null };
  });
  const sorted = (samples: readonly unknown[]): unknown[] => samples.map((one) => JSON.stringify(one)).sort();
  t.ok(byThem.length > 2 * Object.keys(DROPS).length);
  t.same(sorted(byThem), sorted(byUs));
});
