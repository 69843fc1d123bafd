/** Creations that may be repeated: --if-missing, and the result for programs. */
import type { CreationInfo } from '../control/messages.js';
import type { Arguments, Context } from './command.js';
import { formatJson } from './show.js';

export const CREATION_OPTIONS = [
  {
    name: 'if-missing',
    about: 'do nothing if it exists as asked for; if it exists with other settings, name them: exit status 5',
  },
  { name: 'json', about: 'whether it was created, and errors, as JSON' },
] as const;

type CreationOption = (typeof CREATION_OPTIONS)[number]['name'];

/** Version of the shape of --json (docs/overlays.md). */
const SHAPE = 1;

/** The member of a request. A varpd that was started before dladm was replaced does not know it. */
export function ifMissing(args: Arguments<CreationOption>): { isIfMissing?: true } {
  return args.has('if-missing') ? { isIfMissing: true } : {};
}

/** `whyOffline` resolves with the reason why something that was there does not run. `made` is null from an older varpd. */
export async function tellCreation(
  name: string,
  made: CreationInfo | null,
  isJson: boolean,
  { print, warn }: Context,
  whyOffline: () => Promise<string | null | undefined>,
): Promise<void> {
  const isCreated = made?.isCreated !== false;
  if (isJson) print(formatJson({ v: SHAPE, name, created: isCreated }));
  const reason = isCreated ? undefined : await whyOffline();
  if (typeof reason === 'string') warn(`${name} is OFFLINE: ${reason}`);
}
