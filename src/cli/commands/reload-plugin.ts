/** reload-plugin: has varpd take the new code of a lookup plugin, while its overlays run. */
import { attempt, defineCommand } from '../command.js';
import { requireOneOperand } from '../values.js';

export const command = defineCommand({
  synopsis: 'reload-plugin plugin',
  about:
    'Makes varpd load the code of a lookup plugin again. Its overlays go on meanwhile, and use the new code when it works for ' +
    'all of them. Otherwise they keep the code that they have, and the command says why.',
  options: [],
  examples: ['reload-plugin mine'],

  async run(args, { call }) {
    const name = requireOneOperand(args, 'plugin');
    await attempt('reload-plugin failed', call('daemon.reloadPlugin', { name }));
  },
});
