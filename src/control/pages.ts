/** Reads lists of varpd, which come in pages. */
import type { Call } from './client.js';
import type { PageResult } from './messages.js';
import type { Methods, PagedMethod } from './methods.js';

/** One page at a time: there is at least one, and one may be empty. Rejects as `call` does. */
export async function* pagesOf<M extends PagedMethod>(
  call: Call,
  method: M,
  params: Methods[M]['params'],
): AsyncGenerator<Methods[M]['result'], void> {
  for (let after = {}; ;) {
    const page = await call(method, { ...params, ...after });
    yield page;
    // A varpd that was started before its client was replaced may not have pages.
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
