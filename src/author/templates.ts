/** The files of a new plugin package, by their paths. */

/** Versions of the packages that a new plugin is built with. */
export interface Versions {
  readonly varpd: string;
  readonly typescript: string;
  readonly nodeTypes: string;
}

/** Path -> text. `name`: name of the plugin. */
export function filesOf(name: string, versions: Versions): Readonly<Record<string, string>> {
  return {
    'package.json': manifest(name, versions),
    'tsconfig.json': TSCONFIG,
    '.gitignore': 'node_modules/\ndist/\n',
    // varpd is copied, with what it needs to run, and not linked with what it is built with.
    ...(versions.varpd.startsWith('file:') && { '.npmrc': 'install-links=true\n' }),
    'README.md': readme(name),
    'src/index.ts': source(name),
    'src/index.test.ts': test(name),
  };
}

function manifest(name: string, { varpd, typescript, nodeTypes }: Versions): string {
  const content = {
    name: `varpd-plugin-${name}`,
    version: '0.1.0',
    description: `A lookup plugin for varpd: ${name}`,
    type: 'module',
    engines: { node: '>=20' },
    exports: './dist/index.js',
    varpd: { plugin: './dist/index.js' },
    files: ['dist', '!dist/*.test.*'],
    scripts: { build: 'tsc', test: 'tsc && node --test dist/index.test.js' },
    devDependencies: { '@types/node': nodeTypes, typescript, varpd },
  };
  return `${JSON.stringify(content, undefined, 2)}\n`;
}

const TSCONFIG = `{
  "compilerOptions": {
    "target": "es2023",
    "lib": ["es2023"],
    "module": "nodenext",
    "rootDir": "src",
    "outDir": "dist",
    "types": ["node"],
    "strict": true,
    "noUncheckedIndexedAccess": true,
    "skipLibCheck": true
  },
  "include": ["src"]
}
`;

const source = (name: string): string => `/**
 * ${name}: a lookup plugin for varpd. It has its answers from a property: the VTEP of each MAC. Put your own store in place of it.
 */
import { definePlugin, type Destination, isMulticastMac, parseIp, parseMac } from 'varpd/plugin';

/** IANA "vxlan" */
const PORT = 4789;

export default definePlugin({
  apiVersion: 2,
  name: '${name}',
  mode: 'dynamic',
  properties: [
    {
      name: '${name}/hosts',
      type: 'string',
      required: true,
      maxBytes: 4096,
      about: 'the VTEP of each MAC: 02:00:00:00:00:07=192.0.2.7 02:00:00:00:00:08=192.0.2.8',
    },
  ],
  create: (host) => {
    let vtepOf = new Map<number, Destination>();
    return {
      start: async ({ hosts }) => {
        vtepOf = readHosts(hosts);
        // Frames are accepted from these addresses.
        host.setPeers([...vtepOf.values()].map(({ ip }) => ip));
      },
      stop: async () => {},
      resolve: ({ destinationMac }) => {
        if (isMulticastMac(destinationMac)) return { kind: 'drop', reason: 'broadcast and multicast are not carried' };
        const to = vtepOf.get(destinationMac);
        return to === undefined ? { kind: 'drop', reason: 'unknown MAC' } : { kind: 'target', to, ttlMs: 60_000 };
      },
    };
  },
});

/** Throws an Error that names the word which is wrong. The property is shown to every user of dladm, so it may be quoted. */
function readHosts(text: string): Map<number, Destination> {
  return new Map(
    text
      .split(' ')
      .filter((word) => word !== '')
      .map((word) => {
        const [mac, ip] = word.split('=');
        const [parsedMac, parsedIp] = [parseMac(mac ?? ''), parseIp(ip ?? '')];
        if (parsedMac === undefined || parsedIp === undefined)
          throw new Error(\`${name}/hosts: '\${word}' is not MAC=ADDRESS, as 02:00:00:00:00:07=192.0.2.7\`);
        return [parsedMac, { ip: parsedIp, port: PORT }];
      }),
  );
}
`;

/** In two parts, since the bundle of this program replaces the whole by the place of this file. */
const OWN_URL = ['import.meta', 'url'].join('.');

const test = (name: string): string => `import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checks, harness } from 'varpd/plugin-test';
import plugin from './index.js';

const KNOWN = '02:00:00:00:00:07';
const options = { properties: { hosts: \`\${KNOWN}=192.0.2.7\` } };

test('a frame goes to the VTEP of its MAC', async () => {
  const overlay = harness(plugin, options);
  await overlay.start();
  const sent = await overlay.send(KNOWN);
  assert.deepEqual(sent.tunnelled.map(({ to }) => to), ['192.0.2.7:4789']);
  assert.deepEqual((await overlay.send('02:00:00:00:00:99')).drops, { lookup_drop: 1 });
  assert.equal(overlay.health().status, 'ONLINE');
  await overlay.stop();
});

test('a wrong property is refused', async () => {
  const overlay = harness(plugin, { properties: { hosts: 'nonsense' } });
  await assert.rejects(overlay.start(), /${name}\\/hosts: 'nonsense' is not MAC=ADDRESS/);
  await overlay.stop();
});

for (const { name, about, skip, run } of checks(plugin, {
  ...options,
  known: [KNOWN],
  entry: new URL('./index.js', ${OWN_URL}),
}))
  test(\`\${name}: \${about}\`, { skip: skip ?? false }, run);
`;

const readme = (name: string): string => `# varpd-plugin-${name}

A lookup plugin for varpd.

    npm install
    npm test                # compiles, and runs the tests and the conformance checks of varpd
    npx varpd check-plugin . --resolve 02:00:00:00:00:07 -p ${name}/hosts=02:00:00:00:00:07=192.0.2.7

varpd finds the plugin by \`-i\`, or \`pluginPath\` in its configuration:

    varpd -i "$PWD"
    dladm create-overlay -e vxlan -v 100 -s ${name} -p vxlan/listen_ip=192.0.2.1 \\
        -p "${name}/hosts=02:00:00:00:00:07=192.0.2.7" overlay0

| property | |
|---|---|
| \`${name}/hosts\` | the VTEP of each MAC, with spaces between them |
`;
