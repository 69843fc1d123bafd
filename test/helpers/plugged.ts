// A plugin at an overlay in memory: the instance that the daemon would have, with messages in between that are obeyed later, as
// those between threads are.
//
//   const net = lab.vtep('192.0.2.1').overlay();
//   const plugin = await plug(net, { resolve: () => ({ kind: 'drop', reason: 'nobody' }) });
//   port.send(frame(MAC.b, MAC.a));
//   await plugin.settle();                            the plugin has answered, and the answer was obeyed
import { setImmediate as turn } from 'node:timers/promises';

import { parseConfig } from '../../src/daemon/config-file.js';
import { Health } from '../../src/daemon/health.js';
import type { Log } from '../../src/daemon/log.js';
import { PluginInstance } from '../../src/daemon/plugins/plugin-host.js';
import { VXLAN } from '../../src/encap/vxlan.js';
import { overlaySpecs } from '../../src/model/overlay-specs.js';
import { PropertySet } from '../../src/model/properties.js';
import { definePlugin, type Host, type Instance } from '../../src/plugin/index.js';
import { PluginLink } from '../../src/plugin-test/plugin-link.js';
import type { Net } from './lab.js';

export interface Plugged {
  /** What the plugin was given: it speaks to varpd by this. */
  readonly host: Host;
  readonly health: Health;
  /** Level and message of each line that was logged. */
  readonly lines: readonly string[];
  /** Until questions, answers and what follows from them have come to rest. */
  settle(): Promise<void>;
}

export async function plug(
  net: Net,
  behaviour: Partial<Instance>,
  limits: { readonly lookupDeadlineMs?: number } = {},
): Promise<Plugged> {
  const { vtep } = net;
  const lines: string[] = [];
  const keep = (level: string) => (_kind: string, message: string) => void lines.push(`${level} ${message}`);
  const log: Log = { debug: keep('debug'), info: keep('info'), warn: keep('warn'), error: keep('error') };
  const health = new Health('overlay0', log);
  let host: Host | undefined;
  const plugin = definePlugin({
    apiVersion: 2,
    name: 'test',
    mode: 'dynamic',
    properties: [],
    create: (created) => {
      host = created;
      return { start: () => Promise.resolve(), stop: () => Promise.resolve(), ...behaviour };
    },
  });
  const instance = new PluginInstance(
    plugin,
    { overlay: 'overlay0', vnetid: 100, listen: vtep.endpoint },
    {
      log,
      health,
      reprotect: () => undefined,
      files: { stateDir: () => '/nonexistent', secret: () => Promise.reject(new Error('no secrets here')) },
      limits: () => ({ ...parseConfig('', '').limits, ...limits }),
    },
  );
  const listenIp = ['vxlan/listen_ip', vtep.endpoint.ip] as const;
  await instance.start(PropertySet.from(overlaySpecs(VXLAN, [], ['test']), [listenIp], {}));
  instance.attach(new PluginLink(net));
  vtep.resolve = (question) => {
    instance.lookup(question);
    return undefined;
  };
  const settle = async (): Promise<void> => {
    for (let round = 0; round < 5; round++) {
      vtep.lab.run();
      await turn();
      await turn();
    }
  };
  return { host: host!, health, lines, settle };
}
