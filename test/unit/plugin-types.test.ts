// The types that an author sees. Nearly all of this file is checked by the compiler: a line below `@ts-expect-error` must not
// compile, and every other line must.
/* eslint-disable @typescript-eslint/no-unused-vars, @typescript-eslint/no-unnecessary-type-parameters -- names are used as types alone */
import t from 'tap';

import {
  type Answer,
  definePlugin,
  type Host,
  type Instance,
  type IpAddress,
  type Properties,
  type PropertyValue,
} from '../../src/plugin/index.js';

/** Fails to compile unless both are the same type. */
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
const same = <A, B>(isSame: Same<A, B>): boolean => isSame;

const typed = definePlugin({
  apiVersion: 2,
  name: 'typed',
  mode: 'dynamic',
  properties: [
    { name: 'typed/url', type: 'string', required: true, kind: 'url' },
    { name: 'typed/mode', type: 'choice', required: false, choices: ['fast', 'safe'], default: 'safe' },
    { name: 'typed/peer', type: 'ip', required: false },
    { name: 'typed/limit', type: 'uint', required: false, min: 1, max: 9 },
  ],
  open: () => Promise.resolve({ connection: 5 }),
  close: async ({ connection }) => {
    same<typeof connection, number>(true);
    await Promise.resolve();
  },
  refuse: (properties) => (properties.limit === 3 ? 'typed/limit must not be 3' : undefined),
  create: (host, shared) => {
    same<typeof shared, { connection: number }>(true);
    same<typeof host, Host>(true);
    return {
      start: (properties) => {
        same<typeof properties.url, string>(true);
        same<typeof properties.mode, 'fast' | 'safe'>(true);
        same<typeof properties.peer, IpAddress | undefined>(true);
        same<typeof properties.limit, number | undefined>(true);
        // @ts-expect-error: there is no such property
        const wrong: keyof typeof properties = 'color';
        // @ts-expect-error: it may be missing
        properties.limit.toFixed();
        // @ts-expect-error: no such choice
        if (properties.mode === 'slow') return Promise.resolve();
        // @ts-expect-error: values are not written
        properties.url = 'x';
        return Promise.resolve();
      },
      stop: () => Promise.resolve(),
      change: (properties) => {
        same<typeof properties.url, string>(true);
        return Promise.resolve();
      },
      // Plain literals: no address has to be parsed first.
      resolve: () => ({ kind: 'target', to: { ip: '192.0.2.7', port: 4789 }, ttlMs: 1000, staleMs: 5 }),
      neighbor: () => 0x0200_0000_0001,
      dhcpServer: async () => Promise.resolve(null),
      placeOf: () => undefined,
    };
  },
});

/** README's shape of a plugin: a class for the instance, typed by hand. */
class Mine implements Instance<{ readonly file: string }> {
  readonly #host: Host;
  #table = new Map<number, string>();

  constructor(host: Host) {
    this.#host = host;
  }

  async start({ file }: { readonly file: string }): Promise<void> {
    this.#table = new Map([[0x0200_0000_0001, file]]);
    this.#host.setPeers(['192.0.2.1', '2001:db8::1']);
    this.#host.setTargets([{ mac: 1, to: [{ ip: '192.0.2.1', port: 1 }] }]);
    this.#host.setAllowedIps([{ mac: 1, ips: ['10.0.0.1'] }]);
    this.#host.announce('10.0.0.1', 1);
    const difference = await this.#host.replaceAll({ targets: [], addresses: [], revision: '1' });
    same<typeof difference.moved, number>(true);
    // @ts-expect-error: a change has a revision
    await this.#host.changeSnapshot({ removedMacs: [1] });
  }

  async stop(): Promise<void> {
    await Promise.resolve();
  }

  resolve({ destinationMac }: { readonly destinationMac: number }): Answer {
    const ip = this.#table.get(destinationMac);
    return ip === undefined
      ? { kind: 'drop', reason: 'unknown' }
      : { kind: 'target', to: { ip, port: 4789 } };
  }
}

const classy = definePlugin({
  apiVersion: 2,
  name: 'classy',
  mode: 'dynamic',
  properties: [{ name: 'classy/file', type: 'string', required: true }],
  create: (host) => new Mine(host),
});

definePlugin({
  apiVersion: 2,
  name: 'wrong',
  mode: 'dynamic',
  properties: [{ name: 'wrong/other', type: 'string', required: true }],
  // @ts-expect-error: the instance wants a property that the plugin does not declare
  create: (host) => new Mine(host),
});

definePlugin({
  // @ts-expect-error: another version
  apiVersion: 1,
  name: 'old',
  mode: 'dynamic',
  properties: [],
  create: (host) => new Mine(host) as unknown as Instance,
});

definePlugin({
  apiVersion: 2,
  name: 'kind',
  mode: 'point',
  // @ts-expect-error: no such kind
  properties: [{ name: 'kind/x', type: 'string', required: true, kind: 'mail' }],
  create: () => ({
    start: () => Promise.resolve(),
    stop: () => Promise.resolve(),
    // @ts-expect-error: a port is a number
    defaultDestination: () => ({ ip: '192.0.2.1', port: '4789' }),
  }),
});

// Specs that are not written in place: any property may be there.
same<Properties, Readonly<Record<string, PropertyValue | undefined>>>(true);

t.same([typed.name, classy.properties.length], ['typed', 1]);
