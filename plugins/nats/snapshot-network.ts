/**
 * Mode snapshot: this host knows every entry of the bucket. varpd answers out of its own copy (`Host.replaceAll`), so lookups
 * cost the store nothing, and go on while it is away.
 *
 * Until the bucket has been read for the first time, a question is put to the store by its key.
 */
import { type Destination, inSlices, type IpAddress, type MacAddress } from '../../src/plugin/index.js';
import { macKey, macOfKey } from './keys.js';
import type { Position, Session } from './feed.js';
import { Network } from './network.js';
import type { Row } from './table.js';

/** Rows of one call of the host. */
const CHANGES = 2000;
const RETRY_MS = 1000;
/** Some 300 bytes an entry in the process of the plugin. */
const MAX_ENTRIES = 1_500_000;

export class SnapshotNetwork extends Network {
  /** Set while varpd has a snapshot of this table, which changes are sent to. */
  #isInForce = false;
  #flushing: Promise<void> | undefined;
  #isFlushDue = false;
  /** Number of the present reading of the whole bucket; entries have the number of the last one that had them. */
  #reading = 0;
  #isReadingWhole = false;
  #bucket: Position = { created: '', revision: 0 };
  #lastRevision = 0;

  entryOf(mac: MacAddress, signal?: AbortSignal): Promise<Row | null> | Row | null {
    const row = this.table.row(mac);
    if (row !== undefined) return row;
    return this.isCurrent || !this.feed.isConnected ? this.#absent() : this.#ask(mac, signal);
  }

  ownerOf(ip: IpAddress): MacAddress | null {
    return this.table.ownerOf(ip) ?? this.#absent();
  }

  /** Once there is a table, nothing else exists. */
  #absent(): null {
    if (this.position() === undefined) throw new Error('the bucket has not been read yet');
    return null;
  }

  async #ask(mac: MacAddress, signal?: AbortSignal): Promise<Row | null> {
    const key = macKey(mac);
    const record = await this.feed.get(key);
    signal?.throwIfAborted();
    const entry = record === null ? undefined : this.parse(key, record.value);
    // The reading under way may have brought a later one.
    if (entry !== undefined) this.table.set(mac, entry, record!.revision, this.#reading);
    return this.table.row(mac) ?? null;
  }

  vteps(): readonly Destination[] {
    return this.table.vteps();
  }

  protected peers(): string[] | undefined {
    return this.table.takePeers();
  }

  keyCount(): number {
    return this.table.size + this.otherKeys.size;
  }

  // -- The bucket

  begin(isSame: boolean, bucket: Position): number | undefined {
    const before = this.position();
    this.#bucket = bucket;
    this.#lastRevision = 0;
    this.#isReadingWhole = !isSame;
    if (isSame) return before!.revision + 1;
    this.#reading++;
    this.otherKeys.clear();
    this.acceptAll();
    if (before?.created !== bucket.created || before.revision > bucket.revision) this.table.forgetRevisions();
    return undefined;
  }

  record(key: string, value: Uint8Array | undefined, revision: number): void {
    this.#lastRevision = revision;
    this.#take(key, value, revision);
    if (this.#isReadingWhole) return;
    this.advance(revision);
    this.#flushLater();
  }

  #take(key: string, value: Uint8Array | undefined, revision: number): void {
    const mac = macOfKey(key);
    if (mac === undefined) {
      this.otherKeys.add(key);
      if (value === undefined) this.accept(key);
      else this.refuse(key, 'expected a key like mac.de-ad-be-ef-00-01, the MAC address of one station');
      return;
    }
    if (value === undefined) {
      this.table.delete(mac);
      this.otherKeys.add(key);
      this.accept(key);
      return;
    }
    if (this.table.confirm(mac, revision, this.#reading)) return;
    if (this.table.size >= MAX_ENTRIES && this.table.row(mac) === undefined) {
      this.otherKeys.add(key);
      this.refuse(key, `mode snapshot takes ${MAX_ENTRIES} entries; use nats/mode=lookup`);
      return;
    }
    const entry = this.parse(key, value);
    if (entry !== undefined) {
      this.table.set(mac, entry, revision, this.#reading);
      this.otherKeys.delete(key);
    } else if (!this.table.keep(mac, this.#reading)) this.otherKeys.add(key);
  }

  async caughtUp(_session: Session, hasNews: boolean): Promise<void> {
    if (this.#isReadingWhole) {
      const gone: MacAddress[] = [];
      await inSlices(this.table.unseen(this.#reading), (mac) => gone.push(mac));
      await inSlices(gone, (mac) => this.table.delete(mac));
      this.#isReadingWhole = false;
    }
    const revision = Math.max(this.#bucket.revision, this.#lastRevision);
    this.moveTo({ created: this.#bucket.created, revision });
    await this.#flush();
    this.settle();
    this.tellCurrent();
    const text = `bucket ${this.options.bucket}: ${this.count()} at revision ${revision}`;
    if (hasNews) this.host.log.info(text);
    this.host.remark(`${text}, at ${new Date().toISOString().replace(/\.\d+/, '')}`);
  }

  // -- To varpd

  protected async putInForce(revision: number): Promise<void> {
    await this.host.replaceAll({ ...this.table.takeAll(), revision: String(revision) });
    this.#isInForce = true;
  }

  /** Sends the changes that have come in one turn together. */
  #flushLater(): void {
    if (!this.#isInForce) return;
    this.settleLater();
    if (this.#isFlushDue) return;
    this.#isFlushDue = true;
    setImmediate(() => {
      this.#isFlushDue = false;
      this.#flush().catch(() => undefined);
    });
  }

  #flush(): Promise<void> {
    this.#flushing ??= this.#send().finally(() => {
      this.#flushing = undefined;
    });
    return this.#flushing;
  }

  async #send(): Promise<void> {
    try {
      if (!this.#isInForce) await this.putInForce(this.position()!.revision);
      while (this.table.hasChanges && !this.host.signal.aborted) {
        const revision = String(this.position()!.revision);
        await this.host.changeSnapshot({ ...this.table.takeChanges(CHANGES), revision });
      }
    } catch (error) {
      if (this.host.signal.aborted) return;
      // varpd has what it had before. It gets everything again, since some changes are lost.
      this.#isInForce = false;
      this.host.log.error(`varpd has refused a change of the snapshot: ${(error as Error).message}`);
      setTimeout(() => {
        if (!this.host.signal.aborted) this.#flush().catch(() => undefined);
      }, RETRY_MS);
      throw error;
    }
  }
}
