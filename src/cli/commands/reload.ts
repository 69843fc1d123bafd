/** reload: does the same as SIGHUP, with an answer. */
import { attempt, CommandError, defineCommand, reasonOf } from '../command.js';
import { refuseOperands } from '../values.js';

export const command = defineCommand({
  synopsis: 'reload',
  about:
    'Makes varpd read its configuration and the files of its lookup plugins again. Invalid content changes nothing ' +
    'and is reported. (Mappings of the files plugin are also read whenever they change.)',
  options: [],
  examples: ['reload'],

  async run(args, { call }) {
    refuseOperands(args);
    const { failures } = await attempt('reload failed', call('daemon.reload', {}));
    if (failures.length === 0) return;
    const reasons = failures.map((failure) => `${failure.name}: ${reasonOf(failure)}`);
    throw new CommandError('reload failed: invalid parts were not applied; the errors are above', reasons);
  },
});
