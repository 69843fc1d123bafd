/** create-vnic: one more port of an overlay, with a MAC address of its own. */
import type { Call } from '../../control/client.js';
import { type CreationInfo, NETNS_ATTACHMENT } from '../../control/messages.js';
import { attempt, defineCommand, UsageError, ValueError } from '../command.js';
import { CREATION_OPTIONS, ifMissing, tellCreation } from '../creation.js';
import { parseLinkProperties } from '../link-properties.js';
import { temporaryCreation } from '../options.js';
import { MAX_VID, parseDecimal, requireMac, requireName, requireOneOperand } from '../values.js';

/** IEEE 802.1Q-2014, table 9-2: 0 is no VLAN, 0xfff is reserved. */
const MIN_VID = 1;

export const command = defineCommand({
  synopsis:
    'create-vnic [-t | --netns netns] [--if-missing] [--json] -l overlay [-m mac] [-v vid] [-p prop=value[,...]] vnic',
  about:
    'Creates a VNIC: a network interface on an overlay. It may be moved to another network namespace. With --netns it is ' +
    'moved at once, and ends with that namespace: it stays over a restart, but is not declared and never made again.',
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
    { name: 'netns', value: 'netns', about: 'into this network namespace: a name of `ip netns`, or a path' },
    ...CREATION_OPTIONS,
  ],
  examples: [
    'create-vnic -l overlay0 foo0',
    'create-vnic -m de:ad:be:ef:00:00 -l overlay0 -v 23 foo0',
    'create-vnic --netns blue -l overlay0 foo0',
  ],

  async run(args, context) {
    const { call } = context;
    const typedMac = args.value('mac-address');
    const typedVid = args.value('vlan');
    const mac = typedMac === undefined ? {} : { mac: requireMac(typedMac) };
    const vid = typedVid === undefined ? {} : { vid: requireVid(typedVid) };
    const properties = args.has('prop') ? { properties: parseLinkProperties(args.values('prop')) } : {};
    const over = args.value('link');
    if (over === undefined) throw new UsageError('missing required overlay: -l overlay');
    const name = requireName(requireOneOperand(args, 'vnic'));
    const temporary = args.has('temporary');
    const netns = args.value('netns');
    if (netns !== undefined && temporary)
      throw new UsageError('-t and --netns exclude each other: a VNIC in a network namespace ends with it');
    const request = { name, over, ...mac, ...vid, ...properties, temporary, ...ifMissing(args) };
    const create = (attachment: { attachment?: string } = {}) =>
      attempt(`vnic creation over ${over} failed`, call('vnic.create', { ...request, ...attachment }));
    const made = netns === undefined ? await create() : await createIn(netns, name, create, call);
    await tellCreation(name, made, args.has('json'), context, async () => {
      const { vnics } = await attempt(`cannot see ${name}`, call('vnic.list', { names: [name] }));
      return /^OFFLINE: (.*)$/s.exec(vnics[0]?.state ?? '')?.[1];
    });
  },
});

/** Either the VNIC is in the namespace afterwards, or there is none. One that is there already stays where it is. */
async function createIn(
  netns: string,
  name: string,
  create: (attachment: { attachment: string }) => Promise<CreationInfo | null>,
  call: Call,
): Promise<CreationInfo | null> {
  // dladm needs the native part for this alone.
  const { openNamespace } = await import('../netns.js');
  const namespace = openNamespace(netns);
  try {
    const made = await create({ attachment: `${NETNS_ATTACHMENT}${netns}` });
    if (made?.isCreated === false) return made;
    try {
      namespace.moveIn(name);
    } catch (error) {
      await attempt(`cannot delete ${name}`, call('vnic.delete', { name, temporary: false }));
      throw error;
    }
    return made;
  } finally {
    namespace.close();
  }
}

function requireVid(text: string): number {
  const vid = parseDecimal(text);
  if (vid !== undefined && vid >= MIN_VID && vid <= MAX_VID) return vid;
  throw new ValueError(`invalid VLAN identifier '${text}'; valid range: ${MIN_VID} - ${MAX_VID}`);
}
