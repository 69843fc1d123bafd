/** reload: what SIGHUP does, with an answer. */
import { attempt, CommandError, defineCommand, reasonOf, UsageError } from '../command.js';

export const command = defineCommand({
  synopsis: 'reload',
  about:
    'Has varpd read its configuration and the files of its lookup plugins again. Invalid content changes nothing ' +
    'and is reported. (Mappings of the files plugin are also read whenever they change.)',
  options: [],
  examples: ['reload'],

  async run({ operands }, { call }) {
    if (operands.length > 0) throw new UsageError(`expected no operand, got: ${operands.join(' ')}`);
    const { failures } = await attempt('reload failed', call('daemon.reload', {}));
    if (failures.length === 0) return;
    const reasons = failures.map((failure) => `${failure.name}: ${reasonOf(failure)}`);
    throw new CommandError('reload failed: not everything was taken', reasons);
  },
});
