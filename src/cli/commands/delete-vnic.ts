/** delete-vnic: the counterpart of delete-overlay. */
import { attempt, defineCommand } from '../command.js';
import { temporaryDeletion } from '../options.js';
import { requireOneOperand } from '../values.js';

export const command = defineCommand({
  synopsis: 'delete-vnic [-t] vnic',
  about: 'Deletes a VNIC.',
  options: [temporaryDeletion],
  examples: ['delete-vnic foo0'],

  async run(args, { call }) {
    const name = requireOneOperand(args, 'vnic');
    const temporary = args.has('temporary');
    await attempt(`failed to delete ${name}`, call('vnic.delete', { name, temporary }));
  },
});
