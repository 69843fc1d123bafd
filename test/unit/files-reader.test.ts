/** What varpd and the reader process of mapping files say to each other, and who is served by what is read. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import t from 'tap';

import type { Follower } from '../../plugins/files/followed-file.js';
import { FollowedFile } from '../../plugins/files/followed-file.js';
import { type FromReader, lineOf, Messages } from '../../plugins/files/reader-messages.js';
import { Readers } from '../../plugins/files/readers.js';
import type { Contents } from '../../plugins/files/read.js';
import { readersOf } from '../helpers/procfs.js';

const directory = mkdtempSync(path.join(tmpdir(), 'varpd-reader-'));
t.teardown(() => {
  rmSync(directory, { recursive: true, force: true });
});

class Told implements Follower {
  readonly heard: string[] = [];
  looked(version: string): void {
    this.heard.push(`looked ${version}`);
  }
  changed(): void {
    this.heard.push('changed');
  }
  silent(message: string): void {
    this.heard.push(`silent ${message}`);
  }
  answers(): void {
    this.heard.push('answers');
  }
  warn(message: string): void {
    this.heard.push(`warn ${message}`);
  }
}

await t.test('messages come in whatever parts the pipe makes of them', (t) => {
  const said: FromReader[] = [
    { kind: 'ready' },
    { kind: 'begin', id: 1, byteCount: 6 },
    { kind: 'piece', id: 1, byteCount: 4 },
    { kind: 'piece', id: 1, byteCount: 2 },
    { kind: 'failed', id: 2, message: 'größer', code: 'EIO' },
  ];
  const pieces = new Map([
    [2, '{\n}\n'],
    [3, '\n"'],
  ]);
  const stream = Buffer.concat(said.map((one, at) => Buffer.from(`${lineOf(one)}${pieces.get(at) ?? ''}`)));
  for (let size = 1; size <= stream.length; size++) {
    const heard: FromReader[] = [];
    let bytes = '';
    const messages = new Messages<FromReader>(
      (message) => heard.push(message),
      (id, part) => (bytes += `${id === 1 ? '' : '?'}${part.toString('latin1')}`),
    );
    for (let at = 0; at < stream.length; at += size) messages.take(stream.subarray(at, at + size));
    t.same(heard, [said[0], said[1], said[4]], `parts of ${size}`);
    t.equal(bytes, '{\n}\n\n"');
  }
  t.end();
});

await t.test('a file that does not answer, turn by turn', (t) => {
  const told = new Told();
  const file = new FollowedFile(1, '/f');
  file.followers.add(told);
  const outcomes: string[] = [];
  const wait = (): void => {
    file.read({
      resolve: ({ bytes, version }) => outcomes.push(`${bytes.toString()} ${version}`),
      reject: ({ message }) => outcomes.push(message),
    });
  };
  const turns = (count: number): void => {
    for (let turn = 0; turn < count; turn++) file.wait(4, (seconds) => `silent for ${seconds} s`);
  };
  file.asked('look');
  turns(3);
  file.looked('1');
  t.same(told.heard.splice(0), ['looked 1'], 'an answer in time');

  wait();
  t.equal(file.wants, 'read');
  file.asked('read');
  wait();
  file.begin(4);
  for (const part of ['ab', 'cd']) {
    turns(3);
    file.bytes(Buffer.from(part));
  }
  file.wasRead('2');
  t.same(
    outcomes.splice(0),
    ['abcd 2'],
    'each piece is a sign of life; who asked later is not served with it',
  );
  t.equal(file.wants, 'read');

  file.asked('read');
  wait();
  turns(4);
  t.same(outcomes.splice(0), ['silent for 2 s', 'silent for 2 s'], 'nobody waits for it');
  wait();
  t.same(outcomes.splice(0), ['silent for 2 s'], 'nor begins to');
  turns(12);
  t.same(told.heard.splice(0), ['silent silent for 2 s', 'silent silent for 4 s', 'silent silent for 8 s']);
  file.begin(1);
  file.bytes(Buffer.from('x'));
  file.wasRead('3');
  t.same([told.heard.splice(0), outcomes], [['answers'], []], 'what nobody waits for is thrown away');
  file.asked('look');
  turns(3);
  t.same(told.heard, [], 'time begins again');
  t.end();
});

await t.test('one process for all, and one reading for those who ask at once', async (t) => {
  const own = new Readers();
  const { signal } = new AbortController();
  const files = ['a', 'b'].map((name) => path.join(directory, name));
  for (const file of files) writeFileSync(file, path.basename(file));
  const followed = [files[0], files[0], files[1]].map((file) => own.follow(file, new Told()));
  const read: Contents[] = await Promise.all(followed.map((each) => each.read(signal)));
  t.same(
    read.map(({ bytes }) => bytes.toString()),
    ['a', 'a', 'b'],
  );
  t.equal(read[0].bytes, read[1].bytes, 'they share it');
  await t.rejects(followed[0].read(AbortSignal.abort(new Error('given up'))), { message: 'given up' });
  t.equal(readersOf(process.pid).length, 1);
  for (const each of followed) await each.close();
  t.same(readersOf(process.pid), [], 'it ends with the last of them');
});
