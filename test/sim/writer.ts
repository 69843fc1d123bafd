// Writes places into a bucket of a NATS store, in the network namespace of the store: node writer.js SERVER BUCKET. It reads a line
// `MAC IP ADDRESS` for each place, and prints `MAC TIME` once the store has it; the time is that of the call, in ms.
import { createInterface } from 'node:readline';

import { jetstream } from '@nats-io/jetstream';
import { Kvm } from '@nats-io/kv';
import { connect } from '@nats-io/transport-node';

const [servers, bucket] = process.argv.slice(2);
const connection = await connect({ servers });
const store = await new Kvm(jetstream(connection)).create(bucket);
console.log('ready');
for await (const line of createInterface(process.stdin)) {
  const [mac, ip, address] = line.split(' ');
  const startedMs = Date.now();
  const key = mac.replaceAll(':', '-');
  const entry = JSON.stringify({ ip, port: 4789, arp: address });
  await store.put(`vtep.${ip.replaceAll('.', '-')}.4789`, '1');
  await store.put(`ip.${address.replaceAll('.', '-')}`, JSON.stringify({ mac }));
  await store.put(`mac.${key}`, entry);
  console.log(`${mac} ${startedMs}`);
}
await connection.close();
