/**
 * nats: a virtual network out of a key-value bucket of NATS JetStream, for networks that change often or have more hosts than
 * one file can serve. See README.md.
 */
import { definePlugin } from '../../src/plugin/index.js';
import { parseServers } from './client.js';
import { NatsInstance } from './instance.js';
import { natsStore } from './transfer.js';

const BUCKET = /^[A-Za-z0-9_-]{1,200}$/;

export default definePlugin({
  apiVersion: 2,
  name: 'nats',
  mode: 'dynamic',
  properties: [
    {
      name: 'nats/servers',
      type: 'string',
      required: true,
      maxBytes: 4096,
      changeable: true,
      about:
        'the servers of NATS, with commas between them: HOST, HOST:PORT, nats://HOST:PORT or tls://HOST:PORT',
    },
    { name: 'nats/bucket', type: 'string', required: false, about: 'the bucket; otherwise varpd-VNETID' },
    {
      name: 'nats/mode',
      type: 'choice',
      required: false,
      default: 'snapshot',
      choices: ['snapshot', 'lookup'],
      about: 'snapshot: this host knows every entry; lookup: it asks for those that it needs',
    },
    {
      name: 'nats/ca',
      type: 'string',
      required: false,
      kind: 'path',
      changeable: true,
      about: 'certificates that sign those of the servers',
    },
    {
      name: 'nats/cert',
      type: 'string',
      required: false,
      kind: 'path',
      changeable: true,
      about: 'the certificate of this host',
    },
    {
      name: 'nats/key',
      type: 'string',
      required: false,
      kind: 'path',
      changeable: true,
      about: 'the key of that certificate',
    },
    { name: 'nats/user', type: 'string', required: false, changeable: true, about: 'the user of this host' },
    {
      name: 'nats/password',
      type: 'string',
      required: false,
      kind: 'secret',
      changeable: true,
      about: 'name of the secret with its password',
    },
    {
      name: 'nats/nkey',
      type: 'string',
      required: false,
      kind: 'secret',
      changeable: true,
      about: 'name of the secret with the seed of an nkey',
    },
    {
      name: 'nats/creds',
      type: 'string',
      required: false,
      kind: 'secret',
      changeable: true,
      about: 'name of the secret with a .creds file',
    },
    {
      name: 'nats/ttl_ms',
      type: 'uint',
      required: false,
      min: 1000,
      max: 86_400_000,
      changeable: true,
      about: 'mode lookup: answers are fresh for so long',
    },
    {
      name: 'nats/stale_ms',
      type: 'uint',
      required: false,
      min: 0,
      max: 86_400_000,
      changeable: true,
      about: 'and usable for so long after that',
    },
    {
      name: 'nats/flood',
      type: 'choice',
      required: false,
      default: 'off',
      choices: ['on', 'off'],
      changeable: true,
      about: 'on: other broadcast and multicast goes to every VTEP',
    },
    {
      name: 'nats/protect',
      type: 'choice',
      required: false,
      default: 'off',
      choices: ['on', 'off'],
      changeable: true,
      about: 'VNICs may send only from the addresses that the bucket has for their MAC',
    },
  ],
  refuse({ servers, bucket, mode, cert, key, user, password, nkey, creds, ttl_ms, stale_ms }) {
    const parsed = parseServers(servers);
    if (typeof parsed === 'string') return `nats/servers: ${parsed}`;
    if (bucket !== undefined && !BUCKET.test(bucket))
      return 'nats/bucket: expected letters, digits, - and _, at most 200';
    if ((cert === undefined) !== (key === undefined)) return 'nats/cert and nats/key need each other';
    if ((user === undefined) !== (password === undefined))
      return 'nats/user and nats/password need each other';
    if ([user, nkey, creds].filter((each) => each !== undefined).length > 1)
      return 'nats/user, nats/nkey and nats/creds exclude each other';
    if (stale_ms !== undefined && ttl_ms === undefined) return 'nats/stale_ms needs nats/ttl_ms';
    if (ttl_ms !== undefined && mode === 'snapshot')
      return 'nats/ttl_ms is for nats/mode=lookup: a snapshot does not age';
    return undefined;
  },
  create: (host) => new NatsInstance(host),
  store: natsStore,
});
