// openapi.yaml describes the interface of a store: it is a valid document, and every answer of the reference server that it
// names is produced, and is as it says.
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { Validator } from '@seriousme/openapi-schema-validator';
import { Ajv2020 } from 'ajv/dist/2020.js';
import t from 'tap';
import { parse } from 'yaml';

import { macText, ReferenceStore, scratch } from '../helpers/http-store.js';
import { fromRoot, skipUnless } from '../helpers/need.js';

const skip = skipUnless({ programs: ['python3'] });
const FILE = fromRoot('plugins/http/openapi.yaml');

interface Response {
  readonly $ref?: string;
  readonly content?: Readonly<Record<string, object>>;
  readonly headers?: Readonly<Record<string, object>>;
}
interface Operation {
  readonly operationId: string;
  readonly responses: Readonly<Partial<Record<string, Response>>>;
}
interface Document {
  readonly paths: Readonly<Record<string, Readonly<Partial<Record<string, Operation>>>>>;
  readonly components: { readonly responses: Readonly<Record<string, Response>> };
}

const document = parse(readFileSync(FILE, 'utf8')) as Document;
const METHODS = ['get', 'put', 'delete'] as const;

t.test('the document is valid', async (t) => {
  const result = await new Validator().validate(readFileSync(FILE, 'utf8'));
  t.strictSame(result.valid ? [] : result.errors, []);
});

