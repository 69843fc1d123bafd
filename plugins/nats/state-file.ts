/** The last known state of a bucket, on disk: a header, one line for each entry, and one for each other key. */
import { type IpAddress, StateFile, StateFormat, type StateHeader } from '../../src/plugin/index.js';
import type { Position } from './feed.js';
import { ipsOf, type Table } from './table.js';

const FORMAT = new StateFormat('varpd-nats-state', 1);

interface Header extends Position, StateHeader {}

/** mac, ip, UDP port, DHCP server or 0, revision, addresses */
type RowLine = [number, string, number, number, number, ...string[]];

export interface Saved extends Position {
  readonly savedAt: string;
  /** Keys without an entry: deleted, or refused. */
  readonly otherKeys: Set<string>;
}

export class BucketState {
  readonly #file: StateFile;
  #source: string;

  /** `source` names servers and bucket; a file of another source is not read. */
  constructor(file: string, source: string) {
    this.#file = new StateFile(file);
    this.#source = source;
  }

  /** The file that is written next is of this source. */
  moveTo(source: string): void {
    this.#source = source;
  }

  /** Fills the table. Returns undefined when there is no file. Rejects when it is invalid. */
  async read(table: Table, signal: AbortSignal): Promise<Saved | undefined> {
    const otherKeys = new Set<string>();
    let saved: Header | undefined;
    const isWhole = await this.#file.read(
      (line) => {
        // This program has written what it reads, though perhaps another version of it.
        saved = line as Header;
        return FORMAT.isOf(saved, this.#source);
      },
      (line) => {
        if (typeof line === 'string') otherKeys.add(line);
        else setRow(table, line as RowLine);
      },
      signal,
    );
    if (!isWhole || saved === undefined) return undefined;
    const { created, revision, savedAt } = saved;
    return { created, revision, savedAt, otherKeys };
  }

  /** Rejects when the file cannot be written; the file before stays. */
  write(table: Table, position: Position, otherKeys: ReadonlySet<string>): Promise<void> {
    return this.#file.write(linesOf({ ...FORMAT.header(this.#source), ...position }, table, otherKeys));
  }
}

function* linesOf(header: Header, table: Table, otherKeys: ReadonlySet<string>): Generator {
  yield header;
  for (const [mac, row] of table.rows())
    yield [mac, row.to.ip, row.to.port, row.server, row.revision, ...ipsOf(row)] satisfies RowLine;
  yield* otherKeys;
}

function setRow(table: Table, [mac, ip, port, server, revision, ...ips]: RowLine): void {
  const to = { ip: ip as IpAddress, port };
  const dhcp = server === 0 ? {} : { dhcpServer: server };
  table.set(mac, { to, arp: ips as IpAddress[], ndp: [], ...dhcp }, revision, 0);
}
