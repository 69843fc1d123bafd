/** up-overlay: starts stored overlays again that could not be brought up when varpd started. */
import { attempt, defineCommand, failureError, reasonOf, UsageError } from '../command.js';

export const command = defineCommand({
  synopsis: 'up-overlay [overlay]',
  about: 'Brings up persistent overlays that are not running: one, or all.',
  options: [],
  examples: ['up-overlay', 'up-overlay overlay0'],

  async run({ operands }, { call, fail }) {
    if (operands.length > 1) {
      throw new UsageError(`expected at most one overlay name, got: ${operands.join(' ')}`);
    }
    const name = operands.at(0);
    const one = (overlay: string): string => `could not bring up overlay '${overlay}'`;
    const what = name === undefined ? 'could not bring overlays up' : one(name);
    const { failures } = await attempt(what, call('overlay.up', name === undefined ? {} : { name }));
    for (const failure of failures)
      fail(failureError(`${one(failure.name)}: ${reasonOf(failure)}`, failure, 'FAILED'));
  },
});
