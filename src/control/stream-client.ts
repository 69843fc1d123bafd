/** Sends a request of a method that answers with a stream, and returns the stream. */
import { connect, type Socket } from 'node:net';
import { closedText, connectionError, ConnectionError, REQUEST_ID, resultOf } from './client.js';
import { encodeMessage } from './framing.js';
import type { Methods, StreamingMethod } from './methods.js';

/** The stream has the bytes after the line of the answer. Its `end` asks varpd to end the stream. */
export type Open = <M extends StreamingMethod>(
  method: M,
  params: Methods[M]['params'],
) => Promise<{ readonly result: Methods[M]['result']; readonly stream: Socket }>;

/** Time for the line of the answer. */
const ANSWER_MS = 30_000;
/** An error with its reasons is shorter. */
const MAX_LINE_BYTES = 1 << 20;
const NEWLINE = 0x0a;

/** Rejects as the calls of client.ts do. */
export function createOpener(socketPath: string): Open {
  return async <M extends StreamingMethod>(method: M, params: Methods[M]['params']) => {
    const socket = connect({ path: socketPath });
    try {
      socket.write(encodeMessage({ jsonrpc: '2.0', id: REQUEST_ID, method, params }));
      const line = await readLine(socket, socketPath);
      const result = resultOf(JSON.parse(line), socketPath) as Methods[M]['result'];
      return { result, stream: socket };
    } catch (error) {
      socket.destroy();
      throw error;
    }
  };
}

/** Reads the first line that is not empty. The bytes after it stay in the socket. */
function readLine(socket: Socket, socketPath: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let bytes = Buffer.alloc(0);
    const finish = (): void => {
      clearTimeout(timer);
      socket.pause();
      socket.off('data', take);
      socket.off('end', closed);
      socket.off('error', broken);
    };
    const fail = (error: ConnectionError): void => {
      finish();
      reject(error);
    };
    const closed = (): void => {
      fail(new ConnectionError('CLOSED', closedText(socketPath)));
    };
    const broken = (error: Error): void => {
      fail(connectionError(socketPath, error));
    };
    const take = (chunk: Buffer): void => {
      bytes = Buffer.concat([bytes, chunk]);
      // An empty line is a sign of life.
      while (bytes.length > 0 && bytes[0] === NEWLINE) bytes = bytes.subarray(1);
      const end = bytes.indexOf(NEWLINE);
      if (end < 0 && bytes.length <= MAX_LINE_BYTES) return;
      if (end < 0) {
        fail(new ConnectionError('PROTOCOL', `the answer from ${socketPath} does not end; is that varpd?`));
        return;
      }
      finish();
      const rest = bytes.subarray(end + 1);
      if (rest.length > 0) socket.unshift(rest);
      resolve(bytes.subarray(0, end).toString());
    };
    const timer = setTimeout(() => {
      fail(
        new ConnectionError('TIMEOUT', `varpd at ${socketPath} did not answer within ${ANSWER_MS / 1000} s`),
      );
    }, ANSWER_MS);
    socket.on('data', take);
    socket.on('end', closed);
    socket.on('error', broken);
  });
}
