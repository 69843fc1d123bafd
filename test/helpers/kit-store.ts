// A small store over HTTP in the hands of a test of the kit, and what plugins of these tests do.
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Test } from 'tap';

/** The one MAC that the store knows. */
export const KNOWN = 0x0200_0000_0007;

/** GET /MAC: the host 192.0.2.7; GET /v2/MAC: the host 192.0.2.8. */
export async function startKitStore(t: Pick<Test, 'teardown'>) {
  let state: 'good' | 'failing' | 'hanging' = 'good';
  const waiting = new Set<() => void>();
  const store = createServer((request, response) => {
    if (state === 'hanging') {
      waiting.add(() => response.destroy());
      return;
    }
    response.statusCode = state === 'failing' ? 503 : request.url?.endsWith('07') === true ? 200 : 404;
    const ip = request.url?.startsWith('/v2/') === true ? '192.0.2.8' : '192.0.2.7';
    response.end(JSON.stringify({ ip, port: 4789 }));
  });
  await new Promise<void>((resolve) => {
    store.listen(0, '127.0.0.1', resolve);
  });
  t.teardown(() => {
    store.closeAllConnections();
    store.close();
  });
  const backend = {
    fail: () => {
      state = 'failing';
    },
    hang: () => {
      state = 'hanging';
    },
    mend: () => {
      state = 'good';
      for (const end of waiting) end();
      waiting.clear();
    },
  };
  return {
    url: `http://127.0.0.1:${(store.address() as AddressInfo).port}`,
    backend,
    isHanging: () => state === 'hanging',
  };
}

/** Holds the thread, by so much processor time. */
export function holdThread(ms: number): void {
  const before = process.cpuUsage();
  for (let usedUs = 0; usedUs < ms * 1000;) {
    const { user, system } = process.cpuUsage(before);
    usedUs = user + system;
  }
}
