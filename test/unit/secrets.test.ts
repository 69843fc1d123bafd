// What varpd says of a file that it may read and others may not: where, and what kind of mistake, and never what stands there.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import t from 'tap';
import { parseMapping } from '../../plugins/files/parser.js';
import { problemLine } from '../../src/plugin/mapping/problems.js';
import { atOnce } from '../../plugins/files/slices.js';
import { withQuotations } from '../../src/cli/quotation.js';
import { formatJson } from '../../src/cli/show.js';
import { oneLine } from '../../src/daemon/complaint.js';
import { parseConfig } from '../../src/daemon/config-file.js';
import { PluginCatalog } from '../../src/daemon/plugins/plugin-catalog.js';
import { parseState } from '../../src/daemon/state/state-schema.js';
import { asOverlayError, errorStack, errorText } from '../../src/model/errors.js';
import { ContentError, contentProblem } from '../../src/plugin/index.js';
import { pluginServices } from '../helpers/plugin-services.js';
import { BAD_MAPPINGS, GOOD } from '../helpers/bad-mappings.js';
import { startFiles } from '../helpers/mapping.js';
import { TableHost } from '../helpers/table-host.js';

const SECRET = 'hunter2';

const root = mkdtempSync(path.join(tmpdir(), 'varpd-secrets-'));
t.teardown(() => {
  rmSync(root, { recursive: true, force: true });
});

/** The message of what was thrown, and all else that is said of it. */
async function said(work: () => unknown): Promise<string> {
  try {
    await work();
  } catch (error) {
    const { message, details } = asOverlayError(error);
    return [message, ...details, errorStack(error)].join('\n');
  }
  throw new Error('nothing was thrown');
}

/** A secret at every place where a mapping can have one, well formed or not. */
const MAPPINGS = [
  SECRET,
  `"${SECRET}"`,
  `{"${SECRET}": {}}`,
  `{"02:00:00:00:00:01": "${SECRET}"}`,
  `{"02:00:00:00:00:01": ${SECRET}}`,
  `{"02:00:00:00:00:01": {${SECRET}: 1}}`,
  `{"02:00:00:00:00:01": {"ip": "${SECRET}", "port": ${SECRET}}}`,
  `{"02:00:00:00:00:01": {"ip": "${SECRET}", "port": "${SECRET}"}}`,
  `{"02:00:00:00:00:01": {${GOOD}, "arp": "${SECRET}", "ndp": ["${SECRET}"], "dhcp-proxy": "${SECRET}"}}`,
  `{"02:00:00:00:00:01": {${GOOD}, "${SECRET}": 1, "${SECRET}": 2}}`,
  `{"02:00:00:00:00:01": {${GOOD}, "__proto__": "${SECRET}"}}`,
  `{"02:00:00:00:00:01": {"ip": "\\x${SECRET}"}}`,
  `{"02:00:00:00:00:01": {"ip": "\\u${SECRET}"}}`,
  `{"02:00:00:00:00:01": {${GOOD}}} ${SECRET}`,
  `{"02:00:00:00:00:01": {"port": 1} ${SECRET}`,
];

