/** An answer that goes on: behind its line, the connection carries bytes until the stream is over, and no further request. */
import type { Duplex } from 'node:stream';

export class Streamed<T = unknown> {
  readonly result: T;
  /** Has the connection for itself. Resolves when it is done with it, also if the client is gone already. */
  readonly run: (client: Duplex) => Promise<void>;

  constructor(result: T, run: (client: Duplex) => Promise<void>) {
    this.result = result;
    this.run = run;
  }
}

/** The line, and what follows it. */
export interface StreamedAnswer {
  readonly line: string;
  readonly run: Streamed['run'];
}
