// A dry run of `dladm apply` refuses what the run refuses, with the same words, and nothing else.
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';
import t from 'tap';

import type { Methods } from '../../src/control/methods.js';
import { OverlayError } from '../../src/model/errors.js';
import { asked, type Host, newHost, point, vnic } from '../helpers/registry-host.js';
import { part } from '../helpers/whole.js';

type Apply = Methods['overlay.apply']['params'];
type Declared = Pick<Apply, 'name' | 'encap' | 'search' | 'vnetid' | 'properties' | 'vnics'>;

/** What became of one overlay: its lines, or the sentences of its error. */
type Outcome = readonly string[];

async function outcomeOf(work: Promise<{ readonly changes: readonly string[] }>): Promise<Outcome> {
  try {
    return (await work).changes;
  } catch (error) {
    if (!(error instanceof OverlayError)) throw error;
    return ['refused', error.code, error.message, ...error.details];
  }
}
const isRefused = ([first]: Outcome): boolean => first === 'refused';

/** Two overlays with a VNIC each, a temporary overlay, an overlay that does not run, and an interface of another program. */
async function newSite(context: Parameters<typeof newHost>[0]): Promise<Host> {
  const host = await newHost(context);
  const { registry, links } = host;
  await registry.createOverlay(asked({ name: 'off0', vnetid: 44 }));
  await registry.createVnic(vnic('idle0', { over: 'off0', mac: '02:00:00:00:00:03' }));
  await registry.deleteVnic({ name: 'idle0', temporary: true });
  await registry.deleteOverlay({ name: 'off0', temporary: true });
  await registry.createOverlay(point());
  await registry.createVnic(vnic('foo0', { mac: '02:00:00:00:00:01' }));
  await registry.createOverlay(asked({ name: 'other0', vnetid: 43 }));
  await registry.createVnic(vnic('bar0', { over: 'other0', mac: '02:00:00:00:00:02' }));
  await registry.createOverlay(point({ name: 'passing0', vnetid: 45, temporary: true }));
  links.add('eth7');
  host.datapath.routeMtu = 1500;
  return host;
}

const filesOf = ({ stateDir }: Host): string =>
  readdirSync(stateDir)
    .filter((name) => name.endsWith('.json'))
    .map((name) => readFileSync(path.join(stateDir, name), 'utf8'))
    .join();

/** As dladm does it. With `dryRun` the outcomes of all overlays, and otherwise up to the first that is refused. */
async function apply(
  { registry }: Host,
  overlays: readonly Declared[],
  prune: boolean,
  dryRun: boolean,
): Promise<Outcome[]> {
  const networks: [string, string][] = [];
  const gone: string[] = [];
  const outcomes: Outcome[] = [];
  const take = async (
    name: string,
    answer: Promise<{ readonly changes: readonly string[]; readonly network?: string | null }>,
  ): Promise<void> => {
    const outcome = await outcomeOf(
      answer.then((result) => {
        if (typeof result.network === 'string') networks.push([name, result.network]);
        return result;
      }),
    );
    outcomes.push(outcome);
    if (!isRefused(outcome))
      gone.push(...outcome.filter((line) => line.startsWith('- ')).map((line) => line.slice(2)));
  };
  const declared = new Set(overlays.map(({ name }) => name));
  const { overlays: stored } = registry.declared.export({});
  for (const { name } of prune ? stored.filter((one) => !declared.has(one.name)) : [])
    await take(name, registry.declared.prune({ name, dryRun }));
  for (const overlay of overlays) {
    await take(
      overlay.name,
      registry.declared.apply({ ...overlay, prune, dryRun, ...(dryRun && { networks, gone }) }),
    );
    if (!dryRun && isRefused(outcomes.at(-1)!)) break;
  }
  return outcomes;
}

async function compare(overlays: readonly Declared[], prune: boolean): Promise<Outcome[]> {
  const ends: (() => unknown)[] = [];
  try {
    const host = await newSite({ teardown: (work) => ends.push(work) });
    const before = filesOf(host);
    const tried = await apply(host, overlays, prune, true);
    if (filesOf(host) !== before) throw new Error('the dry run has changed something');
    const done = await apply(host, overlays, prune, false);
    const [expected, found] = [tried.slice(0, done.length), done].map((one) => JSON.stringify(one, null, 1));
    if (expected !== found) throw new Error(`the dry run said ${expected}, and the run ${found}`);
    return tried;
  } finally {
    for (const end of ends.reverse()) await end();
  }
}

