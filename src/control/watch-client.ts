/** Reads a watch of varpd (watch.start) as a sequence of events. */
import type { Socket } from 'node:net';
import { ConnectionError } from './client.js';
import { MessageReader } from './framing.js';
import type { Methods } from './methods.js';
import type { Open } from './stream-client.js';
import type { WatchEvent, WatchInfo } from './watch-messages.js';

/** varpd sends a line, or a sign of life, every 5 seconds. */
const SILENCE_MS = 20_000;
/** Counters of an overlay with a thousand ports. */
const MAX_LINE_BYTES = 8 << 20;

export interface Watch {
  readonly info: WatchInfo;
  /** Ends when varpd ends the watch, or has been silent. Throws a ConnectionError when the lines are not those of varpd. */
  readonly events: AsyncIterable<WatchEvent>;
  end(): void;
}

/** Rejects as `open` does. The events must be read. */
export async function openWatch(open: Open, params: Methods['watch.start']['params']): Promise<Watch> {
  const { result: info, stream } = await open('watch.start', params);
  stream.setTimeout(SILENCE_MS, () => stream.destroy());
  const end = (): void => {
    stream.destroy();
  };
  return { info, events: eventsOf(stream), end };
}

async function* eventsOf(stream: Socket): AsyncGenerator<WatchEvent, void> {
  let events: WatchEvent[] = [];
  let failure: ConnectionError | undefined;
  const reader = new MessageReader(MAX_LINE_BYTES, {
    message: (value) => events.push(value as WatchEvent),
    problem: (problem) => {
      failure = new ConnectionError(
        'PROTOCOL',
        `cannot read the lines of the watch: ${problem}; is that varpd?`,
      );
    },
  });
  const chunks = (stream as AsyncIterable<Buffer>)[Symbol.asyncIterator]();
  try {
    for (;;) {
      // A connection that breaks ends the watch, as one that is closed does.
      const next = await chunks.next().catch(() => undefined);
      if (next === undefined || next.done === true) return;
      reader.push(next.value);
      yield* events;
      events = [];
      if (failure !== undefined) throw failure;
    }
  } finally {
    stream.destroy();
  }
}
