// The http plugin over TLS: certificates and names, tokens, the certificate of a client.
import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';

import { ask, mac, macText, ReferenceStore, scratch, startHttp } from '../helpers/http-store.js';
import { skipUnless } from '../helpers/need.js';
import { exec, waitUntil } from '../helpers/process.js';
import { TableHost } from '../helpers/table-host.js';

const skip = skipUnless({ programs: ['python3', 'openssl'] });
const VTEP = { ip: '10.88.88.70', port: 4789 };

/** Makes an authority, and certificates of it: for 127.0.0.1, for another name, one that has expired, one for a client. */
async function authority(directory: string, name: string): Promise<void> {
  const file = (end: string): string => path.join(directory, `${name}${end}`);
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  const make = (...args: string[]): Promise<string> => exec(['openssl', ...args]);
  await make(
    'req',
    '-x509',
    ...curve,
    '-subj',
    `/CN=${name}`,
    '-days',
    '30',
    '-keyout',
    file('.key'),
    '-out',
    file('.pem'),
  );
  const of = async (what: string, subject: string, extension: string): Promise<void> => {
    writeFileSync(file('.ext'), extension);
    await make(
      'req',
      ...curve,
      '-subj',
      `/CN=${subject}`,
      '-keyout',
      file(`-${what}.key`),
      '-out',
      file('.csr'),
    );
    const dates = what === 'expired' ? ['-days', '-1'] : ['-days', '30'];
    const by = ['-CA', file('.pem'), '-CAkey', file('.key'), '-CAcreateserial', '-extfile', file('.ext')];
    await make('x509', '-req', '-in', file('.csr'), ...by, ...dates, '-out', file(`-${what}.pem`));
  };
  await of('server', 'store', 'subjectAltName=IP:127.0.0.1');
  await of('other', 'store', 'subjectAltName=DNS:other.example');
  await of('client', 'host', 'extendedKeyUsage=clientAuth');
}

t.test('TLS', { skip }, async (t) => {
  const directory = scratch(t);
  await authority(directory, 'good');
  await authority(directory, 'strange');
  const file = (name: string): string => path.join(directory, name);
  const token = file('token');
  writeFileSync(token, 'right\n');
  const tls = (name: string): string[] => ['--cert', file(`${name}.pem`), '--key', file(`${name}.key`)];
  const ca = file('good.pem');
  const serverOf = async (t: Test, options: string[]): Promise<ReferenceStore> => {
    const store = await ReferenceStore.start(t, options);
    store.scheme = 'https';
    return store;
  };

  await t.test('a certificate of an authority of our own, and a token', async (t) => {
    const store = await serverOf(t, [...tls('good-server'), '--token-file', token, '--keep-alive', '0.2']);
    const host = new TableHost();
    host.secrets.set('store-token', 'right\n');
    const { instance } = await startHttp(t, store.url, { ca, token: 'store-token' }, host);
    t.match(await ask(instance, mac(1)), { kind: 'drop', reason: 'the store has no such MAC' });
    await t.rejects(startHttp(t, store.url, {}), {
      message: new RegExp(
        `^the certificate of ${store.url} is not accepted \\([A-Z_]+\\): http/ca names the authority to trust$`,
      ),
      code: 'EINVAL',
    });
    await t.rejects(startHttp(t, store.url, { ca: file('strange.pem') }), { message: /is not accepted/ });
    await t.rejects(startHttp(t, store.url, { ca, token: 'absent' }), {
      message: 'there is no secret absent',
    });
    await t.rejects(startHttp(t, store.url, { ca }), {
      message: /has answered 401 .*: http\/token names the secret/,
    });
    const wrong = new TableHost();
    wrong.secrets.set('store-token', 'hunter2');
    await t.rejects(startHttp(t, store.url, { ca, token: 'store-token' }, wrong), {
      message: `${store.url} has answered 401 to GET /v1/networks/23: the token in the secret http/token is not accepted`,
    });
    wrong.secrets.set('store-token', 'hunter2 \n hunter2');
    await t.rejects(startHttp(t, store.url, { ca, token: 'store-token' }, wrong), {
      message: 'the secret store-token (http/token) is no token: printable characters without spaces',
    });
  });

  await t.test('a token that is replaced is read again', async (t) => {
    const store = await serverOf(t, [...tls('good-server'), '--token-file', token]);
    const host = new TableHost();
    host.secrets.set('store-token', 'right');
    const { instance } = await startHttp(t, store.url, { ca, token: 'store-token', mode: 'lookup' }, host);
    writeFileSync(token, 'new\n');
    await store.kill();
    await store.start();
    host.secrets.set('store-token', 'new');
    await t.rejects(ask(instance, mac(1)), { message: /401/ });
    t.match(host.degraded, /has answered 401 .*: the token in the secret http\/token is not accepted$/);
    await waitUntil(() => host.degraded === undefined, { what: 'the new token' });
    t.match(await ask(instance, mac(1)), { kind: 'drop' });
    writeFileSync(token, 'right\n');
  });

  await t.test('a name that is another one', async (t) => {
    const store = await serverOf(t, tls('good-other'));
    await t.rejects(startHttp(t, store.url, { ca }), {
      message: `the certificate of ${store.url} is for another name (ERR_TLS_CERT_ALTNAME_INVALID)`,
    });
  });

  await t.test('the certificate of a client', async (t) => {
    const store = await serverOf(t, [...tls('good-server'), '--client-ca', ca]);
    const host = new TableHost();
    host.secrets.set('host-key', readFileSync(file('good-client.key'), 'utf8'));
    const client = { cert: file('good-client.pem'), key: 'host-key' };
    const { instance } = await startHttp(t, store.url, { ca, ...client, mode: 'snapshot' }, host);
    t.match(await ask(instance, mac(1)), { kind: 'drop' });
    await t.rejects(startHttp(t, store.url, { ca, mode: 'lookup' }), { code: /EINVAL|EAGAIN/ });
    host.secrets.set('host-key', 'hunter2');
    await t.rejects(startHttp(t, store.url, { ca, ...client }, host), {
      message: 'http/ca, http/cert and http/key must be PEM, and the key that of the certificate',
    });
  });

  await t.test('a server without TLS, and a file that others can change', async (t) => {
    const store = await ReferenceStore.start(t);
    await store.put(macText(1), VTEP);
    await t.rejects(startHttp(t, store.url.replace('http:', 'https:'), { ca }), {
      message: /does not speak TLS/,
    });
    chmodSync(directory, 0o777);
    await t.rejects(startHttp(t, store.url, { ca }), { code: 'EACCES' });
    chmodSync(directory, 0o700);
    await t.rejects(startHttp(t, store.url, { ca: file('absent.pem') }), { code: 'ENOENT' });
  });
});