t.test('every answer of the reference server is as the document says', { skip }, async (t) => {
  const ajv = new Ajv2020({ strict: false, validateFormats: false });
  ajv.addSchema(document, 'store');
  const seen = new Set<string>();
  const pointer = (...steps: string[]): string =>
    `store#/${steps.map((step) => step.replaceAll('~', '~0').replaceAll('/', '~1').replaceAll('{', '%7B').replaceAll('}', '%7D')).join('/')}`;

  /** Checks one value against the schema of an answer. */
  const isSound = (
    operation: Operation,
    template: string,
    method: string,
    status: string,
    kind: string,
    value: unknown,
  ): void => {
    const reference = operation.responses[status]?.$ref;
    const steps =
      reference === undefined
        ? ['paths', template, method, 'responses', status]
        : reference.slice(2).split('/');
    const check = ajv.getSchema(pointer(...steps, 'content', kind, 'schema'));
    t.ok(check, `${operation.operationId} ${status} ${kind}`);
    t.ok(check?.(value), `${JSON.stringify(value)}: ${ajv.errorsText(check?.errors)}`);
  };

  /** Asks, and checks status, kind and body. */
  const answer = async (
    store: ReferenceStore,
    id: string,
    resource: string,
    expected: number,
    { method = 'get', ...init }: RequestInit = {},
  ): Promise<globalThis.Response> => {
    const found = Object.entries(document.paths).flatMap(([template, operations]) =>
      METHODS.flatMap((each) =>
        operations[each]?.operationId === id ? [{ template, operation: operations[each] }] : [],
      ),
    )[0];
    const { template, operation } = found;
    const response = await fetch(`${store.network}${resource}`, { method, ...init });
    t.equal(response.status, expected, `${id} ${resource}`);
    const status = String(expected);
    seen.add(`${id} ${status}`);
    const described = operation.responses[status];
    t.ok(described, `${id} ${status} is in the document`);
    for (const header of Object.keys(described?.headers ?? {}))
      t.ok(response.headers.has(header), `${id}: ${header}`);
    const kind = response.headers.get('content-type') ?? '';
    if (expected === 304 || kind === 'text/event-stream') return response;
    const text = await response.text();
    const values = kind === 'application/x-ndjson' ? text.trim().split('\n') : [text];
    for (const value of values) isSound(operation, template, method, status, kind, JSON.parse(value));
    return new Response(text, { headers: response.headers });
  };

  const store = await ReferenceStore.start(t, ['--networks', '23', '--history', '5', '--keep-alive', '0.2']);
  const entry = {
    ip: '192.0.2.1',
    port: 4789,
    arp: '10.0.0.2',
    ndp: ['fd00::2', 'fd00::3'],
    'dhcp-proxy': macText(2),
  };
  const put = { method: 'put', body: JSON.stringify(entry) };
  await answer(store, 'setEntry', '/macs/02-00-00-00-00-01', 200, put);
  await answer(store, 'setEntry', '/macs/02-00-00-00-00-02', 200, {
    method: 'put',
    body: '{"ip": "192.0.2.2", "port": 4790}',
  });
  await answer(store, 'setEntry', '/macs/02-00-00-00-00-03', 400, { method: 'put', body: '[]' });
  await answer(store, 'setEntry', '/macs/02-00-00-00-00', 400, { method: 'put', body: '{}' });
  const single: [id: string, resource: string, unknown: string][] = [
    ['entry', '/macs/02-00-00-00-00-01', '/macs/02-00-00-00-00-09'],
    ['dhcpServer', '/macs/02-00-00-00-00-01/dhcp-server', '/macs/02-00-00-00-00-02/dhcp-server'],
    ['neighbor', '/ips/10.0.0.2', '/ips/10.0.0.9'],
    ['network', '', '../24'],
  ];
  for (const [id, resource, unknown] of single) {
    const etag = (await answer(store, id, resource, 200)).headers.get('etag') ?? '';
    await answer(store, id, resource, 304, { headers: { 'if-none-match': etag } });
    await answer(store, id, unknown.replace('../', '/../'), 404);
  }
  t.same(await (await answer(store, 'neighbor', '/ips/fd00::3', 200)).json(), { mac: macText(1) });
  t.same(
    await (await answer(store, 'entry', '/macs/02:0:0:0:0:1', 200)).json(),
    entry,
    'a spelling for people',
  );

  const lines = (await (await answer(store, 'snapshot', '/entries', 200)).text()).trim().split('\n');
  t.equal(lines.length, 3);
  t.same(JSON.parse(lines[2]), { revision: '2', entries: 2 });
  await answer(store, 'snapshot', '/../24/entries', 404);
  await answer(store, 'changes', '/../24/changes', 404);

  await answer(store, 'removeEntry', '/macs/02-00-00-00-00-02', 200, { method: 'delete' });
  await answer(store, 'removeEntry', '/macs/02-00-00-00-00-02', 404, { method: 'delete' });
  const ended = new AbortController();
  const stream = await answer(store, 'changes', '/changes', 200, {
    headers: { 'last-event-id': '0' },
    signal: ended.signal,
  });
  let text = '';
  for await (const chunk of stream.body ?? []) {
    text += Buffer.from(chunk).toString();
    if (text.split('event: cursor').length > 3) break;
  }
  ended.abort();
  const changes = [...text.matchAll(/^data: (.*)$/gm)].map(([, data]) => JSON.parse(data) as unknown);
  t.equal(changes.length, 3);
  const get = document.paths['/v1/networks/{vnetid}/changes']['get']!;
  for (const change of changes)
    isSound(get, '/v1/networks/{vnetid}/changes', 'get', '200', 'text/event-stream', change);
  for (let count = 0; count < 6; count++)
    await answer(store, 'setEntry', '/macs/02-00-00-00-00-01', 200, put);
  await answer(store, 'changes', '/changes', 410, { headers: { 'last-event-id': '2' } });

  const tokenFile = path.join(scratch(t), 'token');
  writeFileSync(tokenFile, 'right\n');
  const closed = await ReferenceStore.start(t, ['--token-file', tokenFile]);
  const wrong = { headers: { authorization: 'Bearer wrong' } };
  for (const [id, resource] of [...single, ['snapshot', '/entries'], ['changes', '/changes']] as const)
    await answer(closed, id, resource, 401, wrong);
  await answer(closed, 'setEntry', '/macs/02-00-00-00-00-01', 401, { ...put, ...wrong });
  await answer(closed, 'removeEntry', '/macs/02-00-00-00-00-01', 401, { method: 'delete' });
  await answer(closed, 'network', '', 200, { headers: { authorization: 'Bearer right' } });

  const described = Object.values(document.paths).flatMap((operations) =>
    METHODS.flatMap((method) =>
      Object.keys(operations[method]?.responses ?? {}).map(
        (status) => `${operations[method]?.operationId} ${status}`,
      ),
    ),
  );
  t.strictSame(
    described.filter((each) => !seen.has(each)),
    [],
    'no answer of the document was left out',
  );
});
