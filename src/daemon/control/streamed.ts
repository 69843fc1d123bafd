/** An answer that goes on as a stream: after its line, the connection carries the bytes of the stream, and no further request. */
import type { Duplex } from 'node:stream';

export class Streamed<T = unknown> {
  readonly result: T;
  /** Uses the connection alone. Resolves when the stream has ended, also if the client is gone already. */
  readonly run: (client: Duplex) => Promise<void>;

  constructor(result: T, run: (client: Duplex) => Promise<void>) {
    this.result = result;
    this.run = run;
  }
}

/** The line, and the stream that follows it. */
export interface StreamedAnswer {
  readonly line: string;
  readonly run: Streamed['run'];
}
