/**
 * Everything that dladm writes to standard error: lines for people, or with --json one JSON object a line. Standard
 * output has the results alone, so a program that reads it never takes an error for one (docs/overlays.md).
 *
 * Nothing here throws, whatever the texts contain.
 */
import { ConnectionError } from '../control/client.js';
import { errorStack, errorText } from '../model/errors.js';
import { exitOf } from './reasons.js';
import { CommandError } from './command.js';
import { withQuotations } from './quotation.js';
import { formatJsonLine } from './show.js';
import { printable } from './text.js';

/** Version of the shape of the lines (docs/overlays.md). */
const SHAPE = 1;

/** An error in the output. */
interface ErrorRow {
  readonly reason: string;
  readonly status: number;
  readonly message: string;
  readonly details: readonly string[];
  readonly hint: string | null;
}

export class Complaints {
  readonly #write: (text: string) => void;
  readonly #isJson: boolean;

  constructor(write: (text: string) => void, isJson: boolean) {
    this.#write = write;
    this.#isJson = isJson;
  }

  warn(text: string): void {
    if (this.#isJson) this.#write(formatJsonLine({ v: SHAPE, warning: { message: text } }));
    else this.#line(text);
  }

  /** `usage`: lines for people; the first stands in for a hint of JSON. Returns the exit status. */
  error(error: CommandError | ConnectionError, usage?: string): number {
    const row = rowOf(error);
    if (this.#isJson) this.#row({ ...row, hint: row.hint ?? usage?.split('\n')[0] ?? null });
    else {
      for (const line of [...row.details, error.message]) this.#line(line);
      if (usage !== undefined) this.#write(usage);
    }
    return row.status;
  }

  /** A defect. Returns the exit status; undefined where the caller must throw the error, so that Node shows all of it. */
  defect(error: unknown): number | undefined {
    if (!this.#isJson) return undefined;
    const [message, details] = [errorText(error), errorStack(error).split('\n')];
    const status = exitOf('INTERNAL');
    this.#row({ reason: 'INTERNAL', status, message, details, hint: null });
    return status;
  }

  #row(error: ErrorRow): void {
    this.#write(formatJsonLine({ v: SHAPE, error }));
  }

  #line(text: string): void {
    this.#write(`dladm: ${printable(withQuotations(text))}\n`);
  }
}

function rowOf(error: CommandError | ConnectionError): ErrorRow {
  const { problem: message, hint } = error;
  if (error instanceof ConnectionError)
    return { reason: error.code, status: exitOf(error.code), message, details: [], hint };
  const { reason, status, details } = error;
  return { reason, status, message, details, hint };
}
