// The control socket: what many requests may cost, and that each user has a share.

import { spawnSync } from 'node:child_process';
import { existsSync, lstatSync, mkdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { createClient } from '../../src/control/client.js';
import { encodeMessage } from '../../src/control/framing.js';
import { MAX_BATCH_REQUESTS } from '../../src/control/messages.js';
import { type Credentials } from '../../src/daemon/control/server.js';
import { Turns } from '../../src/daemon/control/turns.js';
import { pageOf } from '../../src/daemon/overlays/pages.js';
import { claimSocket } from '../../src/daemon/socket-file.js';
import { ROOT, QUICK, TARGETS, shortDirectory, serve, Raw } from '../helpers/control-server.js';

const batchOf = (count: number): string => {
  const batch = Array.from({ length: count }, (_, id) => ({ ...TARGETS, id }));
  return encodeMessage(batch);
};

t.test('what a batch may cost', async (t) => {
  const mebibyte = 'x'.repeat(1 << 20);
  let calls = 0;
  const { socket } = await serve(t, {
    timing: { ...QUICK, writeMs: 60_000, idleMs: 60_000, aliveMs: 1 },
    handlers: {
      'overlay.targets': async ({ name }) => {
        calls++;
        if (name === 'slow0') await sleep(20);
        return { rows: [], next: name === 'large0' ? mebibyte : null };
      },
    },
  });

  t.test('requests', async (t) => {
    const client = new Raw(socket).send(batchOf(MAX_BATCH_REQUESTS + 1));
    const refusal = {
      id: null,
      error: { code: -32600, message: /at most 64 requests, not 65: send several/ },
    };
    t.match(await client.answers(1), [refusal]);
    t.equal(calls, 0, 'nothing of it is done');
    client.send(batchOf(MAX_BATCH_REQUESTS));
    const [, answers] = (await client.answers(2)) as [unknown, { id: number }[]];
    t.same(
      answers.map(({ id }) => id),
      Array.from({ length: MAX_BATCH_REQUESTS }, (_, id) => id),
    );
    client.destroy();
  });

  t.test('signs of life within it are none of its text', async (t) => {
    const slow = { ...TARGETS, params: { name: 'slow0' } };
    const client = new Raw(socket).send(encodeMessage([slow, slow, slow]));
    t.match(await client.answers(1), [[{ id: 7 }, { id: 7 }, { id: 7 }]]);
    client.destroy();
  });

  t.test('the length of the answer', async (t) => {
    const large = (id: number): object => ({ ...TARGETS, id, params: { name: 'large0' } });
    const client = new Raw(socket).send(encodeMessage([1, 2, 3, 4].map(large)));
    const [answers] = (await client.answers(1)) as [unknown[]];
    t.match(answers.slice(0, 2), [
      { id: 1, result: {} },
      { id: 2, result: {} },
    ]);
    t.match(answers.slice(2), [
      { id: 3, error: { message: /ask again for this one/ } },
      { id: 4, error: {} },
    ]);
    client.destroy();
  });

  t.test('who does not read gets nothing made', async (t) => {
    calls = 0;
    const client = new Raw(socket);
    client.pause();
    const large = encodeMessage([{ ...TARGETS, params: { name: 'large0' } }]);
    client.send(large.repeat(200));
    const reader = createClient(socket);
    for (let turn = 0; turn < 20; turn++) await reader('overlay.up', {});
    t.ok(calls < 5, `worked for it ${calls} times`);
    client.destroy();
  });
});

t.test('users have shares of the connections', async (t) => {
  const users = {
    root: ROOT,
    member: { uid: 5, gid: 77, groups: [] },
    reader: { uid: 6, gid: 6, groups: [] },
  };
  let next: Credentials = ROOT;
  const { socket } = await serve(t, {
    credentials: () => next,
    gid: 77,
    maxClients: 8,
    timing: { ...QUICK, idleMs: 60_000 },
  });
  const clients: Raw[] = [];
  const connects = async (who: Credentials): Promise<unknown> => {
    next = who;
    const client = new Raw(socket).send(`${JSON.stringify(TARGETS)}\n`);
    clients.push(client);
    const [answer] = await client.answers(1);
    return (answer as { error?: { message: string } }).error?.message;
  };
  t.equal(await connects(users.reader), undefined);
  t.equal(await connects(users.reader), undefined);
  t.equal(await connects(users.reader), '2 clients of this user are connected, which is the limit');
  for (const uid of [7, 7, 8, 8]) t.equal(await connects({ ...users.reader, uid }), undefined);
  t.equal(
    await connects({ ...users.reader, uid: 9 }),
    '6 clients that only read are connected, which is the limit',
  );
  t.equal(await connects(users.member), undefined, 'who may change something has a place');
  t.equal(await connects(users.root), undefined, 'and root');
  t.equal(await connects(users.root), '8 clients are connected, which is the limit');
  for (const client of clients) client.destroy();
});

t.test('turns go round by user', async (t) => {
  const turns = new Turns();
  const order: number[] = [];
  const work = async (user: number): Promise<void> => {
    await turns.take(user);
    order.push(user);
  };
  await Promise.all([1, 1, 1, 1, 2, 3, 3].map(work));
  t.same(order, [1, 2, 3, 1, 3, 1, 1]);
  await work(4);
  t.equal(order.at(-1), 4, 'and begin again');
});

t.test('a list in pages', async (t) => {
  const names = Array.from({ length: 1000 }, (_, index) => `n${index}`);
  const text = 'x'.repeat(4096);
  const all = (change: (page: number) => void = () => undefined): string[] => {
    const found: string[] = [];
    let page = 0;
    for (let after: string | undefined, isMore = true; isMore;) {
      const { rows, next } = pageOf(names, after, (name) => [{ name, text }]);
      found.push(...rows.map((row) => row.name));
      isMore = next !== null;
      after = next ?? undefined;
      change(page++);
    }
    t.ok(page > 5, `${page} pages`);
    return found;
  };
  const before = [...names];
  t.same(all(), before);
  t.same(
    all((page) => {
      if (page === 0) names.splice(10, 20);
      // Where the page before ended.
      if (page === 1) names.splice(names.indexOf('n255'), 1);
    }),
    before,
    'what goes meanwhile makes nothing else be left out or come twice',
  );
  t.throws(() => pageOf(names, 'nonsense', () => []), {
    code: 'INVALID',
    message: /'next' of the page before/,
  });
  t.same(
    pageOf(names, '99999:x', () => [1]),
    { rows: [], next: null },
  );
  t.end();
});

t.test('the place of the socket', async (t) => {
  t.test('a served one is refused', async (t) => {
    const { socket } = await serve(t);
    await t.rejects(claimSocket(socket, undefined), {
      code: 'BUSY',
      message: `another varpd serves ${socket}`,
    });
    t.ok(existsSync(socket));
  });

  t.test('a stale one is replaced, another file is not', async (t) => {
    const directory = shortDirectory(t);
    const stale = path.join(directory, 'stale.sock');
    // As kill -9 leaves it: libuv removes the file only when the server is closed.
    const script = `require('net').createServer().listen(${JSON.stringify(stale)}, () => process.kill(process.pid, 'SIGKILL'))`;
    spawnSync(process.execPath, ['-e', script]);
    t.ok(lstatSync(stale).isSocket());
    await claimSocket(stale, undefined);
    t.notOk(existsSync(stale));

    const file = path.join(directory, 'file');
    writeFileSync(file, 'precious');
    await t.rejects(claimSocket(file, undefined), { code: 'EXISTS', message: /is not a socket/ });
    mkdirSync(path.join(directory, 'dir'));
    await t.rejects(claimSocket(path.join(directory, 'dir'), undefined), { code: 'EXISTS' });
    await t.rejects(claimSocket(path.join(file, 'varpd.sock'), undefined), {
      code: 'IO',
      message: /cannot make/,
    });
  });

  t.test('closing the server removes it', async (t) => {
    const socket = path.join(shortDirectory(t), 'x.sock');
    const server = createServer().listen(socket);
    await new Promise((resolve) => server.on('listening', resolve));
    await new Promise((resolve) => server.close(resolve));
    t.notOk(existsSync(socket));
  });
});