const overlay = (name: string, more: Partial<Declared> = {}): Declared => {
  const { encap, search, vnetid, properties } = point();
  return { name, encap, search, vnetid, properties, vnics: [], ...more };
};
const kept = {
  overlay0: overlay('overlay0', { vnics: [['foo0', [['mac', ['02:00:00:00:00:01']]]]] }),
  other0: overlay('other0', {
    search: 'test',
    vnetid: 43,
    properties: [['vxlan/listen_ip', '10.0.0.1']],
    vnics: [['bar0', []]],
  }),
};
const withProperty = (base: Declared, ...row: [string, string]): Declared => ({
  ...base,
  properties: [...base.properties.filter(([name]) => name !== row[0]), row],
});
const vnicOf = (name: string, ...settings: [string, string[]][]): Declared['vnics'] => [[name, settings]];

const REFUSED: readonly (readonly [string, RegExp, readonly Declared[]])[] = [
  ['a network in use', /in use on 10\.0\.0\.1:4789 by overlay0/, [overlay('new0')]],
  ['the network of a temporary overlay', /by passing0/, [overlay('new0', { vnetid: 45 })]],
  ['a network twice', /by new0/, [overlay('new0', { vnetid: 7 }), overlay('newer0', { vnetid: 7 })]],
  [
    'a network that another overlay moves to',
    /by overlay0/,
    [{ ...kept.overlay0, vnetid: 7 }, overlay('new0', { vnetid: 7 })],
  ],
  ['another network, in use', /by other0/, [{ ...kept.overlay0, vnetid: 43 }]],
  ['a name of another program', /network interface eth7/, [overlay('eth7', { vnetid: 7 })]],
  ['a name of a VNIC', /there is an overlay or a VNIC foo0/, [overlay('foo0', { vnetid: 7 })]],
  [
    'a name of a VNIC that does not run',
    /there is an overlay or a VNIC idle0/,
    [overlay('idle0', { vnetid: 7 })],
  ],
  ['a temporary overlay', /temporary/, [overlay('passing0', { vnetid: 45 })]],
  ['an invalid name', /invalid link name/, [overlay('x/y', { vnetid: 7 })]],
  ...(['new0', 'overlay0'] as const).flatMap((name): (readonly [string, RegExp, readonly Declared[]])[] => {
    const base = name === 'new0' ? overlay('new0', { vnetid: 7 }) : kept.overlay0;
    const has = (vnics: Declared['vnics']): readonly Declared[] => [{ ...base, vnics }];
    return [
      [`${name}: a VNIC with a name in use`, /overlay or a VNIC bar0/, has(vnicOf('bar0'))],
      [`${name}: a VNIC with its name`, /overlay or a VNIC/, has(vnicOf(name))],
      [`${name}: a VNIC twice`, /overlay or a VNIC twice0/, has([...vnicOf('twice0'), ...vnicOf('twice0')])],
      [`${name}: a VNIC with an interface of another program`, /interface eth7/, has(vnicOf('eth7'))],
      [`${name}: a VNIC with an invalid name`, /invalid link name/, has(vnicOf('0x'))],
      [`${name}: no MAC`, /invalid mac address/, has(vnicOf('new1', ['mac', ['x']]))],
      [`${name}: a multicast MAC`, /unicast/, has(vnicOf('new1', ['mac', ['01:00:00:00:00:01']]))],
      [`${name}: no VLAN`, /vid/, has(vnicOf('new1', ['vid', ['4095']]))],
      [`${name}: an unknown link property`, /colour/, has(vnicOf('new1', ['colour', ['red']]))],
      [
        `${name}: a MAC twice`,
        /mac: 02:00:00:00:00:09 is in use/,
        has([
          ...vnicOf('new1', ['mac', ['02:00:00:00:00:09']]),
          ...vnicOf('new2', ['mac', ['02:00:00:00:00:09']]),
        ]),
      ],
      [`${name}: an invalid value`, /mtu/, [withProperty(base, 'mtu', '1')]],
      [`${name}: an unknown property`, /colour/, [withProperty(base, 'colour', 'red')]],
      [`${name}: no such plugin`, /none/, [{ ...base, search: 'none' }]],
      [`${name}: no such encapsulation`, /none/, [{ ...base, encap: 'none' }]],
    ];
  }),
  [
    'a MAC in use',
    /in use on overlay0 by foo0/,
    [{ ...kept.overlay0, vnics: vnicOf('new1', ['mac', ['02:00:00:00:00:01']]) }],
  ],
  [
    'the MAC of a VNIC that does not run',
    /in use/,
    [{ ...kept.other0, name: 'off0', vnetid: 44, vnics: vnicOf('new1', ['mac', ['02:00:00:00:00:03']]) }],
  ],
  [
    'one MAC for a VNIC that is there and a new one',
    /in use/,
    [
      {
        ...kept.overlay0,
        vnics: [
          ...vnicOf('foo0', ['mac', ['02:00:00:00:00:09']]),
          ...vnicOf('new1', ['mac', ['02:00:00:00:00:09']]),
        ],
      },
    ],
  ],
  ['another family', /family/, [withProperty(kept.overlay0, 'vxlan/listen_ip', '2001:db8::1')]],
  ['more than the route carries', /the route carries no more/, [withProperty(kept.overlay0, 'mtu', '8900')]],
  ['what cannot change', /queues: it is read-only/, [withProperty(kept.overlay0, 'queues', '2')]],
  [
    'a VNIC that a later overlay gives up',
    /bar0/,
    [{ ...kept.overlay0, vnics: vnicOf('bar0') }, kept.other0],
  ],
];

