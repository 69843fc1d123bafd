// A program for the addon target: node blast.js {role, target, seconds, seed, inputs}
//
//   datagrams   mutated VXLAN datagrams to the address `target`
//   frames      mutated frames, each behind a mutated virtio-net header, out of the device `target`
import dgram from 'node:dgram';
import { readFileSync } from 'node:fs';
import { once } from 'node:events';
import { setImmediate as turn } from 'node:timers/promises';
import { spawn } from 'node:child_process';

import { fromRoot } from '../helpers/need.js';
import { Dice, mutate } from './mutate.js';

interface Settings {
  readonly role: 'datagrams' | 'frames';
  readonly target: string;
  readonly seconds: number;
  readonly seed: number;
  readonly inputs: string;
}

const { role, target, seconds, seed, inputs } = JSON.parse(process.argv[2]) as Settings;
const PREFIX_BYTES = 3; // of the datapath target
const HEADER = Buffer.from('0800000000002a00', 'hex'); // vnetid 42
const VIRTIO_BYTES = 10;
const BURST = 64;

const corpus = (JSON.parse(readFileSync(inputs, 'utf8')) as string[])
  .map((text) => Buffer.from(text, 'hex').subarray(PREFIX_BYTES))
  .filter(({ length }) => length >= 14);
const dice = new Dice(seed);
const any = (): Buffer => corpus[dice.roll(corpus.length)];
const endMs = performance.now() + seconds * 1000;
let sent = 0;

if (role === 'datagrams') {
  const socket = dgram.createSocket('udp4');
  socket.on('error', () => undefined);
  await new Promise<void>((resolve) => socket.bind(0, resolve));
  while (performance.now() < endMs) {
    const sends = Array.from({ length: BURST }, () => {
      const inner = Buffer.concat([HEADER, any()]);
      // One in eight has its VXLAN header mutated too.
      const bytes =
        dice.roll(8) === 0
          ? mutate(inner, any(), [], dice)
          : Buffer.concat([HEADER, mutate(inner.subarray(HEADER.length), any(), [], dice)]);
      return new Promise<void>((resolve) => {
        socket.send(bytes.subarray(0, 1472), 4789, target, () => {
          resolve();
        });
      });
    });
    await Promise.all(sends);
    sent += BURST;
  }
  socket.close();
} else {
  // What the kernel refuses is not sent: rawframe counts on.
  const child = spawn(fromRoot('dist/test/helpers/rawframe'), ['send', target, 'vnet'], {
    stdio: ['pipe', 'inherit', 'ignore'],
  });
  while (performance.now() < endMs && child.exitCode === null) {
    const lines = Array.from({ length: BURST }, () => {
      const frame = mutate(any(), any(), [], dice);
      const header = new Uint8Array(VIRTIO_BYTES);
      if (dice.roll(2) === 0) {
        header[0] = 1; // NEEDS_CSUM
        header[1] = [0, 1, 4, 5][dice.roll(4)];
        header[2] = [14, 34, 54, 42][dice.roll(4)] + 20; // headers
        header[4] = 1 + dice.roll(255); // bytes a segment
        header[6] = [34, 54, 14, dice.roll(256)][dice.roll(4)];
        header[8] = [16, 6][dice.roll(2)];
      }
      return `${Buffer.concat([header, frame]).toString('hex')}\n`;
    });
    if (!child.stdin.write(lines.join(''))) await once(child.stdin, 'drain');
    sent += BURST;
    await turn();
  }
  child.stdin.end();
  await once(child, 'close');
}
console.log(JSON.stringify({ sent }));
