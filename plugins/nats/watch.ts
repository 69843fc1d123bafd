/**
 * One watch of a bucket: an ephemeral push consumer, and the records that it sends, in the order of their revisions.
 *
 * A watch ends with its first irregularity: a record that did not arrive, a heartbeat that did not come, a lost connection.
 * It mends nothing. The next watch begins at the revision after the last one, or reads the bucket again.
 */
import { randomBytes } from 'node:crypto';
import type { Msg, Subscription } from '@nats-io/transport-node';
import { type Client, inboxOf, NatsError, requestError } from './client.js';

/** The server says at least this often that it is there. */
const HEARTBEAT_MS = 3000;
const SILENCE_MS = 8000;
/** The server forgets a consumer without a reader after this long. */
const INACTIVE_MS = 30_000;
/** A consumer that only counts. */
const COUNTER_INACTIVE_MS = 2000;
const NANOS = 1_000_000;

/** Status of a message that is no record: heartbeat, flow control. */
const CONTROL = 100;
const STALLED = 'Nats-Consumer-Stalled';
const OPERATION = 'KV-Operation';

export interface WatchListener {
  /** `value` is undefined when the key was deleted. It is valid during the call only. */
  record(key: string, value: Uint8Array | undefined, revision: number): void;
  /** Everything that the bucket had when the watch began has come. Called once. */
  caughtUp(): void;
}

export class Watch {
  readonly #client: Client;
  readonly #bucket: string;
  readonly #filter: string;
  readonly #listener: WatchListener;
  readonly #prefixCharacters: number;
  #subscription: Subscription | undefined;
  #delivered = 0;
  #isCaughtUp = false;
  #timer: NodeJS.Timeout | undefined;
  /** Infinity until the consumer exists: with a million keys a server needs ten seconds to make one. */
  #heardMs = Infinity;
  #end!: (error: NatsError) => void;
  /** Rejects when the watch has ended. */
  readonly ended: Promise<never>;

  constructor(client: Client, bucket: string, filter: string, listener: WatchListener) {
    this.#client = client;
    this.#bucket = bucket;
    this.#filter = `$KV.${bucket}.${filter}`;
    this.#prefixCharacters = `$KV.${bucket}.`.length;
    this.#listener = listener;
    this.ended = new Promise((_resolve, reject) => {
      this.#end = reject;
    });
    this.ended.catch(() => undefined);
  }

  /** Sends every key with its last record, or what has a revision of `from` and higher. Rejects with a NatsError. */
  async begin(from: number | undefined, description: string): Promise<void> {
    const { connection, manager, packages } = this.#client;
    const { AckPolicy, DeliverPolicy } = packages.jetstream;
    const name = `varpd_${randomBytes(8).toString('hex')}`;
    const inbox = `${inboxOf(this.#bucket)}.${name}`;
    this.#subscription = connection.subscribe(inbox, {
      callback: (error, message) => {
        if (error !== null) this.#end(requestError(error, 'receive below its inbox', packages));
        else this.#take(message);
      },
    });
    this.#timer = setInterval(() => {
      if (performance.now() - this.#heardMs > SILENCE_MS)
        this.#end(new NatsError(`NATS has sent no heartbeat for ${SILENCE_MS / 1000} s`));
    }, HEARTBEAT_MS);
    try {
      const info = await manager.consumers.add(`KV_${this.#bucket}`, {
        name,
        description,
        ...(from === undefined
          ? { deliver_policy: DeliverPolicy.LastPerSubject }
          : { deliver_policy: DeliverPolicy.StartSequence, opt_start_seq: from }),
        ack_policy: AckPolicy.None,
        filter_subject: this.#filter,
        deliver_subject: inbox,
        flow_control: true,
        idle_heartbeat: HEARTBEAT_MS * NANOS,
        inactive_threshold: INACTIVE_MS * NANOS,
        max_deliver: 1,
        mem_storage: true,
        num_replicas: 1,
      });
      this.#heardMs = performance.now();
      if (info.num_pending === 0 && this.#delivered === 0) this.#caughtUp();
    } catch (error) {
      throw requestError(error, 'watch the bucket', packages);
    }
  }

  /** Counts the keys, deleted ones included. Takes the server a second for some million keys. */
  async count(hasHistory: boolean): Promise<number> {
    const { manager, packages } = this.#client;
    const { AckPolicy, DeliverPolicy } = packages.jetstream;
    try {
      const { num_pending } = await manager.consumers.add(`KV_${this.#bucket}`, {
        name: `varpd_${randomBytes(8).toString('hex')}`,
        // Without history every record is the last one of its key, and these are counted faster.
        deliver_policy: hasHistory ? DeliverPolicy.LastPerSubject : DeliverPolicy.All,
        ack_policy: AckPolicy.None,
        filter_subject: this.#filter,
        inactive_threshold: COUNTER_INACTIVE_MS * NANOS,
        mem_storage: true,
        num_replicas: 1,
      });
      return num_pending;
    } catch (error) {
      throw requestError(error, 'count the keys of the bucket', packages);
    }
  }

  close(): void {
    clearInterval(this.#timer);
    this.#subscription?.unsubscribe();
  }

  #take(message: Msg): void {
    this.#heardMs = performance.now();
    const { headers, reply } = message;
    if (headers?.code === CONTROL) {
      // A request of flow control has a reply subject; a heartbeat names one when the consumer waits for it.
      if (reply !== undefined && reply !== '') message.respond();
      const stalled = headers.get(STALLED);
      if (stalled !== '') this.#client.connection.publish(stalled);
      else if (reply === undefined || reply === '') this.#caughtUp();
      return;
    }
    const place = placeOf(reply ?? '');
    if (place === undefined) {
      this.#end(new NatsError(`NATS has ended the watch (status ${headers?.code ?? 'unknown'})`));
      return;
    }
    if (place.delivered !== this.#delivered + 1) {
      this.#end(new NatsError('records were lost on the way', 'ECONNRESET'));
      return;
    }
    this.#delivered = place.delivered;
    const operation = headers?.get(OPERATION) ?? '';
    const value = operation === 'DEL' || operation === 'PURGE' ? undefined : message.data;
    this.#listener.record(message.subject.slice(this.#prefixCharacters), value, place.revision);
    if (place.pending === 0) this.#caughtUp();
  }

  #caughtUp(): void {
    if (this.#isCaughtUp) return;
    this.#isCaughtUp = true;
    this.#listener.caughtUp();
  }
}

/**
 * Reads the reply subject of a record:
 * $JS.ACK.STREAM.CONSUMER.DELIVERIES.STREAM_SEQUENCE.CONSUMER_SEQUENCE.TIME.PENDING, since server 2.9 possibly with a domain and
 * an account after ACK, and a token at the end.
 */
function placeOf(reply: string): { revision: number; delivered: number; pending: number } | undefined {
  const tokens = reply.split('.');
  if (tokens[0] !== '$JS' || tokens[1] !== 'ACK' || tokens.length < 9) return undefined;
  const at = tokens.length === 9 ? 5 : 7;
  return { revision: Number(tokens[at]), delivered: Number(tokens[at + 1]), pending: Number(tokens[at + 3]) };
}
