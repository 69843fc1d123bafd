/** rename-link: gives a VNIC, and its network interface, another name. */
import { attempt, defineCommand, UsageError } from '../command.js';
import { requireName } from '../values.js';

export const command = defineCommand({
  synopsis: 'rename-link vnic name',
  about:
    'Renames a VNIC and its network interface. Its addresses, its properties and its traffic go on. A kernel before Linux ' +
    '6.2 renames no interface that is up.',
  options: [],
  examples: ['rename-link foo0 web0'],

  async run({ operands }, { call }) {
    if (operands.length !== 2)
      throw new UsageError(`expected two names, got: ${operands.join(' ') || 'none'}`);
    const [name, to] = operands;
    requireName(to);
    await attempt(`rename of ${name} failed`, call('vnic.rename', { name, to }));
  },
});
