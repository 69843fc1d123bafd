/**
 * The messages between varpd and a plugin process, and between varpd and the spawner: one JSON value a line. Everything
 * in them is plain data. Instance 0 is the plugin itself.
 */

/** An error as plain data. */
export interface PlainError {
  readonly name: string;
  readonly message: string;
  readonly code?: string;
  /** The stack of a SyntaxError: its first lines have the place. */
  readonly stack?: string;
  readonly cause?: PlainError;
}

export interface LoadOrder {
  /** The entry file, an absolute path. */
  readonly file: string;
  /** The plugin is described, and makes no instance: it gets no state directory. */
  readonly isTrial?: boolean;
  /** The name that its process was started with (Opening). A plugin of another name gets no state directory. */
  readonly state?: string | null;
}

/** The default export of a plugin. */
export interface Description {
  /** Its plain members. A function is the text of FUNCTION. Undefined = the file has no default export. */
  readonly plugin: unknown;
  /** Line of the default export in the entry file, counted from 1; 0 = it was not found. */
  readonly line: number;
  readonly stateDir: string;
}

export const FUNCTION = '[function]';

/** A name of a plugin, and so of its state directory: 31 characters, as illumos has it. */
export const PLUGIN_NAME = /^[a-z][a-z0-9_-]{0,30}$/i;

/** The facts of an overlay that its instance gets. */
export interface HostFacts {
  readonly overlay: string;
  readonly vnetid: number;
  readonly listen: { readonly ip: string; readonly port: number };
}

export type CallId = number;
export type InstanceId = number;

export type ToPlugin =
  | readonly ['load', LoadOrder]
  /** A call with a result. `start` makes the instance, and its result is the list of the instance's methods. */
  | readonly ['call', CallId, InstanceId, method: string, args: readonly unknown[]]
  | readonly ['abort', CallId]
  /** A call without a result. */
  | readonly ['tell', InstanceId, method: string, args: readonly unknown[]]
  /** The result of an `ask`. */
  | readonly ['done', CallId, unknown?]
  | readonly ['failed', CallId, PlainError]
  | readonly ['ping', number];

export type FromPlugin =
  | readonly ['loaded', Description]
  | readonly ['unloadable', PlainError]
  /** The result of a `call`. */
  | readonly ['done', CallId, unknown?]
  | readonly ['failed', CallId, PlainError]
  /** A call of a Host method without a result, and one with a result. */
  | readonly ['tell', InstanceId, method: string, args: readonly unknown[]]
  | readonly ['ask', CallId, InstanceId, method: string, args: readonly unknown[]]
  /** A part of a long list (`rowsLine`). The parts belong to the next `tell` or `ask` of this instance, which has `true`, or
   * the names of its lists, as arguments. */
  | readonly ['rows', InstanceId, list: string, rows: readonly unknown[]]
  /** The parts since the last call are of no use: an invalid row has followed. */
  | readonly ['discard', InstanceId]
  /** An error that no call has returned. Null = it belongs to no instance. */
  | readonly ['uncaught', InstanceId | null, PlainError]
  | readonly ['pong', number];

/**
 * Longest line from a plugin process. JSON.parse of such a line takes some 2 ms. The plugin's side cuts lists into parts
 * of a quarter of it, so a longer line is no message of its own.
 */
export const MAX_LINE_CHARACTERS = 256 * 1024;
/** Bytes of such a line: UTF-8 has three at most for each of the characters that JavaScript counts. */
export const MAX_LINE_BYTES = 3 * MAX_LINE_CHARACTERS;

/** The line of a `rows`. `rows` are JSON texts, joined by commas. */
export function rowsLine(instance: InstanceId, list: string, rows: string): string {
  return `["rows",${instance},${JSON.stringify(list)},[${rows}]]`;
}

/** A `rows` with a list that is not parsed yet. */
export interface RowsLine {
  readonly instance: InstanceId;
  readonly list: string;
  /** The list as JSON. */
  readonly rows: Buffer;
}

const ROWS_HEAD = /^\["rows",(\d{1,15}),"([A-Za-z]{1,30})",(?=\[)/;
const ROWS_HEAD_CHARACTERS = 70;
/** The character behind `["` of a `rows`, and of no other message. */
const R = 0x72;

/** Returns undefined for any other message, and for what is none. */
export function readRowsLine(line: Buffer): RowsLine | undefined {
  if (line[2] !== R) return undefined;
  const head = ROWS_HEAD.exec(line.toString('latin1', 0, ROWS_HEAD_CHARACTERS));
  if (head === null) return undefined;
  return { instance: Number(head[1]), list: head[2], rows: line.subarray(head[0].length, -1) };
}
/** Longest text that is sent for a person to read. */
export const MAX_TEXT_CHARACTERS = 4096;

/** The first line of a connection to the spawner. */
export type Opening =
  | { readonly kind: 'control' }
  | {
      readonly kind: 'start';
      readonly session: number;
      readonly process: number;
      /** Name of the state directory that the process may use; null = none. Absent: the varpd is older than Landlock here,
       * and its process is not confined. */
      readonly state?: string | null;
    };

/** On the control connection. */
export type ToSpawner =
  | { readonly kind: 'kill'; readonly process: number }
  /** Ends all processes of this session, and the spawner if no other session is open. */
  | { readonly kind: 'end' };

/** How plugin processes are confined. */
export interface Confinement {
  /** Version of the kernel's Landlock (its ABI) that confines them; 0 = none does. */
  readonly landlock: number;
  /** The part of it that is missing, with the reason; null = nothing is. */
  readonly lack: string | null;
}

/** Use of the host by a plugin process. */
export interface Usage {
  /** Resident memory in KiB, children of the plugin included. */
  readonly kib: number;
  /** Milliseconds since its start in which it could have run, and had no processor. */
  readonly waitedMs: number;
}

export type FromSpawner =
  | {
      readonly kind: 'session';
      readonly session: number;
      readonly pid: number;
      readonly uid: number;
      /** Absent: the spawner is older than this. */
      readonly confinement?: Confinement;
    }
  | { readonly kind: 'started'; readonly process: number; readonly pid: number }
  | { readonly kind: 'failed'; readonly process: number; readonly message: string }
  /** A line that the plugin has printed. */
  | { readonly kind: 'printed'; readonly process: number; readonly isError: boolean; readonly line: string }
  | ({ readonly kind: 'usage'; readonly process: number } & Usage)
  | {
      readonly kind: 'ended';
      readonly process: number;
      readonly code: number | null;
      readonly signal: string | null;
      /** The process ran out of its JavaScript heap. */
      readonly isHeapFull: boolean;
    };
