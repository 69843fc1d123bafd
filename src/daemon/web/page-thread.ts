/** Starts the thread of the live page (src/web), and ends it. Without `web` in the configuration its code is not loaded. */
import { chmodSync, lchownSync, unlinkSync } from 'node:fs';
import { hostname } from 'node:os';
import { Worker } from 'node:worker_threads';
import { OverlayError } from '../../model/errors.js';
import { formatEndpoint, parseEndpoint } from '../../wire/ip.js';
import type { ThreadNews, ThreadOptions } from '../../web/messages.js';
import type { Log } from '../log.js';
import { claimSocket, serveAddress } from '../socket-file.js';
import { addressSentences, explain } from '../system-error.js';

/** Between attempts to get the address, while varpd works without it. */
const RETRY_MS = 10_000;
const SOCKET_MODE = 0o660;
/** The heap of the thread: histories and tables have some megabytes. */
const MAX_HEAP_MIB = 256;

export interface PageOptions {
  /** `web` of the configuration: `ip:port`, or the path of a Unix socket. */
  readonly address: string;
  /** The place of the address in the configuration, as `file:line:column: `. */
  readonly place: string;
  readonly hosts: readonly string[];
  /** Reads the secret that `webToken` names. Rejects with an Error that does not quote it. */
  readonly token: (() => Promise<string>) | undefined;
  /** Group that may open a Unix socket; undefined = the group of this process. */
  readonly gid: number | undefined;
  /** The control socket. */
  readonly socket: string;
  readonly log: Log;
}

/**
 * Rejects with an OverlayError when the address cannot be had. With `mayWait` the error is logged instead, and it is tried again.
 * Resolves to a function that ends the page.
 */
export function startPage(options: PageOptions, mayWait: boolean): Promise<() => Promise<void>> {
  const { address, log, place } = options;
  return serveAddress({ key: 'web', place, retryMs: RETRY_MS, log }, mayWait, async (lost) => {
    const worker = await startWorker(options, () => {
      lost(new OverlayError('INTERNAL', 'the thread of the page has ended'));
    });
    return async () => {
      await worker.terminate();
      if (parseEndpoint(address) === undefined) removeFile(address);
    };
  });
}

async function startWorker(options: PageOptions, ended: () => void): Promise<Worker> {
  const { address, hosts, gid, socket, log, token } = options;
  const endpoint = parseEndpoint(address);
  if (endpoint === undefined) await claimSocket(address, gid);
  const workerData: ThreadOptions = {
    socket,
    listen: endpoint === undefined ? { path: address } : { host: endpoint.ip, port: endpoint.port },
    hosts,
    token: await token?.(),
    hostName: hostname(),
  };
  const worker = new Worker(new URL('../../web/thread.js', import.meta.url), {
    workerData,
    name: 'varpd-web',
    resourceLimits: { maxOldGenerationSizeMb: MAX_HEAP_MIB },
  });
  worker.unref();
  await new Promise<void>((resolve, reject) => {
    worker.once('error', (error) => {
      log.error('web thread', `the thread of the page failed: ${error.message}`);
      reject(error);
    });
    worker.on('message', (news: ThreadNews) => {
      if (news.kind === 'bug') log.error('web bug', `the page: ${news.stack}`);
      else if (news.kind === 'listening') resolve();
      else {
        const error = Object.assign(new Error(news.message), { code: news.code });
        reject(endpoint === undefined ? error : explain(error, addressSentences(endpoint, 'web')));
      }
    });
  }).catch(async (error: unknown) => {
    await worker.terminate();
    throw error;
  });
  worker.once('exit', ended);
  if (endpoint === undefined) {
    // bind(2) has made it without the right to write for others, which connect(2) needs: the mask of varpd is 022, or more.
    chmodSync(address, SOCKET_MODE);
    if (gid !== undefined) lchownSync(address, process.geteuid?.() ?? 0, gid);
  }
  log.info(
    'web',
    `the live page is served on ${endpoint === undefined ? address : `http://${formatEndpoint(endpoint)}`}`,
  );
  return worker;
}

function removeFile(file: string): void {
  try {
    unlinkSync(file);
  } catch {
    // It is gone already.
  }
}
