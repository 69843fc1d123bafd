/** The last known state of a network, on disk: a header with its revision, and one line for each entry. */
import path from 'node:path';
import {
  type Host,
  type IpAddress,
  StateFile,
  StateFormat,
  type StateHeader,
} from '../../src/plugin/index.js';
import { listOf, Table } from './table.js';

const FORMAT = new StateFormat('varpd-http-state', 1);

interface Header extends StateHeader {
  readonly revision: string;
}

/** mac, ip, UDP port, DHCP server or 0, addresses */
type RowLine = [number, string, number, number, ...string[]];

export interface Saved {
  readonly table: Table;
  readonly revision: string;
  readonly savedAt: string;
}

export class NetworkState {
  readonly #file: StateFile;

  constructor(host: Host) {
    this.#file = new StateFile(
      path.join(host.stateDir, `${encodeURIComponent(host.overlay)}.snapshot.state`),
    );
  }

  /** `source` names the store and the network. Calls `begun` when there is one of this source. Resolves to undefined when there is none. Rejects when the file is not
   * valid. */
  async read(source: string, begun: () => void, signal: AbortSignal): Promise<Saved | undefined> {
    const table = new Table();
    let saved: Header | undefined;
    const isWhole = await this.#file.read(
      (line) => {
        // This program has written what it reads, though perhaps another version of it.
        const header = line as Header;
        if (!FORMAT.isOf(header, source)) return false;
        saved = header;
        begun();
        return true;
      },
      (line) => {
        const [mac, ip, port, server, ...ips] = line as RowLine;
        const list = ips as IpAddress[];
        const dhcpServer = server === 0 ? undefined : server;
        table.keep(mac, { to: { ip, port }, ips: list.length === 1 ? list[0] : list, dhcpServer });
      },
      signal,
    );
    if (!isWhole || saved === undefined) return undefined;
    return { table, revision: saved.revision, savedAt: saved.savedAt };
  }

  /** Rejects when the file cannot be written; the file before stays. */
  write(table: Table, source: string, revision: string): Promise<void> {
    return this.#file.write(linesOf({ ...FORMAT.header(source), revision }, table));
  }
}

function* linesOf(header: Header, table: Table): Generator {
  yield header;
  for (const [mac, row] of table.rows())
    yield [mac, row.to.ip, row.to.port, row.dhcpServer ?? 0, ...listOf(row)] satisfies RowLine;
}
