/** reset-overlayprop: sets properties of an overlay back to their defaults while it runs. */
import { attempt, defineCommand } from '../command.js';
import { parseNames } from '../link-properties.js';
import { chosenProperties } from '../options.js';
import { requireOneOperand } from '../values.js';

export const command = defineCommand({
  synopsis: 'reset-overlayprop [-t] [-p prop[,...]] overlay',
  about:
    'Sets properties of an overlay back to their defaults while it runs: those named, or all that can change.',
  options: [{ name: 'temporary', short: 't', about: 'until varpd starts again' }, chosenProperties],
  examples: ['reset-overlayprop -p mtu overlay0'],

  async run(args, { call }) {
    const name = requireOneOperand(args, 'overlay');
    const request = {
      name,
      temporary: args.has('temporary'),
      ...(args.has('prop') && { properties: parseNames(args.values('prop')) }),
    };
    await attempt(`cannot reset properties of '${name}'`, call('overlayprop.reset', request));
  },
});
