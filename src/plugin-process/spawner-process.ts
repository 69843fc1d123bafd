#!/usr/bin/env node
/**
 * The spawner: starts, watches and ends the plugin processes of one varpd, as the user that plugins run as. varpd could
 * not do so itself, since CAP_NET_ADMIN alone lets no process start or end those of another user.
 *
 *   varpd-spawner STATE_ROOT       descriptor 3: a listening Unix socket that varpd alone can reach
 *
 * A connection begins with a line (messages.ts, Opening). A control connection is a session. Any other connection becomes
 * the channel of one plugin process of a session, so that varpd and the plugin speak to each other directly. The end of
 * a session is that of its processes. The spawner lives through a restart of varpd, and ends when no session has been
 * open for a minute.
 */
import { closeSync, mkdirSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import path from 'node:path';
import { dropPrivileges, limitSystemCalls } from '../dgram-extra/index.js';
import { PluginChild } from './child.js';
import { confinementBelow, rulesetOf } from './confinement.js';
import { type FromSpawner, type Opening, PLUGIN_NAME, type ToSpawner, type Usage } from './messages.js';

const LISTENING = 3;
/** Longer than varpd takes to start or to restart on the busiest host: a varpd that was started as root cannot start another
 * spawner. */
const IDLE_MS = 60_000;
const USAGE_MS = 500;
/** Changes that are worth a message. */
const STEP: Usage = { kib: 1024, waitedMs: 50 };
const MAX_LINE_CHARACTERS = 1000;

const stateRoot = process.argv[2];
process.title = 'varpd-spawner';

class Session {
  readonly #socket: Socket;
  readonly children = new Map<number, PluginChild>();
  readonly #told = new Map<number, Usage>();

  constructor(socket: Socket) {
    this.#socket = socket;
  }

  say(message: FromSpawner): void {
    this.#socket.write(`${JSON.stringify(message)}\n`);
  }

  /** `state` as in an Opening. Throws when the process cannot be started. */
  start(id: number, state: string | null | undefined, channel: Socket): void {
    const stateDir = typeof state === 'string' ? makeStateDir(state) : null;
    const ruleset = state === undefined ? undefined : rulesetOf(stateRoot, stateDir);
    let child: PluginChild;
    try {
      child = new PluginChild(
        channel,
        { stateRoot, stateDir, ruleset },
        {
          printed: (isError, line) => {
            this.say({ kind: 'printed', process: id, isError, line });
          },
          ended: (code, signal, isHeapFull) => {
            this.children.delete(id);
            this.#told.delete(id);
            this.say({ kind: 'ended', process: id, code, signal, isHeapFull });
          },
          failed: (message) => {
            this.say({ kind: 'failed', process: id, message });
          },
        },
      );
    } finally {
      if (ruleset !== undefined) closeSync(ruleset);
    }
    if (child.pid === undefined) return;
    this.children.set(id, child);
    this.say({ kind: 'started', process: id, pid: child.pid });
  }

  tellUsage(): void {
    for (const [id, child] of this.children) {
      const usage = child.usage();
      const { kib, waitedMs } = this.#told.get(id) ?? { kib: 0, waitedMs: 0 };
      if (Math.abs(usage.kib - kib) < STEP.kib && usage.waitedMs - waitedMs < STEP.waitedMs) continue;
      this.#told.set(id, usage);
      this.say({ kind: 'usage', process: id, ...usage });
    }
  }

  end(): void {
    for (const child of this.children.values()) child.kill();
    this.#socket.destroy();
  }
}

const sessions = new Map<number, Session>();
let lastSession = 0;
let idle: NodeJS.Timeout | undefined;

/** Makes the directory. Throws when it cannot be made, or the name is none. */
function makeStateDir(name: string): string {
  if (!PLUGIN_NAME.test(name)) throw new Error(`a name of a plugin was expected, not '${name}'`);
  const directory = path.join(stateRoot, name);
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  return directory;
}

function leave(): never {
  for (const session of sessions.values()) session.end();
  process.exit(0);
}

function watchIdle(): void {
  clearTimeout(idle);
  if (sessions.size === 0) idle = setTimeout(leave, IDLE_MS);
}

/** Calls `heard` with each line of a socket. With `isOne` it is the first alone, and the rest is left to others. */
function readLines(socket: Socket, isOne: boolean, heard: (line: string) => void): void {
  let text = '';
  const read = (bytes: Buffer): void => {
    text += bytes.toString('latin1');
    for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n')) {
      const line = text.slice(0, end);
      text = text.slice(end + 1);
      if (isOne) socket.off('data', read).pause();
      try {
        heard(line);
      } catch {
        socket.destroy();
      }
      if (isOne) return;
    }
    if (text.length > MAX_LINE_CHARACTERS) socket.destroy();
  };
  socket.on('data', read).resume();
}

function open(socket: Socket, line: string): void {
  const opening = JSON.parse(line) as Opening;
  if (opening.kind === 'start') {
    const session = sessions.get(opening.session);
    try {
      session?.start(opening.process, opening.state, socket);
    } catch (error) {
      session?.say({
        kind: 'failed',
        process: opening.process,
        message: error instanceof Error ? error.message : String(error),
      });
    }
    // The process has its own copy. This closes ours, and ends no connection.
    socket.destroy();
    return;
  }
  const id = ++lastSession;
  const session = new Session(socket);
  sessions.set(id, session);
  watchIdle();
  session.say({
    kind: 'session',
    session: id,
    pid: process.pid,
    uid: process.getuid?.() ?? 0,
    confinement: confinementBelow(stateRoot),
  });
  socket.on('close', () => {
    session.end();
    sessions.delete(id);
    watchIdle();
  });
  readLines(socket, false, (text) => {
    const order = JSON.parse(text) as ToSpawner;
    if (order.kind === 'kill') session.children.get(order.process)?.kill();
    else if (sessions.size === 1) leave();
    else session.end();
  });
}

// Plugins get nothing that this process may have from varpd: neither a capability nor a way to a new one.
dropPrivileges([]);
limitSystemCalls();
mkdirSync(stateRoot, { recursive: true, mode: 0o700 });
const server = createServer((socket) => {
  socket.on('error', () => undefined);
  readLines(socket, true, (line) => {
    open(socket, line);
  });
});
server.listen({ fd: LISTENING });
server.on('error', leave);
setInterval(() => {
  for (const session of sessions.values()) session.tellUsage();
}, USAGE_MS).unref();
watchIdle();
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, leave);
