/**
 * The thread of the live page. The control thread of varpd takes no part in it: however many pages are open, it has one client more
 * on the control socket, which it never waits for.
 */
import { parentPort, workerData } from 'node:worker_threads';
import type { ThreadNews, ThreadOptions } from './messages.js';
import { PageServer } from './server.js';

const options = workerData as ThreadOptions;
const tell = (news: ThreadNews): void => {
  parentPort?.postMessage(news);
};
const bug = (error: unknown): void => {
  tell({ kind: 'bug', stack: error instanceof Error ? (error.stack ?? error.message) : String(error) });
};
process.on('uncaughtException', bug);
process.on('unhandledRejection', bug);

const page = new PageServer(options, new URL('../../programs/page/', import.meta.url), bug);
const { server } = page;
server.once('error', (error: NodeJS.ErrnoException) => {
  tell({ kind: 'failed', code: error.code ?? null, message: error.message });
});
server.once('listening', () => {
  server.removeAllListeners('error');
  server.on('error', bug);
  page.start();
  const address = server.address();
  tell({ kind: 'listening', port: typeof address === 'object' ? (address?.port ?? null) : null });
});
server.listen({ ...options.listen, exclusive: true });
