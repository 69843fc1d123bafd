// A daemon for dladm that answers from a script over a real Unix socket; dladm in this process, and as a program.
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { dladm } from '../../src/cli/dladm.js';
import { ControlError } from '../../src/control/client.js';
import { encodeMessage, MessageReader } from '../../src/control/framing.js';
import { MAX_REQUEST_BYTES } from '../../src/control/messages.js';
import { EXIT_OF_CODE, type ErrorCode } from '../../src/model/errors.js';
import { EXIT } from '../../src/model/exit-statuses.js';
import { type Result, run as runProgram } from './process.js';

export const MAIN = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));
export const directory = mkdtempSync(path.join(tmpdir(), 'varpd-cli-'));
const servers: Server[] = [];
t.teardown(() => {
  for (const server of servers) server.close();
  rmSync(directory, { recursive: true, force: true });
});

export type Answer = (params: Record<string, unknown>) => unknown;

interface FakeDaemon {
  readonly socket: string;
  readonly requests: { method: string; params: Record<string, unknown> }[];
}

export async function listen(onConnection: (socket: Socket) => void): Promise<string> {
  const socketPath = path.join(directory, `${servers.length}.sock`);
  const server = createServer(onConnection);
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(socketPath, resolve));
  return socketPath;
}

/** What is not in `answers` is answered with null. */
export async function fakeDaemon(answers: Readonly<Record<string, Answer>> = {}): Promise<FakeDaemon> {
  const requests: FakeDaemon['requests'] = [];
  const answerTo = (value: unknown): unknown => {
    const { id, method, params } = value as FakeDaemon['requests'][number] & { id: number };
    requests.push({ method, params });
    try {
      return { jsonrpc: '2.0', id, result: method in answers ? answers[method](params) : null };
    } catch (error) {
      if (!(error instanceof ControlError)) throw error;
      const { reason, status, words, details, hint, message } = error;
      return {
        jsonrpc: '2.0',
        id,
        error: { code: -32000, message, data: { reason, status, words, details, hint } },
      };
    }
  };
  const socket = await listen((connection) => {
    const reader = new MessageReader(MAX_REQUEST_BYTES, {
      message: (value) => connection.write(encodeMessage(answerTo(value))),
      problem: () => connection.destroy(),
    });
    connection.on('data', (chunk) => {
      reader.push(chunk);
    });
    connection.on('error', () => undefined);
  });
  return { socket, requests };
}

export function refuse(
  reason: ErrorCode,
  words: string,
  message: string,
  details: string[] = [],
  hint: string | null = null,
): Answer {
  return () => {
    throw new ControlError(message, { reason, status: EXIT[EXIT_OF_CODE[reason]], words, details, hint });
  };
}

interface Outcome {
  readonly status: number;
  readonly out: string;
  readonly err: string;
}

export async function run(socket: string | undefined, ...argv: string[]): Promise<Outcome> {
  let out = '';
  let err = '';
  const status = await dladm(argv, {
    out: (text) => void (out += text),
    err: (text) => void (err += text),
    env: { VARPD_SOCKET: socket },
  });
  return { status, out, err };
}

export function runMain(socket: string | undefined, ...argv: string[]): Promise<Result> {
  const env = socket === undefined ? {} : { VARPD_SOCKET: socket };
  return runProgram([process.execPath, MAIN, ...argv], { env });
}

export const words = (text: string): string[] => text.split(' ').filter((word) => word !== '');
export const lines = (...texts: string[]): string => texts.map((text) => `${text}\n`).join('');

/** Answers of those methods that do not answer with null. */
export const NONE_MISSING: Readonly<Record<string, Answer>> = {
  'overlay.list': () => ({ overlays: [], missing: [] }),
  'overlay.up': () => ({ failures: [] }),
  'daemon.reload': () => ({ failures: [] }),
};

/** Rows as `--json` prints them in a list: each with the version of its shape. */
export const versioned = (...rows: readonly object[]): object[] => rows.map((row) => ({ v: 1, ...row }));
