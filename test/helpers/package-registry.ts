// A registry of npm packages on loopback: those that this repository has installed, and no other. So a test can type `npm install`
// without the network.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';

import { fromRoot } from './need.js';

export interface PackageRegistry {
  readonly url: string;
  /** Names that were asked for and are not here. */
  readonly missing: readonly string[];
  close(): void;
}

export async function packageRegistry(): Promise<PackageRegistry> {
  const missing: string[] = [];
  let url = '';
  const archives = new Map<string, Buffer>();
  const directoryOf = (name: string): string => fromRoot(path.join('node_modules', name));
  const manifestOf = (name: string): { version: string } =>
    JSON.parse(readFileSync(path.join(directoryOf(name), 'package.json'), 'utf8')) as { version: string };

  const server = createServer((request, response) => {
    const asked = decodeURIComponent(request.url ?? '').slice(1);
    const [name] = asked.split('/-/');
    if (!existsSync(path.join(directoryOf(name), 'package.json'))) {
      missing.push(name);
      response.writeHead(404).end('{}');
    } else if (!asked.includes('/-/')) {
      const manifest = manifestOf(name);
      const dist = { tarball: `${url}/${name}/-/${manifest.version}.tgz` };
      const { version } = manifest;
      const versions = { [version]: { ...manifest, dist } };
      response.setHeader('content-type', 'application/json');
      response.end(JSON.stringify({ name, 'dist-tags': { latest: version }, versions }));
    } else {
      const bytes = archives.get(name) ?? packed(directoryOf(name));
      archives.set(name, bytes);
      response.end(bytes);
    }
  });
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    url,
    missing,
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}

/** The directory as npm has packages, compressed little. */
function packed(directory: string): Buffer {
  const args = [
    '-c',
    '--exclude=./node_modules',
    '--transform=s,^\\.,package,',
    '-I',
    'gzip -1',
    '-C',
    directory,
    '.',
  ];
  const { status, stdout, stderr } = spawnSync('tar', args, { maxBuffer: 256 * 1024 * 1024 });
  if (status !== 0) throw new Error(`tar: ${String(stderr)}`);
  return stdout;
}
