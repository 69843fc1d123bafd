/** Reads lists of varpd, which come in pages. */
import type { Call } from '../control/client.js';
import { MAX_TARGET_ROWS, type PageResult, type TargetRow } from '../control/messages.js';
import type { Methods, PagedMethod } from '../control/methods.js';
import { attempt } from './command.js';

/** One page at a time: there is at least one, and one may be empty. Rejects as `call` does. */
async function* pagesOf<M extends PagedMethod>(
  call: Call,
  method: M,
  params: Methods[M]['params'],
): AsyncGenerator<Methods[M]['result'], void> {
  for (let after = {}; ;) {
    const page = await call(method, { ...params, ...after });
    yield page;
    // A varpd that was started before dladm was replaced may not have pages.
    const { next }: Partial<PageResult> = page;
    if (typeof next !== 'string') return;
    after = { after: next };
  }
}

/** All pages. Rejects as `call` does. */
export async function readPages<M extends PagedMethod>(
  call: Call,
  method: M,
  params: Methods[M]['params'],
): Promise<Methods[M]['result'][]> {
  const pages: Methods[M]['result'][] = [];
  for await (const page of pagesOf(call, method, params)) pages.push(page);
  return pages;
}

/** The target table of an overlay, in the largest pages that varpd gives. */
export async function* targetPages(name: string, call: Call): AsyncGenerator<readonly TargetRow[], void> {
  const pages = pagesOf(call, 'overlay.targets', { name, limit: MAX_TARGET_ROWS });
  const next = () => attempt(`cannot read the target table of ${name}`, pages.next());
  for (let page = await next(); page.done !== true; page = await next()) yield page.value.rows;
}
