/** Reads target tables of varpd, which come in pages. */
import type { Call } from '../control/client.js';
import { MAX_TARGET_ROWS, type TargetRow } from '../control/messages.js';
import { pagesOf } from '../control/pages.js';
import { attempt } from './command.js';

/** The target table of an overlay, in the largest pages that varpd gives. */
export async function* targetPages(name: string, call: Call): AsyncGenerator<readonly TargetRow[], void> {
  const pages = pagesOf(call, 'overlay.targets', { name, limit: MAX_TARGET_ROWS });
  const next = () => attempt(`cannot read the target table of ${name}`, pages.next());
  for (let page = await next(); page.done !== true; page = await next()) yield page.value.rows;
}
