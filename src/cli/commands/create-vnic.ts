/** create-vnic: one more port of an overlay, with a MAC address of its own. */
import { attempt, defineCommand, UsageError, ValueError } from '../command.js';
import { parseLinkProperties } from '../link-properties.js';
import { temporaryCreation } from '../options.js';
import { MAX_VID, parseDecimal, requireMac, requireName, requireOneOperand } from '../values.js';

/** IEEE 802.1Q-2014, table 9-2: 0 is no VLAN, 0xfff is reserved. */
const MIN_VID = 1;

export const command = defineCommand({
  synopsis: 'create-vnic [-t] -l overlay [-m mac] [-v vid] [-p prop=value[,...]] vnic',
  about: 'Creates a VNIC: a network interface on an overlay. It may be moved to another network namespace.',
  options: [
    temporaryCreation,
    { name: 'link', short: 'l', value: 'overlay', about: 'the overlay that carries it' },
    { name: 'mac-address', short: 'm', value: 'mac', about: 'its MAC address; otherwise a random one' },
    { name: 'vlan', short: 'v', value: 'vid', about: `its VLAN, ${MIN_VID} to ${MAX_VID}; otherwise all` },
    {
      name: 'prop',
      short: 'p',
      value: 'prop=value[,...]',
      repeatable: true,
      about: 'link properties, as set-linkprop takes them',
    },
  ],
  examples: ['create-vnic -l overlay0 foo0', 'create-vnic -m de:ad:be:ef:00:00 -l overlay0 -v 23 foo0'],

  async run(args, { call }) {
    const typedMac = args.value('mac-address');
    const typedVid = args.value('vlan');
    const mac = typedMac === undefined ? {} : { mac: requireMac(typedMac) };
    const vid = typedVid === undefined ? {} : { vid: requireVid(typedVid) };
    const properties = args.has('prop') ? { properties: parseLinkProperties(args.values('prop')) } : {};
    const over = args.value('link');
    if (over === undefined) throw new UsageError('missing required overlay: -l overlay');
    const name = requireName(requireOneOperand(args, 'vnic'));
    const request = { name, over, ...mac, ...vid, ...properties, temporary: args.has('temporary') };
    await attempt(`vnic creation over ${over} failed`, call('vnic.create', request));
  },
});

function requireVid(text: string): number {
  const vid = parseDecimal(text);
  if (vid !== undefined && vid >= MIN_VID && vid <= MAX_VID) return vid;
  throw new ValueError(`invalid VLAN identifier '${text}'; valid range: ${MIN_VID} - ${MAX_VID}`);
}
