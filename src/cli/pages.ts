/** Lists of varpd, which come in pages. */
import type { Call } from '../control/client.js';
import type { Methods, PageResult, TargetRow } from '../control/messages.js';
import { attempt } from './command.js';

type ListMethod = 'overlay.list' | 'vnic.list' | 'linkprop.list';

/** As many as varpd gives at a time. */
const TARGETS_A_PAGE = 4096;

/** All pages. Rejects as `call` does. */
export async function readPages<M extends ListMethod>(
  call: Call,
  method: M,
  params: Methods[M]['params'],
): Promise<Methods[M]['result'][]> {
  const pages: Methods[M]['result'][] = [];
  for (let after = {}; ;) {
    const page = await call(method, { ...params, ...after });
    pages.push(page);
    // A varpd that was started before dladm was replaced knows of no pages.
    const { next }: Partial<PageResult> = page;
    if (typeof next !== 'string') return pages;
    after = { after: next };
  }
}

/** The target table of an overlay, a page at a time: there is at least one, and one may be empty. */
export async function* targetPages(name: string, call: Call): AsyncGenerator<readonly TargetRow[], void> {
  for (let after = {}; ;) {
    const answer = call('overlay.targets', { name, limit: TARGETS_A_PAGE, ...after });
    const { rows, next } = await attempt(`failed to get targets of ${name}`, answer);
    yield rows;
    if (next === null) return;
    after = { after: next };
  }
}
