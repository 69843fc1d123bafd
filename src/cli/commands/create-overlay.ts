/**
 * create-overlay: checks the form of the command line, in the order of illumos. varpd checks everything about
 * the host, the plugins and the values of properties.
 */
import { type Arguments, attempt, defineCommand, UsageError, ValueError } from '../command.js';
import { CREATION_OPTIONS, ifMissing, tellCreation } from '../creation.js';
import { temporaryCreation } from '../options.js';
import { parseOverlayProperty, splitOverlayProperties } from '../overlay-properties.js';
import { ESCAPES, parseDecimal, requireName } from '../values.js';
import { VNI_MAX } from '../../wire/vxlan.js';

/** MAXLINKNAMELEN of illumos less the NUL. */
const MAX_PLUGIN_NAME = 31;

export const command = defineCommand({
  synopsis:
    'create-overlay [-t] [--if-missing] [--json] -e encap -s search -v vnetid [-p prop=value[,...]] overlay',
  about:
    'Creates an overlay: one virtual layer-2 network on this host. It has a network interface of ' +
    'its own name, and VNICs can be created over it. All or nothing: a create that fails leaves nothing behind and ' +
    'says every reason at once.',
  options: [
    temporaryCreation,
    { name: 'encap', short: 'e', value: 'encap', about: 'encapsulation: vxlan, geneve' },
    { name: 'search', short: 's', value: 'search', about: 'lookup plugin: direct, files, ...' },
    { name: 'vnetid', short: 'v', value: 'vnetid', about: `virtual network id, 0 to ${VNI_MAX}` },
    {
      name: 'prop',
      short: 'p',
      value: 'prop=value[,...]',
      repeatable: true,
      about: `properties; ${ESCAPES}`,
    },
    ...CREATION_OPTIONS,
  ],
  examples: [
    'create-overlay -e vxlan -s direct -p vxlan/listen_ip=10.88.88.69 \\\n' +
      '        -p direct/dest_ip=10.88.88.70 -p direct/dest_port=4789 -v 23 demo0',
    'create-overlay -e vxlan -s files -v 23 \\\n' +
      '        -p vxlan/listen_ip=10.88.88.69,files/config=/etc/varpd/hosts.json overlay0',
  ],

  async run(args, context) {
    const { call } = context;
    const vnetid = parseVnetid(args.value('vnetid'));
    const pieces = splitOverlayProperties(args.values('prop'));

    if (vnetid === undefined) throw new UsageError('missing required virtual network id');
    const encap = requirePlugin(args.value('encap'), 'encapsulation');
    const search = requirePlugin(args.value('search'), 'search');
    const name = requireName(requireOverlay(args));
    checkPluginLength(encap, 'encapsulation');
    checkPluginLength(search, 'search');
    const properties = pieces.map(parseOverlayProperty);

    const temporary = args.has('temporary');
    const request = { name, encap, search, vnetid, temporary, properties, ...ifMissing(args) };
    const made = await attempt('overlay creation failed', call('overlay.create', request));
    await tellCreation(name, made, args.has('json'), context, async () => {
      const { overlays } = await attempt(`cannot see ${name}`, call('overlay.list', { names: [name] }));
      const { status, details } = overlays[0]?.health ?? {};
      return status === 'OFFLINE' ? details : undefined;
    });
  },
});

function parseVnetid(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const vnetid = parseDecimal(text);
  const range = `a virtual network id is a decimal number from 0 to ${VNI_MAX}`;
  if (vnetid === undefined) throw new ValueError(`couldn't parse virtual network id: ${text}`, [range]);
  if (vnetid > VNI_MAX) throw new ValueError(`virtual network id too large: ${text}`, [range]);
  return vnetid;
}

function requirePlugin(name: string | undefined, kind: string): string {
  if (name === undefined) throw new UsageError(`missing required ${kind} plugin`);
  return name;
}

function checkPluginLength(name: string, kind: string): void {
  if (name.length > MAX_PLUGIN_NAME) throw new ValueError(`${kind} plugin name too long '${name}'`);
}

/** The message says that the name is missing also for too many operands, as in illumos. */
function requireOverlay({ operands }: Arguments<never>): string {
  if (operands.length === 0) throw new UsageError('missing device name');
  if (operands.length > 1)
    throw new UsageError(`missing device name: expected one, got: ${operands.join(' ')}`);
  return operands[0];
}
