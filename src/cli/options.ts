/** Options that several commands have. */
import { DEFAULT_SOCKET } from '../control/messages.js';
import type { Command, Option } from './command.js';

/** Valid before and after the subcommand. */
export const EVERYWHERE: readonly Option[] = [
  {
    name: 'socket',
    value: 'path',
    about: `the control socket of varpd; else $VARPD_SOCKET, else ${DEFAULT_SOCKET}`,
  },
  { name: 'help', short: 'h', about: 'print this and exit' },
];

/** For a command without JSON of its own. */
const JSON_ERRORS: Option = { name: 'json', about: 'errors as JSON' };

/** Options of a command beside its own. */
export function commonOptions({ options }: Command): readonly Option[] {
  return options.some(({ name }) => name === JSON_ERRORS.name) ? EVERYWHERE : [JSON_ERRORS, ...EVERYWHERE];
}

/** For commands that make something. */
export const temporaryCreation = {
  name: 'temporary',
  short: 't',
  about: 'until varpd stops; otherwise it comes back',
} as const;

/** For commands that delete something. */
export const temporaryDeletion = {
  name: 'temporary',
  short: 't',
  about: 'until up-overlay, or until varpd starts again',
} as const;

/** Link properties by name. */
export const chosenProperties = {
  name: 'prop',
  short: 'p',
  value: 'prop[,...]',
  repeatable: true,
  about: 'which; otherwise all',
} as const;
