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
import type { OverlayDatapath } from '../../src/datapath/contract.js';
import type { Command } from '../../src/datapath/userland/protocol.js';
import { VXLAN } from '../../src/encap/vxlan.js';
import { overlaySpecs } from '../../src/model/overlay-specs.js';
import { PropertySet } from '../../src/model/properties.js';
import { definePlugin, type Host, type Instance } from '../../src/plugin/index.js';
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
  const { id, vtep } = net;
  const lines: string[] = [];
  const keep = (level: string) => (_kind: string, message: string) => void lines.push(`${level} ${message}`);
  const log: Log = { debug: keep('debug'), info: keep('info'), warn: keep('warn'), error: keep('error') };
  const health = new Health('overlay0', log);
  // Messages between the two sides are never obeyed in the middle of something else.
  const later = (command: Command): void =>
    void turn().then(() => {
      vtep.obey(command);
    });
  const datapath: Pick<OverlayDatapath, 'answer' | 'announce' | 'invalidate' | 'setTarget' | 'setPeers'> = {
    answer: (lookup, answer) => {
      later({ kind: 'answer', overlay: id, lookup, answer });
    },
    announce: (frame) => {
      later({ kind: 'announce', overlay: id, frame });
    },
    invalidate: (mac) => {
      net.invalidate(mac);
    },
    setTarget: (mac, to, ttlMs) => {
      net.setTarget(mac, to, ttlMs);
    },
    setPeers: (peers) => {
      net.setPeers(...peers);
    },
  };
  let host: Host | undefined;
  const plugin = definePlugin({
    apiVersion: 1,
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
      limits: () => ({ ...parseConfig('', '').limits, ...limits }),
    },
  );
  const listenIp = ['vxlan/listen_ip', vtep.endpoint.ip] as const;
  await instance.start(PropertySet.from(overlaySpecs(VXLAN, [], ['test']), [listenIp], {}));
  instance.attach(datapath);
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
