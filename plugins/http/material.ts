/** Reads the certificates and secrets of an overlay, and makes its client of them. */
import { readFile, stat } from 'node:fs/promises';
import { type Host, trustedPlace } from '../../src/plugin/index.js';
import { Client } from './client.js';
import type { HttpProperties } from './specs.js';
import { StoreTrouble } from './trouble.js';

/** A bundle of all public authorities has some 200 kB. */
const MAX_PEM_BYTES = 4 * 1024 * 1024;
/** The characters of a token in a header (RFC 6750 2.1, and what else tokens have). */
const TOKEN = /^[\x21-\x7e]{1,4096}$/;

/** Rejects with a StoreTrouble, or with the error of a file or a secret. The messages have no content of either. */
export async function openClient(host: Host, properties: HttpProperties): Promise<Client> {
  const { url, token, ca, cert, key, timeout_ms: timeoutMs, silence_ms: silenceMs } = properties;
  const secret = (name: string | undefined): Promise<string | undefined> =>
    name === undefined ? Promise.resolve(undefined) : host.secret(name);
  const tokenText = (await secret(token))?.trim();
  if (tokenText !== undefined && !TOKEN.test(tokenText))
    throw new StoreTrouble(
      `the secret ${token} (http/token) is no token: printable characters without spaces`,
      false,
    );
  return Client.open({
    base: url.replace(/\/+$/, ''),
    timeoutMs,
    silenceMs,
    token: tokenText,
    ca: await pem(ca),
    cert: await pem(cert),
    key: await secret(key),
  });
}

async function pem(file: string | undefined): Promise<string | undefined> {
  if (file === undefined) return undefined;
  await trustedPlace(file, { owner: true });
  const { size } = await stat(file);
  if (size > MAX_PEM_BYTES) throw new StoreTrouble(`${file} is larger than ${MAX_PEM_BYTES} bytes`, false);
  return readFile(file, 'utf8');
}