t.test('a dry run refuses what the run refuses', async (t) => {
  for (const [what, said, overlays] of REFUSED) {
    const outcome = (await compare(overlays, false)).find(isRefused);
    t.match(outcome?.join('\n'), said, what);
  }
});

/** What is possible only since something before it makes room. */
const POSSIBLE: readonly (readonly [string, readonly Declared[], boolean])[] = [
  ['another name for a network, with prune', [{ ...kept.overlay0, name: 'new0' }, kept.other0], true],
  [
    'a network that another overlay has left',
    [
      { ...kept.overlay0, vnetid: 7 },
      { ...kept.other0, vnetid: 42 },
    ],
    false,
  ],
  [
    'a VNIC that an overlay before has given up',
    [
      { ...kept.overlay0, vnics: [] },
      { ...kept.other0, vnics: [...kept.other0.vnics, ...vnicOf('foo0')] },
    ],
    true,
  ],
  ['nothing', [kept.overlay0, kept.other0], false],
];

t.test('and nothing else', async (t) => {
  for (const [what, overlays, prune] of POSSIBLE)
    t.same((await compare(overlays, prune)).filter(isRefused), [], what);
});

const settings = fc
  .record({
    mac: fc.option(fc.constantFrom('02:00:00:00:00:01', '02:00:00:00:00:02', '02:00:00:00:00:09')),
    vid: fc.option(fc.constantFrom('0', '7', '4095')),
  })
  .map((values) =>
    Object.entries(values).flatMap(([name, value]): [string, string[]][] =>
      value === null ? [] : [[name, [value]]],
    ),
  );
const documents = fc.uniqueArray(
  fc.record({
    name: fc.constantFrom('overlay0', 'other0', 'off0', 'new0', 'newer0', 'passing0', 'eth7'),
    encap: fc.constant('vxlan'),
    isPoint: fc.boolean(),
    vnetid: fc.constantFrom(42, 43, 44, 7),
    listenIp: fc.constantFrom('10.0.0.1', '10.0.0.1', '10.0.0.1', '2001:db8::1'),
    mtu: fc.option(fc.constantFrom('1400', '9000'), { freq: 3 }),
    vnics: fc.array(fc.tuple(fc.constantFrom('foo0', 'bar0', 'idle0', 'new1', 'new2', 'eth7'), settings), {
      maxLength: 2,
    }),
  }),
  { selector: ({ name }) => name, minLength: 1, maxLength: 4 },
);

t.test('documents by chance', async (t) => {
  await fc.assert(
    fc.asyncProperty(documents, fc.boolean(), async (overlays, prune) => {
      await compare(
        overlays.map(({ isPoint, listenIp, mtu, ...rest }): Declared => {
          const { search, properties } = isPoint ? point() : asked();
          const others = properties.filter(([name]) => name !== 'vxlan/listen_ip');
          const ip = isPoint ? '10.0.0.1' : listenIp;
          const own: [string, string][] = [['vxlan/listen_ip', ip], ...others];
          return { ...rest, search, properties: mtu === null ? own : [...own, ['mtu', mtu]] };
        }),
        prune,
      );
    }),
    { numRuns: part(160) },
  );
  t.pass('the dry run has said what became of each');
});
