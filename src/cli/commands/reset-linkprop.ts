/** reset-linkprop: sets link properties of a VNIC back to their defaults. */
import { attempt, defineCommand } from '../command.js';
import { parseNames } from '../link-properties.js';
import { chosenProperties } from '../options.js';
import { requireOneOperand } from '../values.js';

export const command = defineCommand({
  synopsis: 'reset-linkprop [-t] [-p prop[,...]] vnic',
  about: 'Sets link properties of a VNIC back to their defaults, those named or all.',
  options: [{ name: 'temporary', short: 't', about: 'until varpd starts again' }, chosenProperties],
  examples: ['reset-linkprop foo0', 'reset-linkprop -p allowed-ips foo0'],

  async run(args, { call }) {
    const name = requireOneOperand(args, 'vnic');
    const request = {
      name,
      temporary: args.has('temporary'),
      ...(args.has('prop') && { properties: parseNames(args.values('prop')) }),
    };
    await attempt(`cannot reset link property on '${name}'`, call('linkprop.reset', request));
  },
});
