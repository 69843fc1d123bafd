/** set-linkprop: sets link properties of a VNIC that exists; they are in force at once. */
import { LINK_PROPERTY_NAMES } from '../../model/link-properties.js';
import { attempt, defineCommand, UsageError } from '../command.js';
import { parseLinkProperties } from '../link-properties.js';
import { requireOneOperand } from '../values.js';

export const command = defineCommand({
  synopsis: 'set-linkprop [-t] -p prop=value[,...] vnic',
  about:
    `Sets link properties of a VNIC, which are in force at once: ${LINK_PROPERTY_NAMES.join(', ')}. ` +
    'A value replaces the one before.',
  options: [
    { name: 'temporary', short: 't', about: 'until varpd stops; otherwise it is kept' },
    {
      name: 'prop',
      short: 'p',
      value: 'prop=value[,...]',
      repeatable: true,
      about: 'properties; several values of one have commas between them',
    },
  ],
  examples: [
    'set-linkprop -p protection=mac-nospoof,ip-nospoof,dhcp-nospoof,restricted foo0',
    'set-linkprop -t -p allowed-ips=10.55.55.2,2001:db8:55::/64 foo0',
  ],

  async run(args, { call }) {
    if (!args.has('prop')) throw new UsageError('link property must be specified: -p prop=value');
    const properties = parseLinkProperties(args.values('prop'));
    const name = requireOneOperand(args, 'vnic');
    const request = { name, temporary: args.has('temporary'), properties };
    await attempt(`cannot set link property on '${name}'`, call('linkprop.set', request));
  },
});
