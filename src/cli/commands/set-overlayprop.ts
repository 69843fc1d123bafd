/** set-overlayprop: changes properties of an overlay while it runs. */
import { attempt, defineCommand, UsageError } from '../command.js';
import { parseOverlayProperty, splitOverlayProperties } from '../overlay-properties.js';
import { ESCAPES, requireOneOperand } from '../values.js';

export const command = defineCommand({
  synopsis: 'set-overlayprop [-t] -p prop=value[,...] overlay',
  about:
    'Changes properties of an overlay, all or none, and in force at once: flows go on, VNICs stay. PERM of ' +
    'show-overlayprop is rw for those that can change; the others say why not.',
  options: [
    { name: 'temporary', short: 't', about: 'until varpd starts again; otherwise it is kept' },
    {
      name: 'prop',
      short: 'p',
      value: 'prop=value[,...]',
      repeatable: true,
      about: `properties; ${ESCAPES}`,
    },
  ],
  examples: [
    'set-overlayprop -p mtu=1400 overlay0',
    'set-overlayprop -p offload=checksum,tso,train overlay0',
    'set-overlayprop -p files/config=/etc/varpd/new.json,vxlan/accept=any overlay0',
  ],

  async run(args, { call }) {
    const pieces = splitOverlayProperties(args.values('prop'));
    if (pieces.length === 0) throw new UsageError('overlay property must be specified: -p prop=value');
    const properties = pieces.map(parseOverlayProperty);
    const name = requireOneOperand(args, 'overlay');
    const request = { name, temporary: args.has('temporary'), properties };
    await attempt(`cannot set properties of '${name}'`, call('overlayprop.set', request));
  },
});
