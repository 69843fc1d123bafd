/**
 * direct: a point-to-point tunnel. Every frame that is not for a port of this host goes unchanged to one destination,
 * broadcast and multicast too. So the plugin needs no lookup and no proxy. See README.md.
 */
import { definePlugin, type Destination } from '../../src/plugin/index.js';

export default definePlugin({
  apiVersion: 2,
  name: 'direct',
  mode: 'point',
  properties: [
    { name: 'direct/dest_ip', type: 'ip', required: true, kind: 'host', changeable: true },
    { name: 'direct/dest_port', type: 'uint', required: true, min: 1, max: 65535, changeable: true },
  ],
  create: () => {
    let destination: Destination | undefined;
    return {
      start: ({ dest_ip, dest_port }) => {
        destination = { ip: dest_ip, port: dest_port };
        return Promise.resolve();
      },
      change: ({ dest_ip, dest_port }) => {
        destination = { ip: dest_ip, port: dest_port };
        return Promise.resolve();
      },
      stop: () => Promise.resolve(),
      defaultDestination: () => {
        if (destination === undefined) throw new Error('not started');
        return destination;
      },
    };
  },
});
