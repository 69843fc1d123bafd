/**
 * direct: a point-to-point tunnel. Every frame that is not for a port of this host goes unchanged to one destination,
 * broadcast and multicast too. So the plugin needs no lookup and no proxy. See README.md.
 */
import {
  definePlugin,
  type Destination,
  type Instance,
  ipFamily,
  type IpAddress,
  is6to4,
  isBroadcastIp,
  isLinkLocal,
  isUnspecified,
  isV4Compatible,
  type Properties,
  type PropertyValue,
} from '../../src/plugin/index.js';

const DEST_IP = 'direct/dest_ip';
const DEST_PORT = 'direct/dest_port';

/** A multicast address is accepted, as illumos does. The receiver has to join the group by other means. */
function refuseDestIp(value: PropertyValue): string | undefined {
  const ip = value as IpAddress;
  const needsInterface = ipFamily(ip) === 6 && isLinkLocal(ip);
  const isGood =
    !isUnspecified(ip) && !isBroadcastIp(ip) && !isV4Compatible(ip) && !is6to4(ip) && !needsInterface;
  return isGood
    ? undefined
    : 'the address of another host, neither 6to4, v4-compatible, broadcast nor IPv6 link-local';
}

class DirectInstance implements Instance {
  #destination: Destination | undefined;

  start(properties: Properties): Promise<void> {
    this.#destination = { ip: properties.ip(DEST_IP), port: properties.uint(DEST_PORT) };
    return Promise.resolve();
  }

  stop(): Promise<void> {
    return Promise.resolve();
  }

  defaultDestination(): Destination {
    if (this.#destination === undefined) throw new Error('not started');
    return this.#destination;
  }
}

export default definePlugin({
  apiVersion: 1,
  name: 'direct',
  mode: 'point',
  properties: [
    { name: DEST_IP, type: 'ip', required: true, refuse: refuseDestIp },
    { name: DEST_PORT, type: 'uint', required: true, min: 1, max: 65535 },
  ],
  create: () => new DirectInstance(),
});