await t.test('a mapping', async (t) => {
  await t.test('a start says where', async (t) => {
    const file = path.join(root, 'hosts.json');
    for (const text of MAPPINGS) {
      writeFileSync(file, text);
      const host = new TableHost();
      const message = await said(() => startFiles(host, file));
      t.match(message, /hosts\.json:1:\d+: found .*, expected /, text);
      t.notMatch([message, ...host.lines].join('\n'), SECRET, text);
    }
  });

  await t.test('a reload says where, in the health and in the log', async (t) => {
    const file = path.join(root, 'reload.json');
    writeFileSync(file, `{"02:00:00:00:00:01": {${GOOD}}}`);
    const host = new TableHost();
    const instance = await startFiles(host, file);
    t.teardown(() => instance.stop());
    for (const text of MAPPINGS) {
      writeFileSync(file, text);
      const message = await said(() => instance.reload());
      t.match(host.degraded, /reload\.json:1:\d+: found /);
      t.notMatch([message, host.degraded, ...host.lines].join('\n'), SECRET, text);
    }
  });

  await t.test('what has no effect is warned about without its name', async (t) => {
    const file = path.join(root, 'warned.json');
    writeFileSync(file, `{"02:00:00:00:00:01": {${GOOD}, "${SECRET}": 1}}`);
    const host = new TableHost();
    const instance = await startFiles(host, file);
    await instance.stop();
    t.match(host.lines.join('\n'), /warned\.json:1:\d+: found a name that has no effect/);
    t.notMatch(host.lines.join('\n'), SECRET);
  });

  await t.test('of no bad one is anything shown, and each has its place', (t) => {
    for (const [what, text, ...all] of BAD_MAPPINGS) {
      const { errors } = atOnce(parseMapping(Buffer.from(text)));
      t.same(
        errors.map(({ line, column, found }) => [`${line}:${column}`, found]),
        all.slice(0, errors.length).map(([at, , found]) => [at, found]),
        what,
      );
      for (const problem of errors) {
        const line = problemLine('/f', problem);
        t.match(
          line,
          /^\/f:\d+:\d+: found (?:an?|another|no|every|one|more than|the end) [A-Za-z0-9 ']+(?: \(already at \d+:\d+\))?, expected /,
          what,
        );
        t.ok(line.endsWith(`, expected ${problem.expected}`), what);
      }
    }
    t.end();
  });
});

await t.test('the configuration', async (t) => {
  const texts = [
    SECRET,
    `${SECRET}: 1`,
    `log: {${SECRET}: 1}`,
    `log: {level: ${SECRET}}`,
    `socket: ${SECRET}`,
    `socket: [${SECRET}]`,
    `pluginPath: [${SECRET}]`,
    `limits: {clients: ${SECRET}}`,
    `metrics: ${SECRET}`,
    `metricsHosts: ["${SECRET}!"]`,
    `persistTaps: ${SECRET}`,
    `user: [${SECRET}]`,
    `log: *${SECRET}`,
    `socket: "${SECRET}`,
    `socket: "\\${SECRET}"`,
    `socket: @${SECRET}`,
    `socket: !${SECRET} 1`,
    `socket: a\n ${SECRET}: b`,
    `${SECRET}: 1\n${SECRET}: 2`,
    `a: 1\n---\n${SECRET}: 1`,
    `a: {${SECRET}`,
    `a: &a\n${SECRET}: [*a, *${SECRET}]`,
    `\t${SECRET}: 1`,
    `a: 'x' ${SECRET}`,
    `? ${SECRET}\n: [`,
  ];
  for (const text of texts) {
    const message = await said(() => parseConfig(text, '/etc/varpd/varpd.yaml'));
    t.match(message, /^\/etc\/varpd\/varpd\.yaml:\d+:\d+: |^the configuration is invalid/, text);
    t.notMatch(message, SECRET, text);
  }
});

await t.test('a state file', async (t) => {
  const good = {
    version: 1,
    name: 'overlay0',
    id: 1,
    encap: 'vxlan',
    search: 'direct',
    vnetid: 1,
    mac: '02:00:00:00:00:01',
    properties: [],
    vnics: [],
  };
  const texts = [
    SECRET,
    `{"a": ${SECRET}}`,
    `{"a": "${SECRET}`,
    JSON.stringify({ ...good, version: SECRET }),
    JSON.stringify({ ...good, [SECRET]: 1 }),
    JSON.stringify({ ...good, name: `${SECRET}/` }),
    JSON.stringify({ ...good, mac: SECRET }),
    JSON.stringify({ ...good, properties: SECRET }),
    JSON.stringify({ ...good, vnics: [{ [SECRET]: SECRET }] }),
    JSON.stringify({ ...good, vnics: [{ name: 'a', mac: good.mac, macType: SECRET, vid: 0 }] }),
  ];
  t.equal(parseState(JSON.stringify(good)).name, 'overlay0');
  for (const text of texts) t.notMatch(await said(() => parseState(text)), SECRET, text);
});

await t.test('what JSON.parse and the compiler say', async (t) => {
  for (const text of [SECRET, `{"a": ${SECRET}}`, `["${SECRET}\n"]`, `{"${SECRET}" 1}`, `{"${SECRET}": "`]) {
    const message = await said(() => JSON.parse(text) as unknown);
    t.match(message, /^not valid JSON/);
    t.notMatch(message, SECRET, text);
  }
  t.equal(
    errorText(await Promise.reject(new Error('of its own')).catch((error: unknown) => error)),
    'of its own',
  );
  const parsed = (): unknown => JSON.parse('["a", }');
  t.match(await said(parsed), /^not valid JSON.*\n.*at /s, 'the frames of the program stay');
});

await t.test('a plugin that cannot be imported', async (t) => {
  const sources: Readonly<Record<string, string>> = {
    syntax: `export default {\n  key: ${SECRET} ${SECRET},\n};\n`,
    export: `import { ${SECRET} } from './other.js';\n`,
    json: `import { readFileSync } from 'node:fs';\nexport default JSON.parse(readFileSync(new URL('key', import.meta.url), 'utf8'));\n`,
    data: `import key from './key.json' with { type: 'json' };\nexport default key;\n`,
    number: `import { readFileSync } from 'node:fs';\nexport default BigInt(readFileSync(new URL('key', import.meta.url), 'utf8'));\n`,
    pattern: `export default new RegExp('(${SECRET}');\n`,
  };
  const directory = path.join(root, 'plugins');
  for (const [name, source] of Object.entries(sources)) {
    const own = path.join(directory, name);
    mkdirSync(own, { recursive: true });
    writeFileSync(path.join(own, 'package.json'), '{"type": "module"}');
    writeFileSync(path.join(own, 'index.js'), source);
    writeFileSync(path.join(own, 'other.js'), '');
    for (const file of ['key', 'key.json']) writeFileSync(path.join(own, file), `{"${SECRET}": ${SECRET}}`);
  }
  const lines: string[] = [];
  const keep = (_kind: string, message: string): void => void lines.push(message);
  const log = { debug: keep, info: keep, warn: keep, error: keep };
  const catalog = PluginCatalog.load([directory], log, pluginServices(t));
  t.teardown(() => {
    catalog.close(false);
  });
  await catalog.find('none');
  for (const name of Object.keys(sources)) {
    const failure = catalog.failureOf(name) ?? '';
    t.match(failure, /not valid JSON|a syntax error/, name);
    t.notMatch(failure, SECRET, name);
  }
  t.notMatch(lines.join('\n'), SECRET, 'nor in the log');
  t.match(
    catalog.failureOf('export'),
    `${directory}/export/index.js:1:`,
    'where Node says the place, it is said',
  );
});

await t.test('the helpers of the plugin contract', (t) => {
  const place = { file: '/etc/x.json', line: 3, column: 7 };
  const error = new ContentError(place, 'found a string, expected a number');
  t.equal(error.message, '/etc/x.json:3:7: found a string, expected a number');
  t.equal(error.message, contentProblem(place, 'found a string, expected a number'));
  t.equal(asOverlayError(error).code, 'INVALID');
  t.end();
});

await t.test('dladm adds what stands there', (t) => {
  const file = path.join(root, 'a file: 1.json');
  writeFileSync(file, `{\n  "é": "${SECRET}",\n  "long": "${'x'.repeat(100)}"\n\x1b[2J\u202e}`);
  const quoted = (text: string): string => withQuotations(text);
  t.equal(
    quoted(`plugin files: ${file}:2:8: found a string, expected a number (and 1 more: /x/y)`),
    `plugin files: ${file}:2:8: at '"${SECRET}",': found a string, expected a number (and 1 more: /x/y)`,
    'in characters, and whatever the name',
  );
  t.equal(quoted(`${file}:3:3: found`), `${file}:3:3: at '"long": "${'x'.repeat(39)}...': found`);
  t.equal(
    quoted(`a; ${file}:2:8: b; ${file}:1:1: c`),
    `a; ${file}:2:8: at '"${SECRET}",': b; ${file}:1:1: at '{': c`,
    'more than one',
  );
  t.notMatch(oneLine(quoted(`${file}:4:1: found`)), /\p{C}/u, 'which dladm prints without obeying');
  for (const text of [
    `${file}:9:1: found`,
    `${file}:2:80: found`,
    `${file}:0:1: found`,
    `${root}/none:1:1: found`,
    `${root}:1:1: found`,
    '/dev/zero:1:1: found',
    'hosts.json:1:1: found',
    '',
    ':1:1: ',
  ])
    t.equal(quoted(text), text, text);
  t.end();
});

await t.test('what a terminal would obey', (t) => {
  const text = 'a\x1b[2J\x9b\u202e\u2028\u{e0001}b\nc';
  t.notMatch(oneLine(text), /[\p{C}\p{Zl}]/u);
  const json = formatJson({ text });
  t.notMatch(json.replaceAll('\n', ''), /[\p{C}\p{Zl}]/u);
  t.same(JSON.parse(json), { text }, 'JSON is the same value');
  t.end();
});
