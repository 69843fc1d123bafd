/**
 * nats: a virtual network out of a key-value bucket of NATS JetStream, for networks that change often or have more hosts than
 * one file can serve. See README.md.
 */
import { definePlugin } from '../../src/plugin/index.js';
import { parseServers } from './client.js';
import { NatsInstance } from './instance.js';
import { specs } from './specs.js';
import { natsStore } from './transfer.js';

const BUCKET = /^[A-Za-z0-9_-]{1,200}$/;

export default definePlugin({
  apiVersion: 2,
  name: 'nats',
  mode: 'dynamic',
  properties: specs,
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
