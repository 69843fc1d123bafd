/** help: the same as --help, in the place where other programs have it. */
import { defineCommand, UsageError } from '../command.js';

export const command = defineCommand({
  synopsis: 'help [command]',
  about: 'Describes a command, as COMMAND --help does, or lists all.',
  options: [],
  examples: ['help', 'help create-overlay'],

  async run({ operands }, { help, print }) {
    if (operands.length > 1) throw new UsageError(`expected at most one command, got: ${operands.join(' ')}`);
    print(await help(operands.at(0)));
  },
});
