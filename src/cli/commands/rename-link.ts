/** rename-link: gives an overlay or a VNIC, and its network interface, another name. */
import { attempt, defineCommand, UsageError } from '../command.js';
import { requireName } from '../values.js';

export const command = defineCommand({
  synopsis: 'rename-link link name',
  about:
    'Renames an overlay or a VNIC, and its network interface. Its addresses, its properties and its traffic go on. A kernel ' +
    'before Linux 6.2 renames no interface that is up.',
  options: [],
  examples: ['rename-link overlay0 tenant0', 'rename-link foo0 web0'],

  async run({ operands }, { call }) {
    if (operands.length !== 2)
      throw new UsageError(`expected two names, got: ${operands.join(' ') || 'none'}`);
    const [name, to] = operands;
    requireName(to);
    await attempt(`rename of ${name} failed`, call('link.rename', { name, to }));
  },
});
