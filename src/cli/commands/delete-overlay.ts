/** delete-overlay: varpd reports everything that is wrong with the name. */
import { attempt, defineCommand } from '../command.js';
import { temporaryDeletion } from '../options.js';
import { requireOneOperand } from '../values.js';

export const command = defineCommand({
  synopsis: 'delete-overlay [-t] overlay',
  about: 'Deletes an overlay. Refused with "link busy" while the overlay has VNICs.',
  options: [temporaryDeletion],
  examples: ['delete-overlay overlay0'],

  async run(args, { call }) {
    const name = requireOneOperand(args, 'overlay');
    const temporary = args.has('temporary');
    await attempt(`failed to delete ${name}`, call('overlay.delete', { name, temporary }));
  },
});
